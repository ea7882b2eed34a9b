"""The rule for `fab bench --until-decided`: paired t on log ratios with three looks.

Looking three times at the usual level would cost more error than was asked for; the bounds are those of a group
sequential design with looks after 6, 12 and 18 rounds (falling, as O'Brien and Fleming's do, but on t instead of z),
chosen by simulation so that all looks together say GO at exactly the target in 5 % of campaigns
(benchmarks/verdict_error_rates.py measures it). They hold for a confidence of 95 % and for no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from records.settings import Limits
from reports.stats import intervals
from reports.stats.comparison import ROUNDING, Comparison, Side
from reports.stats.runs import RunValue

LOOK_AT: dict[int, float] = {6: 2.680, 12: 2.276, 18: 2.177}
"""Rounds -> the bound of t at that look."""
MOST_ROUNDS = max(LOOK_AT)
CONFIDENCE = 0.95

LookDecision = Literal["GO", "NO-GO", "go on", "INCONCLUSIVE"]


class Look(msgspec.Struct, frozen=True):
    """One look at the rounds so far. With several baselines `t` is the smallest, which decides for GO."""

    rounds: int = msgspec.field(name="pairs")
    t: float
    decision: LookDecision
    bound: float = 0.0
    """GO needs every t at or above it, NO-GO some t at or below its negative."""
    t_by_baseline: dict[str, float] = {}


def log_ratios(exo: Sequence[RunValue], ollama: Sequence[RunValue]) -> list[float]:
    """Return log(EXO / Ollama) of every round that both have a run of, in order; a round is the runs of one number."""
    rates = {run.run: run.log_rate for run in ollama}
    return [run.log_rate - rates[run.run] for run in sorted(exo, key=lambda r: r.run) if run.run in rates]


def look(log_ratios: Mapping[str, Sequence[float]], target_ratio: float) -> Look:
    """Look at the rounds of every baseline (the same number each, one of LOOK_AT) and say GO, NO-GO or go on.

    Raises KeyError for any other number: peeking in between is what the bounds do not pay for.
    """
    rounds = min(len(ratios) for ratios in log_ratios.values())
    bound = LOOK_AT[rounds]
    t = {baseline: _t(ratios[:rounds], target_ratio) for baseline, ratios in log_ratios.items()}
    smallest = min(t.values())
    decision: LookDecision = "GO" if smallest >= bound else "NO-GO" if smallest <= -bound else "go on"
    if decision == "go on" and rounds == MOST_ROUNDS:
        decision = "INCONCLUSIVE"
    return Look(rounds, smallest, decision, bound, t)


def looks_so_far(log_ratios: Mapping[str, Sequence[float]], target_ratio: float) -> list[Look]:
    """Return every look that these rounds allow, in order, up to the first that decides; empty before the first."""
    taken: list[Look] = []
    available = min((len(ratios) for ratios in log_ratios.values()), default=0)
    for rounds in sorted(LOOK_AT):
        if rounds > available:
            break
        taken.append(look({name: ratios[:rounds] for name, ratios in log_ratios.items()}, target_ratio))
        if taken[-1].decision != "go on":
            break
    return taken


def paired_comparison(baseline: str, ratios: Sequence[float], bound: float, limits: Limits) -> Comparison:
    """Return the ratio with the interval that the look's own bound gives, so that it agrees with the look.

    There is no exact cross-check of the same level at a look; the Hodges-Lehmann estimate of the rounds is shown.
    """
    mean, variance = intervals.mean_and_variance(ratios)
    reach = bound * math.sqrt(variance / len(ratios))
    walsh = sorted((x + y) / 2 for i, x in enumerate(ratios) for y in ratios[i:])
    line = math.log(limits.target_ratio)
    says: Side = (
        "above" if mean - reach >= line - ROUNDING else "below" if mean + reach <= line + ROUNDING else "across"
    )
    return Comparison(
        baseline=baseline,
        ratio=math.exp(mean),
        lower=math.exp(mean - reach),
        upper=math.exp(mean + reach),
        degrees_of_freedom=float(len(ratios) - 1),
        hl_ratio=math.exp(intervals.median_of_sorted(walsh)),
        hl_lower=None,
        hl_upper=None,
        agree=True,
        exo_runs=len(ratios),
        ollama_runs=len(ratios),
        method="paired",
        confidence=limits.confidence,
        says=says,
    )


def _t(ratios: Sequence[float], target_ratio: float) -> float:
    """Return Student's t of the log ratios against the target; infinite where they do not vary at all."""
    mean, variance = intervals.mean_and_variance(ratios)
    excess = mean - math.log(target_ratio)
    if variance < 1e-24:
        return math.inf if excess >= -ROUNDING else -math.inf
    return excess / math.sqrt(variance / len(ratios))
