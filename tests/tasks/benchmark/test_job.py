"""What an earlier call has left is taken up or stays; nothing is appended to what cannot be read or is another's."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from records import plan
from records.samples import read_samples
from records.settings import ModelPair
from tasks.benchmark.job import Job, finished, take_up
from tasks.errors import NothingDoneError
from tests.support.full_campaign import write_campaign

STEP = plan.step_named("bench-comparison")
PAIR = ModelPair(exo="llama", ollama="llama:1b", exo_precision="fp16", ollama_precision="F16")


def job(logs: Path, runs: int) -> Job:
    """Return the job that measured the campaign in `logs`, with `runs` of each arm."""
    label = read_samples(logs / STEP.samples_name)[0][0].campaign
    files = (logs / STEP.samples_name, logs / STEP.conditions_name)
    arms = tuple({sample.arm: None for sample in read_samples(files[0])[0]})
    return Job(STEP, PAIR, arms, runs, *files, label, runs)


def test_an_interrupted_schedule_is_taken_up_where_it_stands(tmp_path: Path) -> None:
    """Two of three runs are there: they are handed back, and the file stays."""
    write_campaign(tmp_path, runs=2)
    wanted = job(tmp_path, 3)
    timed = {turn: len([s for s in samples if not s.warmup]) for turn, samples in take_up(wanted, 3).items()}
    assert timed == {(arm, run): 3 for arm in wanted.arms for run in (1, 2)}
    assert wanted.samples.exists()


def test_a_finished_schedule_stays(tmp_path: Path) -> None:
    """Typed once more, nothing is missing and nothing is moved; its record is known as that of this very job."""
    write_campaign(tmp_path, runs=2)
    wanted = job(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sum(map(len, take_up(wanted, 3).values())) == len(read_samples(wanted.samples)[0])
    record = finished(wanted)
    assert record is not None
    assert record.step == STEP.number
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / STEP.record_name).unlink()
    assert finished(wanted) is None


@pytest.mark.parametrize(
    ("label", "words"),
    [("another-12-llama-exo-3", "another hosts.yaml"), ("0123456789ab-12-llama-exo-99", "with other options")],
)
def test_what_was_measured_otherwise_is_never_put_aside_unasked(tmp_path: Path, label: str, words: str) -> None:
    """Another hosts.yaml, another number of runs: refused with --fresh as the way on, and every file stays."""
    write_campaign(tmp_path, runs=2)
    there = job(tmp_path, 2)
    samples = [
        msgspec.structs.replace(s, campaign="0123456789ab-12-llama-exo-2") for s in read_samples(there.samples)[0]
    ]
    there.samples.write_bytes(b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    wanted = msgspec.structs.replace(there, label=label)
    for ask in (lambda: take_up(wanted, 3), lambda: finished(wanted)):
        with pytest.raises(NothingDoneError, match=words) as refused:
            ask()
        assert "--fresh" in refused.value.problem.do
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_samples_of_another_schema_are_moved_aside(tmp_path: Path) -> None:
    """A later version's samples cannot be read: new ones are never appended to them."""
    write_campaign(tmp_path, runs=2)
    wanted = job(tmp_path, 3)
    wanted.samples.write_text(wanted.samples.read_text().replace('"schema":1', '"schema":99'))
    assert read_samples(wanted.samples)[0] == []
    assert take_up(wanted, 3) == {}
    assert not wanted.samples.exists()
    assert len(list((tmp_path / "archive").glob(f"*/{STEP.samples_name}"))) == 1
