"""What is to be measured, and what of it an interrupted call has left behind.

A schedule that was interrupted is taken up at the first request that is missing; one that had finished is moved to
`archive/` and never overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from records.archive import archive
from records.plan import PlanStep
from records.samples import Sample, read_samples
from records.settings import ModelPair
from tasks import console
from tasks.inventory import campaign_id
from tasks.machines.lab import Lab


class Job(msgspec.Struct, frozen=True):
    """What is to be measured: the plan's step that asks, the pair, the arms, how many runs of each."""

    step: PlanStep
    pair: ModelPair
    arms: tuple[str, ...]
    runs: int
    samples: Path
    conditions: Path
    label: str
    """Identity of the campaign in every sample; another setting gives another label."""
    planned: int
    """Runs of each arm that the schedule is drawn for; `runs` of them are measured now (looks: 6, 12 or 18 of 18)."""


def job_for(
    lab: Lab, step: PlanStep, pair: ModelPair, arms: Iterable[str], runs: int, planned: int | None = None
) -> Job:
    """Return the job of one plan step, with its files and its label."""
    named = tuple(arms)
    how_many = f"{runs}" if planned is None else f"until-{planned}"
    label = f"{campaign_id(lab.inventory)}-{step.number}-{pair.exo}-{'+'.join(named)}-{how_many}"
    files = (lab.logs / step.samples_name, lab.logs / step.conditions_name)
    return Job(step, pair, named, runs, *files, label, planned or runs)


def planned_runs(label: str) -> int | None:
    """Return the runs of each arm that the schedule of a label was drawn for; None where `job_for` made no such."""
    count = label.rpartition("-")[2]
    return int(count) if count.isdecimal() else None


def take_up(job: Job, requests: int) -> dict[tuple[str, int], list[Sample]]:
    """Return what an interrupted call of this very job measured, by (arm, run), warm-ups and failures included.

    A run is whole with `requests` timed ones. Samples of another job, or of this one when it is complete, are moved
    to the archive first. A request that failed is finished all the same: doing it again until it succeeds would hide
    how often it fails.
    """
    samples, torn = read_samples(job.samples)
    if not samples:
        if torn:  # another version's: nothing may be appended to what this one cannot read
            archive_job(job)
        return {}
    done: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        if sample.campaign == job.label:
            done.setdefault((sample.arm, sample.run), []).append(sample)
    runs = [(arm, run) for arm in job.arms for run in range(1, job.runs + 1)]
    complete = job.runs == job.planned and all(timed_count(done.get(turn, [])) >= requests for turn in runs)
    if complete or any(s.campaign != job.label for s in samples):
        archive_job(job)
        return {}
    console.note("", f"taking up an interrupted campaign: {len(samples)} requests are there already")
    return done


def timed_count(samples: Sequence[Sample]) -> int:
    """Return how many of `samples` are no warm-ups."""
    return sum(not sample.warmup for sample in samples)


def archive_job(job: Job) -> None:
    """Move everything a job has measured, and its step's record, to the archive."""
    logs = job.samples.parent
    archive(logs, [job.samples, job.conditions, logs / job.step.record_name])
