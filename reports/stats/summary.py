"""How a list of numbers is spread."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray


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
    ordered = in_order(values)
    if not ordered.size:
        return None
    minimum, p10, median, p90, p99, maximum = map(float, np.percentile(ordered, [0, 10, 50, 90, 99, 100]))
    mean = math.fsum(ordered.data) / len(ordered)
    return Summary(len(ordered), mean, median, p10, p90, p99, minimum, maximum)


def in_order(values: Iterable[float]) -> NDArray[np.float64]:
    """Return `values` in order, in eight bytes each: an arm may have millions of gaps between tokens."""
    return np.sort(np.fromiter(values, np.float64))
