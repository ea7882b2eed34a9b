"""How a list of numbers is spread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec


class Summary(msgspec.Struct, frozen=True):
    """How a list of numbers is spread; the unit is in the name of the field that holds it."""

    n: int
    mean: float
    median: float
    p10: float
    p90: float
    p99: float
    minimum: float
    maximum: float


def summary_of_values(values: Iterable[float]) -> Summary | None:
    """Summarise `values`; percentiles by linear interpolation (numpy's default). None for none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Summary(
        n=len(ordered),
        mean=math.fsum(ordered) / len(ordered),
        median=_percentile(ordered, 0.5),
        p10=_percentile(ordered, 0.1),
        p90=_percentile(ordered, 0.9),
        p99=_percentile(ordered, 0.99),
        minimum=ordered[0],
        maximum=ordered[-1],
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
