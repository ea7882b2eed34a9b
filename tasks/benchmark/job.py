"""What is to be measured, and what of it an interrupted call has left behind.

A schedule that was interrupted is taken up at the first request that is missing. What is there under other settings
is never touched unless `--fresh` says so, and then it moves to `archive/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from records.archive import archive, archive_campaign
from records.facts import Benchmark
from records.plan import PlanStep
from records.record import Record, RecordUnreadableError, decoded_result, read_record
from records.samples import Conditions, Sample, TornLine, each_sample, read_conditions
from records.settings import Bench, ModelPair
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
    return begun(Job(step, pair, named, runs, *files, label, planned or runs))


def planned_runs(label: str) -> int | None:
    """Return the runs of each arm that the schedule of a label was drawn for; None where `job_for` made no such."""
    count = label.rpartition("-")[2]
    return int(count) if count.isdecimal() else None


def usual_runs(bench: Bench, step: PlanStep) -> int:
    """Return how many runs of each arm a step measures where no option says it; step 13 as many as can decide."""
    from reports.stats.rounds import FEWEST_ROUNDS

    usual = {"bench-baseline": bench.baseline_runs, "bench-comparison": bench.runs}
    return usual.get(step.name, max(bench.baseline_runs, FEWEST_ROUNDS))


def finished(job: Job) -> Record | None:
    """Return the record of this very job where it has come to its end.

    Raises NothingDoneError where something lies there that was measured under other settings.
    """
    try:
        record = read_record(job.samples.parent / job.step.record_name)
        result = decoded_result(record)
    except (FileNotFoundError, RecordUnreadableError):
        result = None
    done = record.status in ("ok", "already") if result is not None else False
    whole = isinstance(result, Benchmark) and done
    requests, runs = (result.requests, result.runs) if isinstance(result, Benchmark) else (1, 0)
    _, turns = take_up(job, requests, told=False)  # an older record may lie beside samples that are not whole yet
    wanted = [(arm, run) for arm in job.arms for run in range(1, runs + 1)]
    return record if whole and all(turns.get(key, NOTHING).over for key in wanted) else None


def begin_anew(lab: Lab, steps: Sequence[PlanStep]) -> None:
    """Move what `steps` have measured to the archive, and say so before."""
    if any((lab.logs / step.samples_name).exists() for step in steps):
        names = ", ".join(step.name for step in steps if (lab.logs / step.samples_name).exists())
        console.text(f"--fresh: what {names} measured moves to the archive, with a copy of the other records")
    if folder := archive_campaign(lab.logs, steps):
        console.text(f"    it lies in {folder}; back with: fab history --restore {folder.name}")


def begun(job: Job) -> Job:
    """Return the job with its beginning in the label: that of the samples there are of it, else now.

    The label is part of every prompt: a campaign that is repeated must not ask what a server remembers.
    """
    what = job.label.partition("@")[0]
    label = f"{what}@{datetime.now(UTC):%Y%m%dT%H%M%S}"
    for sample in each_sample(job.samples, []):
        if sample.campaign.partition("@")[0] == what:
            label = sample.campaign
    return msgspec.structs.replace(job, label=label)


class Turn(msgspec.Struct, frozen=True):
    """What is there of one arm's run."""

    attempts: int
    """Tries so far, lost ones included."""
    samples: list[Sample]
    """Of the last try that may still become the run, or has: warm-ups included."""
    over: bool
    """Nothing is left to do: it is whole, or it was lost and so was its repeat."""


NOTHING = Turn(0, [], False)


def take_up(job: Job, requests: int, *, told: bool = True) -> tuple[Job, dict[tuple[str, int], Turn]]:
    """Return what this very job has measured so far, by (arm, run), and the job to go on with.

    A run is whole with `requests` timed ones. One with a failed request is lost: what is there of it stays, and it is
    measured again. Raises NothingDoneError for samples of another job.
    """
    torn: list[TornLine] = []
    samples, foreign = dict[tuple[str, int], list[Sample]](), ""
    for sample in each_sample(job.samples, torn):
        foreign = foreign or (sample.campaign if sample.campaign != job.label else "")
        samples.setdefault((sample.arm, sample.run), []).append(_without_frames(sample))
    if not samples:
        # Another version's, or notes of tries whose samples are gone: nothing may be appended to either.
        if torn or job.conditions.exists():
            archive_job(job)
        return begun(job), {}
    if foreign:
        raise _refused(job, foreign, sum(map(len, samples.values())))
    notes: dict[tuple[str, int], list[Conditions]] = {}
    for note in read_conditions(job.conditions)[0]:
        notes.setdefault((note.arm, note.run), []).append(note)
    keys = [(arm, run) for arm in job.arms for run in _runs(job)]
    turns = {key: turn_of(*key, samples.get(key, []), notes.get(key, []), requests) for key in keys}
    if told and not all(turn.over for turn in turns.values()):
        there = sum(map(len, samples.values()))
        console.note("", f"taking up an interrupted campaign: {there} requests are there already")
    return job, {key: turn for key, turn in turns.items() if turn.attempts}


def turn_of(arm: str, run: int, samples: Sequence[Sample], notes: Sequence[Conditions], requests: int) -> Turn:
    """Return what is there of one run."""
    tried = [s for s in samples if (s.arm, s.run) == (arm, run)]
    noted = [n for n in notes if (n.arm, n.run) == (arm, run)]
    attempts = max((*(s.attempt for s in tried), *(n.attempt for n in noted)), default=0)
    last = [s for s in tried if s.attempt == attempts]
    if any(n.lost for n in noted if n.attempt == attempts) or any(s.error for s in last):
        answered = any(not s.error and not s.warmup for s in last)
        return Turn(attempts, [], attempts > 1 and answered)
    return Turn(attempts, last, timed_count(last) >= requests)


def _without_frames(sample: Sample) -> Sample:
    """Return what going on needs of a sample: without what takes nine tenths of its memory."""
    return msgspec.structs.replace(sample, frame_times_s=[], server={}, prompt_sha256="", text_sha256="", text_head="")


def _runs(job: Job) -> range:
    return range(1, job.runs + 1)


def timed_count(samples: Sequence[Sample]) -> int:
    """Return how many of `samples` are no warm-ups."""
    return sum(not sample.warmup for sample in samples)


def archive_job(job: Job) -> None:
    """Move everything a job has measured to the archive, and its step's record where the samples are that step's."""
    logs = job.samples.parent
    record = [logs / job.step.record_name] if job.samples.name == job.step.samples_name else []
    archive(logs, [job.samples, job.conditions, *record])


def _refused(job: Job, there: str, count: int) -> NothingDoneError:
    """Return the error that says that a job would put aside what somebody has measured."""
    (was, before), (wanted, now) = _parts(there), _parts(job.label)
    why = "under another hosts.yaml (nodes, models, EXO, bench or decision were changed since)"
    if was == wanted:
        why = f"with other options: `{before}`, asked for now `{now}`"
    return NothingDoneError(
        f"{count} requests lie in {job.samples}, measured {why}",
        "the settings and options they were measured with, or your word that they may be put aside",
        "type it as before (fab history shows what is there), or begin anew: the same command with --fresh, which moves"
        f" them to {job.samples.parent / 'archive'}",
        who=job.step.name,
    )


def _parts(label: str) -> tuple[str, str]:
    """Split a label into the identity of hosts.yaml and the rest, without when it began."""
    identity, _, rest = label.removeprefix("control-").partition("@")[0].partition("-")
    return identity, rest
