"""Records and samples on disk: whole or not at all, append-only, readable after any crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import msgspec
import pytest

from records.facts import Skipped
from records.files import append_line, write_whole
from records.plan import STEPS, step_named, step_numbered
from records.record import (
    Command,
    Record,
    RecordUnreadableError,
    capped,
    decoded_result,
    read_record,
    write_record,
)
from records.samples import Sample, append_sample, read_samples
from tests import PROJECT


def record(step: int, status: str = "ok", **more: object) -> Record:
    """Return a small record of one step."""
    return msgspec.convert(
        {
            "schema": 2, "step": step, "name": step_numbered(step).name, "status": status, "summary": "s",
            "profile": "p", "started_utc": "2026-01-01T00:00:00+00:00", "elapsed_s": 1.0, "tool_version": "0",
        }
        | more,
        Record,
    )  # fmt: skip


def sample(**more: object) -> bytes:
    """Return the line of a small sample."""
    return msgspec.json.encode(
        {
            "schema": 1, "arm": "exo", "side": "exo", "run": 1, "request": 1, "warmup": False, "model_asked": "m",
            "model_answered": "m", "output_tokens": 8, "token_source": "frames", "first_token_s": 0.1,
            "last_token_s": 0.4, "total_s": 0.5, "error": None,
        }
        | more
    )  # fmt: skip


def test_the_plan_has_fifteen_steps_in_order() -> None:
    """Numbers run from 1 to 15 and every step is found by name and by number."""
    assert [step.number for step in STEPS] == list(range(1, 16))
    assert all(step_named(step.name) is step and step_numbered(step.number) is step for step in STEPS)


def test_record_round_trip_and_schema(tmp_path: Path) -> None:
    """A record comes back as it was written, under its step's name, and fits the published schema."""
    written = record(3, commands=[{"host": "srv1", "command": "true", "exit_code": 0, "elapsed_s": 0.1}])
    path = write_record(tmp_path, written)
    assert path.name == "03-install-srv2.json"
    assert read_record(path) == written
    schema = json.loads((PROJECT / "schemas" / "record.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(path.read_bytes()), schema)


def test_rerun_replaces_the_record(tmp_path: Path) -> None:
    """One step has one record: the newer one, and no stray file beside it."""
    write_record(tmp_path, record(1, "failed"))
    write_record(tmp_path, record(1))
    assert read_record(tmp_path / "01-verify-python.json").status == "ok"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe"])
def test_unreadable_record_is_told(tmp_path: Path, content: bytes) -> None:
    """A file that is no record raises one error that says why."""
    path = tmp_path / "01-verify-python.json"
    path.write_bytes(content)
    with pytest.raises(RecordUnreadableError, match=r"JSON|Expected|truncated"):
        read_record(path)


def test_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    """A record of a later schema is not misread."""
    write_record(tmp_path, record(1, schema=3))
    with pytest.raises(RecordUnreadableError, match="schema 3, this version reads 1 and 2"):
        read_record(tmp_path / "01-verify-python.json")


def test_result_comes_back_as_its_struct() -> None:
    """A result is read as the struct of its step; another one's, or none of a step that is done, is unreadable."""
    assert decoded_result(record(13, "skipped", result={"reason": "r"})) == Skipped("r")
    assert decoded_result(record(13, "failed")) is None
    for made in (
        record(13, "ok", result={"reason": "r"}),
        record(13, "skipped", result={"other": 1}),
        record(13, "ok"),
    ):
        with pytest.raises(RecordUnreadableError, match="result: "):
            decoded_result(made)


def test_long_output_is_capped() -> None:
    """The middle of a long output is cut and the cut is said; a short one is left alone."""
    assert capped("short") == "short"
    long = capped("a" * 5000 + "b" * 5000, 100)
    assert len(long) < 200
    assert "characters cut" in long
    assert long.startswith("a" * 50)
    assert long.endswith("b" * 50)
    assert Command("h", "c", None, 0.0).stdout == ""


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Where a file cannot be written, the old one stays whole and no half file lies beside it."""
    path = tmp_path / "record.json"
    write_whole(path, b"old")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); import signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nfrom pathlib import Path\n"
        "from records.files import write_whole\n"
        "try: write_whole(Path(sys.argv[1]), b'x' * 4096)\nexcept OSError as error: print('refused', error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    """SIGKILL at random instants: the record is always whole, the samples lose at most the last line."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, '.')\n"
        "from tests.records.test_files import record, sample\nfrom records.record import write_record\n"
        "from records.samples import append_sample\nfolder = Path(sys.argv[1]); n = 0\n"
        "while True:\n n += 1; write_record(folder, record(1, summary='x' * 20000))\n"
        " append_sample(folder / 's.jsonl', sample(request=n)); print(n, flush=True)\n"
    )
    for delay_s in (0.05, 0.11, 0.17):
        with subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(delay_s)
            os.kill(writer.pid, signal.SIGKILL)
            said = [1, *(int(line) for line in writer.stdout.read().split())]
        assert len(read_record(tmp_path / "01-verify-python.json").summary) == 20000
        samples, _ = read_samples(tmp_path / "s.jsonl")
        assert {s.request for s in samples} >= set(said)
        (tmp_path / "s.jsonl").unlink()


def test_torn_line_is_skipped_and_closed(tmp_path: Path) -> None:
    """A line that a crash tore off is named, and the next append does not glue itself to it."""
    path = tmp_path / "s.jsonl"
    append_sample(path, sample(request=1))
    with path.open("ab") as file:
        file.write(sample(request=2)[:40])
    append_sample(path, sample(request=3))
    samples, torn = read_samples(path)
    assert [s.request for s in samples] == [1, 3]
    assert [t.line for t in torn] == [2]


def test_line_that_is_no_sample_is_refused(tmp_path: Path) -> None:
    """What is not a sample never reaches the file."""
    path = tmp_path / "s.jsonl"
    for line in (b"hello", b"{}", sample(run="one")):
        with pytest.raises(msgspec.DecodeError):
            append_sample(path, line)
    assert not path.exists()


def test_append_makes_the_folder_and_keeps_order(tmp_path: Path) -> None:
    """Appending needs no preparation and keeps the order of the lines."""
    path = tmp_path / "a" / "b.jsonl"
    for number in range(5):
        append_line(path, str(number).encode())
    assert path.read_text(encoding="utf-8").split() == list("01234")


def test_sample_schema_matches_the_struct() -> None:
    """A sample fits the published schema."""
    schema = json.loads((PROJECT / "schemas" / "sample.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(sample()), schema)
    assert msgspec.json.decode(sample(), type=Sample).request == 1
