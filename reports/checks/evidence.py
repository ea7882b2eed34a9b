"""What the checks ask of a campaign's records and samples again and again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from records.campaign import Campaign
from records.samples import Conditions, Sample
from reports.stats.runs import in_schedule

SHOWN = 6
"""So many single findings an evidence names; the raw data has the rest."""


def schedule_samples(campaign: Campaign, step: int) -> list[Sample]:
    """Return the samples of the schedule, warm-ups and failed ones included."""
    return [sample for sample in campaign.samples.get(step, []) if in_schedule(sample)]


def timed_by_arm(campaign: Campaign, step: int) -> dict[str, list[Sample]]:
    """Return every arm's timed requests, failed ones included, EXO first."""
    by_arm: dict[str, list[Sample]] = {}
    for sample in schedule_samples(campaign, step):
        if not sample.warmup:
            by_arm.setdefault(sample.arm, []).append(sample)
    return dict(sorted(by_arm.items(), key=lambda item: (item[1][0].engine != "exo", item[0])))


def unreadable_of(campaign: Campaign, steps: Iterable[int]) -> list[str]:
    """Name the records of these steps that cannot be read, with the reason."""
    return [f"{entry.words} (it cannot be read)" for entry in campaign.unreadable if entry.step in steps]


def conditions_by_run(campaign: Campaign, step: int) -> dict[tuple[str, int], list[Conditions]]:
    """Return what was noted before every (arm, run); an interrupted run has several notes."""
    by_run: dict[tuple[str, int], list[Conditions]] = {}
    for note in campaign.conditions.get(step, []):
        by_run.setdefault((note.arm, note.run), []).append(note)
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
