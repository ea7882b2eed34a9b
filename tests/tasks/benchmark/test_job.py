"""What an earlier call has left is taken up, or moved aside; nothing is appended to what cannot be read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from records import plan
from records.samples import read_samples
from records.settings import ModelPair
from tasks.benchmark.job import Job, TakenUp, take_up
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
    lines = wanted.samples.read_bytes().splitlines(keepends=True)
    wanted.samples.write_bytes(b"".join(lines[:-1]))
    taken, last = take_up(wanted, 3), read_samples(wanted.samples)[0][-1]
    assert taken.whole == {(arm, run) for arm in wanted.arms for run in (1, 2)} - {(last.arm, last.run)}
    assert [(s.warmup, s.request) for s in taken.begun[last.arm, last.run]] == [(True, 0), (False, 1), (False, 2)]
    assert wanted.samples.exists()


def test_a_finished_schedule_is_moved_aside(tmp_path: Path) -> None:
    """Typed once more, it begins anew; what was measured lies in the archive."""
    write_campaign(tmp_path, runs=2)
    wanted = job(tmp_path, 2)
    assert take_up(wanted, 3) == TakenUp()
    assert not wanted.samples.exists()
    assert len(list((tmp_path / "archive").glob(f"*/{STEP.samples_name}"))) == 1


def test_samples_of_another_schema_are_moved_aside(tmp_path: Path) -> None:
    """A later version's samples cannot be read: new ones are never appended to them."""
    write_campaign(tmp_path, runs=2)
    wanted = job(tmp_path, 3)
    wanted.samples.write_text(wanted.samples.read_text().replace('"schema":1', '"schema":99'))
    assert read_samples(wanted.samples)[0] == []
    assert take_up(wanted, 3) == TakenUp()
    assert not wanted.samples.exists()
    assert len(list((tmp_path / "archive").glob(f"*/{STEP.samples_name}"))) == 1


def test_taking_up_needs_memory_for_the_runs_under_way_alone(tmp_path: Path) -> None:
    """Of a file of half a megabyte a tenth is never in memory: whole runs are counted and let go."""
    write_campaign(tmp_path, runs=60)
    wanted = job(tmp_path, 61)
    tracemalloc.start()
    taken = take_up(wanted, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(taken.whole) == 180
    assert wanted.samples.stat().st_size > 500_000
    assert peak < wanted.samples.stat().st_size / 10
