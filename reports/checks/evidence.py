"""What the checks ask of a campaign's records and samples again and again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from records.campaign import Campaign
from records.samples import Conditions, Sample
from reports.stats.runs import in_schedule

SHOWN = 6
"""So many single findings an evidence names; the raw data has the rest."""


def schedule_samples(campaign: Campaign, step: int) -> list[Sample]:
    """Return the samples of the schedule, warm-ups and failed ones included."""
    return [sample for sample in campaign.samples.get(step, []) if in_schedule(sample)]


def timed_by_arm(campaign: Campaign, step: int, *, lost: bool = False) -> dict[str, list[Sample]]:
    """Return every arm's timed requests, failed ones included, EXO first; with `lost` those of lost runs, too."""
    by_arm: dict[str, list[Sample]] = {}
    every = campaign.samples.get(step, []) if lost else schedule_samples(campaign, step)
    for sample in every:
        if not sample.warmup:
            by_arm.setdefault(sample.arm, []).append(sample)
    return dict(sorted(by_arm.items(), key=lambda item: (item[1][0].engine != "exo", item[0])))


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
