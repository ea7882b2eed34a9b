"""Interrupted at any point, the benchmark script goes on where it stopped: nothing lost, repeated or mixed."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from records.samples import read_samples
from scripts import benchmark_exo_vs_ollama as script
from tests.support.script_process import lines, run, start
from tests.support.script_server import Engine, running


def test_killed_at_any_instant_and_resumed_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    """After SIGKILL at random instants every timed request ends up in the file exactly once; what it had, it keeps."""
    out = tmp_path / "s.jsonl"
    chance = random.Random(3)
    with running(Engine(tokens=3, gap_s=0.01)) as one, running(Engine(tokens=3, gap_s=0.01)) as two:
        call = ["--model", "m", "--runs", "2", "--requests", "3", "--ollama", f"a={one.url}", "--exo", f"exo={two.url}",
                "--samples", str(out), "--resume"]  # fmt: skip
        before = b""
        for _ in range(6):
            child = start(*call)
            time.sleep(0.12 + chance.random() * 0.3)
            child.kill()
            child.communicate()
            after = out.read_bytes() if out.exists() else b""
            assert after.startswith(before)
            before = after
        with out.open("ab") as stream:
            stream.write(b'{"schema": 1, "arm": "a", "ru')  # as a crash of the whole machine may leave it
        done = run(*call)
        again = run(*call)
    assert done.returncode == again.returncode == 0
    assert out.read_bytes().startswith(before)
    samples, torn = read_samples(out)
    assert len(torn) == 1
    keys = [(s.arm, s.run, s.request) for s in samples]
    assert len(keys) == len(set(keys))
    timed = {(s.arm, s.run, s.request) for s in samples if not s.warmup}
    assert timed == {(arm, run_, request) for arm in ("a", "exo") for run_ in (1, 2) for request in (1, 2, 3)}


def test_half_a_run_is_continued_after_a_new_load_and_warm_up() -> None:
    """`--skip-requests` names all numbers of a run: its timed ones are left out, new warm-ups take free ones."""
    with running(Engine()) as engine:
        call = ["--model", "m", "--ollama", f"a={engine.url}", "--only", "a:1", "--warmup", "1", "--samples", "-"]
        done = run(*call, "--skip-requests", "0,1,2")
        assert [(s.request, s.warmup) for s in lines(done.stdout)] == [(4, True), (3, False)]
        assert "loaded afresh" in done.stderr
        asked = len(engine.log)
        done = run(*call, "--skip-requests", "0,1,2,4,3")
        assert (done.stdout, done.returncode, len(engine.log)) == ("", 0, asked)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (set(), ([0, 1], [2, 3, 4])),
        ({0}, ([5, 6], [2, 3, 4])),
        ({0, 1, 2}, ([5, 6], [3, 4])),
        ({0, 1, 2, 5}, ([6, 7], [3, 4])),
        ({2, 3}, ([5, 6], [4])),
        ({2, 3, 4}, ([], [])),
        ({0, 1, 2, 3, 4, 5, 6}, ([], [])),
    ],
)
def test_missing_requests_of_a_run(numbers: set[int], expected: tuple[list[int], list[int]]) -> None:
    """Timed numbers are fixed; the warm-ups of a second attempt never take a number that was used."""
    settings = script.Settings(1, 3, 2, 8, 0, 1.0, "", (), False)
    assert script.missing_requests(settings, numbers) == expected


def test_samples_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    """A file is neither written twice without --resume nor continued with another model, length, prompt or campaign."""
    out = tmp_path / "s.jsonl"
    with running(Engine()) as engine:
        call = ["--model", "m", "--runs", "1", "--exo", f"exo={engine.url}", "--samples", str(out)]
        assert run(*call).returncode == 0
        kept = out.read_bytes()
        for more in ("", "--exo-model x", "--max-tokens 5", "--seed 1", "--campaign b"):
            done = run(*call, *(["--resume", *more.split()] if more else []))
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1 and "name another file" in done.stderr
        assert out.read_bytes() == kept


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_it_with_the_samples_kept(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM leave whole lines and the usual exit code."""
    out = tmp_path / "s.jsonl"
    with running(Engine(tokens=20, gap_s=0.01)) as engine:
        child = start("--model", "m", "--runs", "50", "--exo", f"exo={engine.url}", "--samples", str(out))
        deadline = time.monotonic() + 20
        while not (out.exists() and out.read_bytes().count(b"\n") >= 2) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(number)
        _, errors = child.communicate(timeout=20)
    samples, torn = read_samples(out)
    assert child.returncode == code
    assert len(samples) >= 2 and not torn
    assert "Traceback" not in errors and "kept" in errors


def test_reader_that_goes_away_is_no_traceback() -> None:
    """When whoever reads the samples closes the pipe (a cut SSH link), the script ends quietly."""
    with running(Engine()) as engine:
        child = start("--model", "m", "--exo", f"exo={engine.url}", "--runs", "50", "--samples", "-")
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(timeout=30) == 141
        assert "Traceback" not in child.stderr.read()
        child.stderr.close()
