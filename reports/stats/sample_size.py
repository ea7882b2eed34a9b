"""How many runs it takes: to tell 40 % from 30 % at a given noise, and to settle what was left open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from records.samples import Sample
from records.settings import Limits
from reports.stats import intervals
from reports.stats.runs import RunValue, run_values, start_order

ALTERNATIVE_RATIO = 1.40
"""The speed-up that a planned campaign is to tell from the target."""
MOST_RUNS = 200
"""No plan goes beyond it: at ten minutes a round of all arms that is a day and a half."""
FEWEST_RUNS = 3
"""Below 3 an arm there is no exact cross-check, hence no verdict."""
SETTLE_PROBABILITY = 0.80


class SampleSize(msgspec.Struct, frozen=True):
    """What it takes to settle the target against an alternative at the noise of a control."""

    rate_cv: float
    """Standard deviation of the control's log rates between runs, pooled over its arms."""
    control_runs: int
    target_ratio: float
    alternative_ratio: float
    error: float
    """Of a false GO at the target, and of a missed GO at the alternative."""
    runs: int | None
    """Runs an arm; None where more than MOST_RUNS would be needed."""
    total_s: float | None
    """Duration of the whole campaign, by the median time from the start of one run to the start of the next."""


def power(runs: int, log_distance: float, spread_a: float, spread_b: float, confidence: float) -> float:
    """Return the probability that a one-sided bound clears a line `log_distance` away, with `runs` runs an arm.

    Noncentral t with Welch's degrees of freedom at the true spreads (standard deviations of log rates between runs).
    """
    from scipy.special import nctdtr

    variance_a, variance_b = spread_a**2 / runs, spread_b**2 / runs
    squared_error = variance_a + variance_b
    if squared_error < 1e-24:
        return 1.0 if log_distance > 0 else 0.0
    freedom = (runs - 1) * squared_error**2 / (variance_a**2 + variance_b**2)
    shift = log_distance / math.sqrt(squared_error)
    if shift > 30:  # far beyond what the noncentral t resolves
        return 1.0
    return 1.0 - float(nctdtr(freedom, shift, intervals.t_quantile(confidence, freedom)))


def runs_needed(
    log_distance: float, spread_a: float, spread_b: float, confidence: float, wanted_power: float
) -> int | None:
    """Return the fewest runs an arm (at least FEWEST_RUNS) that reach `wanted_power`; None beyond MOST_RUNS."""

    def enough(runs: int) -> bool:
        return power(runs, log_distance, spread_a, spread_b, confidence) >= wanted_power

    if log_distance <= 0 or not enough(MOST_RUNS):
        return None
    low, high = FEWEST_RUNS, MOST_RUNS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def runs_to_settle(exo: Sequence[RunValue], baselines: Iterable[Sequence[RunValue]], limits: Limits) -> int | None:
    """Return how many runs an arm of a fresh campaign would settle it, if ratio and noise are as these runs say.

    Settle: reach GO against every baseline, or NO-GO against one, with SETTLE_PROBABILITY each. None where fewer than
    two runs an arm tell no noise, or where no number up to MOST_RUNS would do.
    """
    above: list[int | None] = []
    below: list[int | None] = []
    mean_a, variance_a = intervals.mean_and_variance([run.log_rate for run in exo]) if exo else (0.0, math.nan)
    for baseline in baselines:
        if not baseline:
            return None
        mean_b, variance_b = intervals.mean_and_variance([run.log_rate for run in baseline])
        if math.isnan(variance_a) or math.isnan(variance_b):
            return None
        distance = mean_a - mean_b - math.log(limits.target_ratio)
        needed = runs_needed(
            abs(distance), math.sqrt(variance_a), math.sqrt(variance_b), limits.confidence, SETTLE_PROBABILITY
        )
        (above if distance > 0 else below).append(needed)
    if below:
        return min((runs for runs in below if runs is not None), default=None)
    known = [runs for runs in above if runs is not None]
    return max(known) if known and len(known) == len(above) else None


def plan_from_control(samples: Sequence[Sample], limits: Limits, arms: int = 3) -> SampleSize | None:
    """Plan a campaign of `arms` arms from a control's samples; None where no arm of it has two runs."""
    by_arm: dict[str, list[Sample]] = {}
    for sample in samples:
        by_arm.setdefault(sample.arm, []).append(sample)
    squares, freedom, count = 0.0, 0, 0
    for members in by_arm.values():
        values = [run.log_rate for run in run_values(members)]
        if len(values) >= 2:
            squares += intervals.mean_and_variance(values)[1] * (len(values) - 1)
            freedom += len(values) - 1
            count += len(values)
    if not freedom:
        return None
    spread, error = math.sqrt(squares / freedom), 1 - limits.confidence
    alternative = max(ALTERNATIVE_RATIO, limits.target_ratio * 1.05)
    distance = math.log(alternative / limits.target_ratio)
    runs = runs_needed(distance, spread, spread, limits.confidence, 1 - error)
    run_s = seconds_per_run(samples)
    total_s = runs * arms * run_s if runs is not None and run_s is not None else None
    return SampleSize(spread, count, limits.target_ratio, alternative, error, runs, total_s)


def seconds_per_run(samples: Iterable[Sample]) -> float | None:
    """Return the median time between the starts of consecutive runs, loading included; None below two runs."""
    first: dict[tuple[str, int], Sample] = {}
    for sample in sorted(samples, key=start_order):
        first.setdefault((sample.arm, sample.run), sample)
    starts = [sample.start_monotonic_s for sample in first.values() if sample.start_monotonic_s is not None]
    gaps = sorted(later - earlier for earlier, later in pairwise(starts) if later > earlier)
    return intervals.median_of_sorted(gaps) if gaps else None
