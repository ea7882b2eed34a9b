"""What became of a measuring step's time: requests, loading, and the rest, which is ours."""

from __future__ import annotations

import math

import msgspec

from records.campaign import Campaign


class TimeSpent(msgspec.Struct, frozen=True):
    """The seconds of one measuring step."""

    elapsed_s: float
    requests_s: float
    """Of all requests, warm-ups included, and of opening their connections."""
    loading_s: float
    """Of taking models out of memory, restarting EXO, and loading what is measured."""
    runs: int

    @property
    def rest_s(self) -> float:
        """Everything else: looks at the nodes, the script's starts, the records."""
        return self.elapsed_s - self.requests_s - self.loading_s


def time_spent(campaign: Campaign, step: int) -> TimeSpent | None:
    """Return what became of a step's time; None where several calls made it, of which the last alone is known."""
    benchmark, notes = campaign.benchmark(step), campaign.conditions.get(step, [])
    if benchmark is None or benchmark.resumed or not campaign.samples.get(step):
        return None
    spent = TimeSpent(
        campaign.records[step].elapsed_s,
        math.fsum((s.total_s or 0.0) + (s.connect_s or 0.0) for s in campaign.samples[step]),
        math.fsum((note.reload_s or 0.0) + (note.load_s or 0.0) + (note.placing_s or 0.0) for note in notes),
        len(notes),
    )
    return spent if spent.rest_s >= 0 else None
