"""What the checks ask of a campaign's records and samples again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import wraps
from typing import TypeVar

import msgspec

from records.campaign import Campaign
from records.samples import Conditions, Sample
from reports.stats.arms import ArmEstimate, ArmRuns, arm_estimates, by_arm, runs_of_arms
from reports.stats.runs import in_schedule
from reports.stats.within_run import WithinRun, within_runs

SHOWN = 6
"""So many single findings an evidence names; the raw data has the rest."""
FoundT = TypeVar("FoundT")


def _once(find: Callable[[Campaign, int], FoundT]) -> Callable[[Campaign, int], FoundT]:
    """Have it reckoned once a campaign and step: twenty checks ask for it, and there may be 100 000 samples."""

    @wraps(find)
    def found(campaign: Campaign, step: int) -> FoundT:
        kept, key = campaign.__dict__, f"{find.__name__} {step}"
        if key not in kept:
            kept[key] = find(campaign, step)
        return kept[key]  # type: ignore[no-any-return]

    return found


@_once
def arms_of(campaign: Campaign, step: int) -> list[ArmEstimate]:
    """Return one estimate an arm of what `step` measured, EXO first."""
    return arm_estimates(campaign.samples.get(step, []))


@_once
def runs_of(campaign: Campaign, step: int) -> ArmRuns:
    """Return EXO's runs of `step` and every baseline's."""
    return runs_of_arms(arms_of(campaign, step))


@_once
def within_runs_of(campaign: Campaign, step: int) -> list[WithinRun]:
    """Return how every arm's rate changes within the runs of `step`."""
    return within_runs(schedule_samples(campaign, step))


@_once
def schedule_samples(campaign: Campaign, step: int) -> list[Sample]:
    """Return the samples of the schedule, warm-ups and failed ones included."""
    return [sample for sample in campaign.samples.get(step, []) if in_schedule(sample)]


@_once
def sent_by_arm(campaign: Campaign, step: int) -> dict[str, list[Sample]]:
    """Return every arm's requests of the schedule, warm-ups and failed ones included, EXO first."""
    return by_arm(schedule_samples(campaign, step))


@_once
def timed_by_arm(campaign: Campaign, step: int) -> dict[str, list[Sample]]:
    """Return every arm's timed requests of the schedule, failed ones included, EXO first."""
    return by_arm(s for s in schedule_samples(campaign, step) if not s.warmup)


@_once
def timed_with_lost(campaign: Campaign, step: int) -> dict[str, list[Sample]]:
    """Return the same with those of lost runs."""
    return by_arm(s for s in campaign.samples.get(step, []) if not s.warmup)


def lost_tries(campaign: Campaign, step: int) -> list[Conditions]:
    """Return the notes of every try at a run that was lost, in their order; each once."""
    once: dict[tuple[str, int, int], Conditions] = {}
    for note in campaign.conditions.get(step, []):
        if note.lost:
            once[note.arm, note.run, note.attempt] = note
    return list(once.values())


def lost_runs(campaign: Campaign, step: int) -> set[tuple[str, int]]:
    """Return the (arm, run) whose last try was lost: their rounds are lost."""
    return {key for key, of_run in conditions_by_run(campaign, step).items() if any(note.lost for note in of_run)}


def with_last_tries(campaign: Campaign, step: int) -> Campaign:
    """Return the campaign with every run's last try taken as one that counts, lost or not."""
    if not any(s.lost for s in campaign.samples.get(step, [])):
        return campaign
    last: dict[tuple[str, int], int] = {}
    for s in campaign.samples.get(step, []):
        last[s.arm, s.run] = max(s.attempt, last.get((s.arm, s.run), 1))
    samples = [
        msgspec.structs.replace(s, lost="") if s.lost and s.attempt == last[s.arm, s.run] else s
        for s in campaign.samples.get(step, [])
    ]
    return msgspec.structs.replace(campaign, samples={**campaign.samples, step: samples})


def unreadable_of(campaign: Campaign, steps: Iterable[int]) -> list[str]:
    """Name the records of these steps that cannot be read, with the reason."""
    return [f"{entry.words} (it cannot be read)" for entry in campaign.unreadable if entry.step in steps]


def conditions_by_run(campaign: Campaign, step: int) -> dict[tuple[str, int], list[Conditions]]:
    """Return what was noted around every (arm, run): of its last try, which has several notes if interrupted."""
    by_run: dict[tuple[str, int], list[Conditions]] = {}
    for note in campaign.conditions.get(step, []):
        of_run = by_run.setdefault((note.arm, note.run), [])
        if of_run and note.attempt > of_run[0].attempt:
            of_run.clear()
        if not of_run or note.attempt == of_run[0].attempt:
            of_run.append(note)
    return by_run


def seconds_of(utc: str) -> float | None:
    """Return an ISO time stamp as seconds; None where it is none."""
    try:
        return datetime.fromisoformat(utc).timestamp()
    except ValueError:
        return None


def first_few(findings: Iterable[str]) -> str:
    """Join the first SHOWN findings and say how many more there are."""
    listed = list(findings)
    more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return "; ".join(listed[:SHOWN]) + more
