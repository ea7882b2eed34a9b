"""What an earlier call has left is taken up or stays; nothing is appended to what cannot be read or is another's."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import msgspec
import pytest

from records import plan
from records.samples import Conditions, read_samples
from records.settings import ModelPair
from tasks.benchmark.job import Job, finished, take_up, timed_count, turn_of
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
    went_on, turns = take_up(wanted, 3)
    assert {key: (timed_count(turn.samples), turn.over) for key, turn in turns.items()} == {
        (arm, run): (3, True) for arm in wanted.arms for run in (1, 2)
    }
    assert went_on == wanted
    assert wanted.samples.exists()


def test_a_finished_schedule_stays(tmp_path: Path) -> None:
    """Typed once more, nothing is missing and nothing is moved; its record is known as that of this very job."""
    write_campaign(tmp_path, runs=2)
    wanted = job(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    went_on, turns = take_up(wanted, 3)
    assert went_on == wanted
    assert sum(len(turn.samples) for turn in turns.values()) == len(read_samples(wanted.samples)[0])
    assert all(turn.over for turn in turns.values())
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


def test_a_lost_run_is_measured_again_as_a_whole(tmp_path: Path) -> None:
    """A run with a failed request, and one that its conditions call lost, have nothing to go on with.

    A lost repeat that answered is over, one that never answered is not.
    """
    write_campaign(tmp_path, runs=2)
    samples = read_samples(tmp_path / STEP.samples_name)[0]
    arm = samples[0].arm
    notes = [Conditions(1, arm, 2, "", attempt=1, lost="rog: a neighbour")]

    def turn(run: int, notes: list[Conditions], *, attempt: int = 1, error: str | None = None) -> tuple[int, int, bool]:
        changed = [msgspec.structs.replace(s, attempt=attempt, error=s.error or error) for s in samples]
        of_run = turn_of(arm, run, changed, notes, 3)
        return of_run.attempts, timed_count(of_run.samples), of_run.over

    assert turn(1, notes) == (1, 3, True)
    assert turn(1, [], error="cut off") == (1, 0, False)
    assert turn(2, notes) == (1, 0, False)
    again = [*notes, Conditions(1, arm, 2, "", attempt=2, lost="rog: a neighbour")]
    assert turn(2, again, attempt=2) == (2, 0, True)
    assert turn(2, again, attempt=2, error="refused") == (2, 0, False)


def test_samples_of_another_schema_are_moved_aside(tmp_path: Path) -> None:
    """A later version's samples cannot be read: new ones are never appended to them."""
    write_campaign(tmp_path, runs=2)
    wanted = job(tmp_path, 3)
    wanted.samples.write_text(wanted.samples.read_text().replace('"schema":1', '"schema":99'))
    assert read_samples(wanted.samples)[0] == []
    assert take_up(wanted, 3)[1] == {}
    assert not wanted.samples.exists()
    assert len(list((tmp_path / "archive").glob(f"*/{STEP.samples_name}"))) == 1


def test_taking_up_keeps_no_frames_in_memory(tmp_path: Path) -> None:
    """Of samples of 300 tokens each less than the file holds is ever in memory, the structs included."""
    write_campaign(tmp_path, runs=30)
    wanted = job(tmp_path, 31)
    whole = [
        msgspec.structs.replace(s, frame_times_s=[0.01 * k for k in range(300)])
        for s in read_samples(wanted.samples)[0]
    ]
    wanted.samples.write_bytes(b"".join(msgspec.json.encode(sample) + b"\n" for sample in whole))
    take_up(wanted, 3)  # what is imported and made once
    tracemalloc.start()
    _, turns = take_up(wanted, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(turn.over for turn in turns.values()) == 90
    assert peak < wanted.samples.stat().st_size  # with the frames three times as much
