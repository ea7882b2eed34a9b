"""How many rounds it takes: to tell 40 % from 30 % at a given noise, and to settle what was left open."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from records.samples import Sample
from records.settings import Limits
from reports.stats.comparison import Comparison, compare
from reports.stats.rounds import FEWEST_ROUNDS, TREND_DEGREE
from reports.stats.runs import run_values, start_order

ALTERNATIVE_RATIO = 1.40
"""The speed-up that a planned campaign is to tell from the target."""
MOST_ROUNDS = 200
"""No plan goes beyond it: at ten minutes a round of all arms that is a day and a half."""
SETTLE_PROBABILITY = 0.80


class SampleSize(msgspec.Struct, frozen=True):
    """What it takes to settle the target against an alternative at the noise of a control."""

    round_cv: float
    """Standard deviation of the control's log ratios, round by round."""
    control_rounds: int
    target_ratio: float
    alternative_ratio: float
    error: float
    """Of a false GO at the target, and of a missed GO at the alternative."""
    rounds: int | None
    """None where more than MOST_ROUNDS would be needed."""
    round_s: float | None
    """Duration of one round of the campaign, by the median time from the start of one run to the start of the next."""

    @property
    def total_s(self) -> float | None:
        """Duration of the whole campaign."""
        return self.rounds * self.round_s if self.rounds is not None and self.round_s is not None else None


def power(rounds: int, log_distance: float, round_cv: float, confidence: float, balance: float = 1.0) -> float:
    """Return the probability that a one-sided bound clears a line `log_distance` away.

    Noncentral t; `balance` is the share of the degrees of freedom that arms of unequal noise leave, 0.5 to 1.
    """
    from scipy.special import nctdtr, stdtrit

    if round_cv < 1e-12:
        return 1.0 if log_distance > 0 else 0.0
    freedom = balance * (2 * rounds - 2 - TREND_DEGREE)
    shift = log_distance / (round_cv / math.sqrt(rounds))
    if shift > 30:  # far beyond what the noncentral t resolves
        return 1.0
    return 1.0 - float(nctdtr(freedom, shift, stdtrit(freedom, confidence)))


def rounds_needed(
    log_distance: float, round_cv: float, confidence: float, wanted_power: float, balance: float = 1.0
) -> int | None:
    """Return the fewest rounds (at least FEWEST_ROUNDS) that reach `wanted_power`; None beyond MOST_ROUNDS."""

    def enough(rounds: int) -> bool:
        return power(rounds, log_distance, round_cv, confidence, balance) >= wanted_power

    if log_distance <= 0 or not enough(MOST_ROUNDS):
        return None
    low, high = FEWEST_ROUNDS, MOST_ROUNDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def rounds_to_settle(comparisons: Sequence[Comparison], limits: Limits) -> int | None:
    """Return how many rounds of a fresh campaign would settle it, if ratio and noise are as these rounds say.

    Settle: reach GO against every baseline, or NO-GO against one, with SETTLE_PROBABILITY each. None where fewer than
    FEWEST_ROUNDS tell no noise, or where no number up to MOST_ROUNDS would do.
    """
    above: list[int | None] = []
    below: list[int | None] = []
    for c in comparisons:
        if c.round_cv is None:
            return None
        distance = math.log(c.ratio / limits.target_ratio)
        balance = c.degrees_of_freedom / (2 * len(c.rounds) - 2 - TREND_DEGREE)
        needed = rounds_needed(abs(distance), c.round_cv, limits.confidence, SETTLE_PROBABILITY, balance)
        (above if distance > 0 else below).append(needed)
    if below:
        return min((rounds for rounds in below if rounds is not None), default=None)
    known = [rounds for rounds in above if rounds is not None]
    return max(known) if known and len(known) == len(above) else None


def plan_from_control(samples: Sequence[Sample], limits: Limits, arms: int = 3) -> SampleSize | None:
    """Plan a campaign of `arms` arms from a control's samples; None where it has fewer than FEWEST_ROUNDS rounds."""
    comparison = compare_control(samples, limits)
    if comparison is None or comparison.round_cv is None:
        return None
    error = 1 - limits.confidence
    alternative = max(ALTERNATIVE_RATIO, limits.target_ratio * 1.05)
    distance = math.log(alternative / limits.target_ratio)
    rounds = rounds_needed(distance, comparison.round_cv, limits.confidence, 1 - error)
    run_s = seconds_per_run(samples)
    return SampleSize(
        round_cv=comparison.round_cv,
        control_rounds=len(comparison.rounds),
        target_ratio=limits.target_ratio,
        alternative_ratio=alternative,
        error=error,
        rounds=rounds,
        round_s=arms * run_s if run_s is not None else None,
    )


def compare_control(samples: Sequence[Sample], limits: Limits) -> Comparison | None:
    """Compare a control's first arm with its second, round by round; None where there are not two with a round."""
    by_arm: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=start_order):
        by_arm.setdefault(sample.arm, []).append(sample)
    if len(by_arm) < 2:
        return None
    first, (name, second) = next(iter(by_arm.values())), list(by_arm.items())[1]
    compared = compare(run_values(first), {name: run_values(second)}, 1.0, 1 - limits.confidence)
    return compared[0] if compared else None


def seconds_per_run(samples: Iterable[Sample]) -> float | None:
    """Return the median time between the starts of consecutive runs, loading included; None below two runs."""
    first: dict[tuple[str, int], Sample] = {}
    for sample in sorted(samples, key=start_order):
        first.setdefault((sample.arm, sample.run), sample)
    starts = [sample.start_monotonic_s for sample in first.values() if sample.start_monotonic_s is not None]
    gaps = [later - earlier for earlier, later in pairwise(starts) if later > earlier]
    return statistics.median(gaps) if gaps else None
