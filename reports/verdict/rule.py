"""The rule itself: runs in, GO, NO-GO or INCONCLUSIVE out. Reports, tests and simulations all go through here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from records.settings import Limits
from reports.stats.comparison import Comparison, compare
from reports.stats.runs import RunValue
from reports.stats.sequential import CONFIDENCE, Look, log_ratios, looks_so_far, paired_comparison

RateVerdict = Literal["GO", "NO-GO", "INCONCLUSIVE", "go on"]


class RateDecision(msgspec.Struct, frozen=True):
    """What the rates alone say, checks aside."""

    verdict: RateVerdict
    """`go on` only from `decide_rounds`: before its first look, or after one that did not decide."""
    comparisons: list[Comparison]
    """One a baseline that has runs, the smallest ratio first."""
    looks: list[Look] = []


def decide_rates(exo: Sequence[RunValue], baselines: Mapping[str, Sequence[RunValue]], limits: Limits) -> RateDecision:
    """Apply the rule for a fixed number of runs.

    GO where the lower bound reaches the target against every baseline, NO-GO where the upper bound misses it against
    some baseline, each only where the exact cross-check supports it. A baseline without runs forbids GO. Taking the
    best of several baselines costs no error: EXO must beat each of them.
    """
    comparisons = [compare(exo, runs, limits) for runs in baselines.values() if runs and exo]
    comparisons.sort(key=lambda comparison: (comparison.ratio, comparison.baseline))
    verdict: RateVerdict = "INCONCLUSIVE"
    if any(c.says == "below" and c.agree for c in comparisons):
        verdict = "NO-GO"
    elif baselines and len(comparisons) == len(baselines) and all(c.says == "above" and c.agree for c in comparisons):
        verdict = "GO"
    return RateDecision(verdict, comparisons)


def decide_rounds(exo: Sequence[RunValue], baselines: Mapping[str, Sequence[RunValue]], limits: Limits) -> RateDecision:
    """Apply the rule with looks after 6, 12 and 18 rounds; runs beyond the look that decided do not count.

    The bounds hold for a confidence of 95 %: at any other the verdict is INCONCLUSIVE.
    """
    ratios = {name: log_ratios(exo, runs) for name, runs in baselines.items()}
    looks = looks_so_far(ratios, limits.target_ratio)
    if not looks:
        return RateDecision("go on", decide_rates(exo, baselines, limits).comparisons)
    last = looks[-1]
    comparisons = [
        paired_comparison(name, rounds[: last.rounds], last.bound, limits) for name, rounds in sorted(ratios.items())
    ]
    comparisons.sort(key=lambda comparison: comparison.ratio)
    verdict = last.decision if abs(limits.confidence - CONFIDENCE) < 1e-9 else "INCONCLUSIVE"
    return RateDecision(verdict, comparisons, looks)
