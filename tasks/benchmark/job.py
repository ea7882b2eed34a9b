"""What is to be measured, and what of it an interrupted call has left behind.

A schedule that was interrupted is taken up at the first request that is missing. What is there under other settings
is never touched unless `--fresh` says so, and then it moves to `archive/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from records.archive import archive, archive_campaign
from records.facts import Benchmark
from records.plan import PlanStep
from records.record import Record, RecordUnreadableError, decoded_result, read_record
from records.samples import Sample, read_samples
from records.settings import ModelPair
from tasks import console
from tasks.errors import NothingDoneError
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


def finished(job: Job) -> Record | None:
    """Return the record of this very job where it has come to its end.

    Raises NothingDoneError where something lies there that was measured under other settings.
    """
    samples, _ = read_samples(job.samples)
    others = [sample.campaign for sample in samples if sample.campaign != job.label]
    if others:
        raise _refused(job, others[0], len(samples))
    try:
        record = read_record(job.samples.parent / job.step.record_name)
        done = record.status in ("ok", "already") and isinstance(decoded_result(record), Benchmark)
    except (FileNotFoundError, RecordUnreadableError):
        return None
    return record if samples and done else None


def begin_anew(lab: Lab, steps: Sequence[PlanStep]) -> None:
    """Move what `steps` have measured to the archive, and say so before."""
    if any((lab.logs / step.samples_name).exists() for step in steps):
        names = ", ".join(step.name for step in steps if (lab.logs / step.samples_name).exists())
        console.text(f"--fresh: what {names} measured moves to the archive, with a copy of the other records")
    if folder := archive_campaign(lab.logs, steps):
        console.text(f"    it lies in {folder}; back with: fab history --restore {folder.name}")


def take_up(job: Job, requests: int) -> dict[tuple[str, int], list[Sample]]:
    """Return what this very job has measured so far, by (arm, run), warm-ups and failures included.

    A run is whole with `requests` timed ones. A request that failed is finished all the same: doing it again until it
    succeeds would hide how often it fails. Raises NothingDoneError for samples of another job.
    """
    samples, torn = read_samples(job.samples)
    if not samples:
        if torn:  # another version's: nothing may be appended to what this one cannot read
            archive(job.samples.parent, [job.samples, job.conditions])
        return {}
    done: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        if sample.campaign != job.label:
            raise _refused(job, sample.campaign, len(samples))
        done.setdefault((sample.arm, sample.run), []).append(sample)
    runs = [(arm, run) for arm in job.arms for run in range(1, job.runs + 1)]
    if any(timed_count(done.get(turn, [])) < requests for turn in runs):
        console.note("", f"taking up an interrupted campaign: {len(samples)} requests are there already")
    return done


def timed_count(samples: Sequence[Sample]) -> int:
    """Return how many of `samples` are no warm-ups."""
    return sum(not sample.warmup for sample in samples)


def _refused(job: Job, there: str, count: int) -> NothingDoneError:
    """Return the error that says that a job would put aside what somebody has measured."""
    identity = len(job.label.partition("-")[0]) if not job.label.startswith("control") else 0
    if there[:identity] != job.label[:identity]:
        why = "under another hosts.yaml (nodes, models, EXO, bench or decision were changed since)"
    else:
        why = f"with other options: `{there[identity:].strip('-')}`, asked for now `{job.label[identity:].strip('-')}`"
    return NothingDoneError(
        f"{count} requests lie in {job.samples}, measured {why}",
        "the settings and options they were measured with, or your word that they may be put aside",
        "type it as before (fab history shows what is there), or begin anew: the same command with --fresh, which moves"
        f" them to {job.samples.parent / 'archive'}",
        who=job.step.name,
    )
