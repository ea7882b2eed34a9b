"""What the checks ask of a campaign's records and samples again and again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from records.campaign import Campaign
from records.facts import Benchmark, Started
from records.record import Record, result_of
from records.samples import Conditions, Sample
from reports.stats.runs import in_schedule

START_STEPS = (5, 6, 7)
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


def benchmark_of(campaign: Campaign, step: int) -> Benchmark | None:
    """Return what the step's record says of the measurement; None where it did not come to its end."""
    record = campaign.records.get(step)
    return result_of(record, Benchmark) if record is not None and record.status in ("ok", "already") else None


def started_nodes(campaign: Campaign) -> list[Started]:
    """Return what the starts of EXO (steps 5 to 7) recorded, as far as they came to their end."""
    return [s for n in START_STEPS if (s := result_of(campaign.records.get(n), Started)) is not None]


def setting(campaign: Campaign, step: int, *path: str) -> Any:
    """Return an entry of hosts.yaml as the step's record carries it (else any record's); None where there is none."""
    chosen: list[Record] = [campaign.records[step]] if step in campaign.records else []
    for record in [*chosen, *campaign.records.values()]:
        found: Any = record.settings
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:
            return found
    return None


def node_names(campaign: Campaign, step: int) -> list[str]:
    """Return the nodes that hosts.yaml names."""
    nodes = setting(campaign, step, "nodes")
    return sorted(nodes) if isinstance(nodes, dict) else []


def conditions_by_run(campaign: Campaign, step: int) -> dict[tuple[str, int], list[Conditions]]:
    """Return what was noted before every (arm, run); an interrupted run has several notes."""
    found: dict[tuple[str, int], list[Conditions]] = {}
    for noted in campaign.conditions.get(step, []):
        found.setdefault((noted.arm, noted.run), []).append(noted)
    return found


def seconds_of(utc: str) -> float | None:
    """Return an ISO time stamp as seconds; None where it is none."""
    try:
        return datetime.fromisoformat(utc).timestamp()
    except ValueError:
        return None


def first_few(findings: Iterable[str]) -> str:
    """Join the first SHOWN findings and say how many more there are."""
    every = list(findings)
    more = f"; and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return "; ".join(every[:SHOWN]) + more
