"""The ratio of one arm's rate to another's, with an interval made in two ways: the heart of the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from records.settings import Limits
from reports.stats import intervals
from reports.stats.runs import RunValue

Method = Literal["welch", "paired"]
METHOD_WORDS: dict[Method, str] = {
    "welch": "Welch's t on the runs' mean log rates",
    "paired": "paired t on the rounds' log ratios, bounds of the last look taken",
}
SUPPORT_FACTOR = 2.0
"""The cross-check supports a verdict when it reaches it at this many times the error. See `Comparison.agree`."""
ROUNDING = 1e-12
"""Of a log ratio: a bound this close to the target is on it."""

Side = Literal["above", "below", "across"]


class Comparison(msgspec.Struct, frozen=True):
    """The ratio of EXO's rate to one baseline's, with two intervals made in different ways."""

    baseline: str
    ratio: float
    lower: float
    """One-sided lower bound at `confidence`; 0 where an arm has not two runs."""
    upper: float
    """One-sided upper bound; infinite in the same case."""
    degrees_of_freedom: float
    hl_ratio: float
    """Hodges-Lehmann estimate."""
    hl_lower: float | None
    """Exact bound of the same level; None where so few runs have none (fewer than 3 an arm at 95 %)."""
    hl_upper: float | None
    agree: bool
    """The cross-check supports what Welch's interval says of the target: it reaches the same side at twice the error
    (90 % where the level is 95 %). At the same level both would have to clear the line, which costs 5 points of power
    at 6 runs and buys no lower error than was asked for. False where so few runs have no exact interval at all."""
    exo_runs: int
    ollama_runs: int
    method: Method
    confidence: float = 0.95
    says: Side = "across"
    """Where Welch's interval lies: `above` (the lower bound reaches the target), `below` it, or `across`."""


def compare(exo: Sequence[RunValue], ollama: Sequence[RunValue], limits: Limits) -> Comparison:
    """Compare two arms, the runs of each being independent replicates. Raises ValueError where one has none.

    Both intervals are of log rates, so a bound of the ratio is the exponential of a bound of the difference.
    """
    a = [run.log_rate for run in exo]
    b = [run.log_rate for run in ollama]
    if not a or not b:
        raise ValueError("a comparison needs a run of each arm")
    difference, lower, upper, freedom = intervals.welch(a, b, limits.confidence)
    differences = intervals.ordered_differences(a, b)
    exact = intervals.exact_bounds(differences, len(a), len(b), limits.confidence)
    weaker = max(0.5, 1 - SUPPORT_FACTOR * (1 - limits.confidence))
    support = intervals.exact_bounds(differences, len(a), len(b), weaker)
    says = side_of(lower, upper, limits.target_ratio)
    return Comparison(
        baseline=ollama[0].arm,
        ratio=math.exp(difference),
        lower=math.exp(lower),
        upper=math.exp(upper),
        degrees_of_freedom=freedom,
        hl_ratio=math.exp(intervals.median_of_sorted(differences)),
        hl_lower=math.exp(exact[0]) if exact else None,
        hl_upper=math.exp(exact[1]) if exact else None,
        agree=exact is not None and support is not None and _supports(support, says, limits.target_ratio),
        exo_runs=len(a),
        ollama_runs=len(b),
        method="welch",
        confidence=limits.confidence,
        says=says,
    )


def side_of(log_lower: float, log_upper: float, target_ratio: float) -> Side:
    """Tell on which side of the target an interval of log ratios lies; a lower bound on the target is above."""
    line = math.log(target_ratio)
    if log_lower >= line - ROUNDING:
        return "above"
    return "below" if log_upper < line - ROUNDING else "across"


def _supports(bounds: tuple[float, float], says: Side, target_ratio: float) -> bool:
    """Tell whether the cross-check at its weaker level does not stand against what Welch says."""
    line = math.log(target_ratio)
    if says == "above":
        return bounds[0] >= line - ROUNDING
    return says == "across" or bounds[1] < line - ROUNDING
