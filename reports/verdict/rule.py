"""The rule itself: runs in, GO, NO-GO or INCONCLUSIVE out. One rule, whether the rounds are counted before or not.

Reports, tests and simulations go through here and through `reports.stats.rounds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from records.settings import Limits
from reports.stats.comparison import Comparison, compare
from reports.stats.runs import RunValue

RateVerdict = Literal["GO", "NO-GO", "INCONCLUSIVE", "go on"]

LOOKS = (6, 12, 18)
"""`--until-decided` looks after so many rounds, and at no others."""
LOOK_ERROR = 0.0219
"""Error of a bound at each of the three looks, by which all of them together err in 5 % of campaigns (a constant
nominal level: Pocock, Biometrika 64, 1977; measured by benchmarks.verdict_error_rates)."""
CONFIDENCE = 0.95
"""For which LOOK_ERROR was made, and for no other."""


class Look(msgspec.Struct, frozen=True):
    """One look at the rounds so far, by the baseline of the smallest ratio."""

    rounds: int
    decision: RateVerdict
    ratio: float
    lower: float
    upper: float


class RateDecision(msgspec.Struct, frozen=True):
    """What the rates alone say, checks aside."""

    verdict: RateVerdict
    """`go on` only with looks: before the first, or after one that did not decide and was not the last."""
    comparisons: list[Comparison]
    """One a baseline that has runs, the smallest ratio first."""
    looks: list[Look] = []


def decide_rates(exo: Sequence[RunValue], baselines: Mapping[str, Sequence[RunValue]], limits: Limits) -> RateDecision:
    """Apply the rule to all rounds, their number having been fixed before the first.

    GO where the lower bound reaches the target against every baseline, NO-GO where the upper bound misses it against
    some, each only where the exact cross-check supports it. A baseline without runs forbids GO. Taking the best of
    several baselines costs no error: EXO must beat each of them.
    """
    return _decide(exo, baselines, limits.target_ratio, 1 - limits.confidence)


def decide_looks(
    exo: Sequence[RunValue], baselines: Mapping[str, Sequence[RunValue]], limits: Limits, measured: int
) -> RateDecision:
    """Apply the rule after 6, 12 and 18 rounds, of which `measured` have been; the first look that decides is the last.

    At another confidence than 95 % the looks have no bounds, and the last one says INCONCLUSIVE.
    """
    looks: list[Look] = []
    taken = RateDecision("go on", decide_rates(exo, baselines, limits).comparisons)
    for rounds in (rounds for rounds in LOOKS if rounds <= measured):
        some = {name: [run for run in runs if run.run <= rounds] for name, runs in baselines.items()}
        taken = _decide([run for run in exo if run.run <= rounds], some, limits.target_ratio, LOOK_ERROR)
        verdict = taken.verdict if abs(limits.confidence - CONFIDENCE) < 1e-9 else "INCONCLUSIVE"
        if verdict == "INCONCLUSIVE" and rounds < LOOKS[-1]:
            verdict = "go on"
        taken = msgspec.structs.replace(taken, verdict=verdict)
        if taken.comparisons:
            binding = taken.comparisons[0]
            looks.append(Look(rounds, verdict, binding.ratio, binding.lower, binding.upper))
        if verdict != "go on":
            break
    return msgspec.structs.replace(taken, looks=looks)


def _decide(
    exo: Sequence[RunValue], baselines: Mapping[str, Sequence[RunValue]], target_ratio: float, error: float
) -> RateDecision:
    comparisons = compare(exo, baselines, target_ratio, error)
    verdict = verdict_of([c.vote for c in comparisons], len(baselines))
    return RateDecision(verdict, comparisons)


def verdict_of(votes: Sequence[int], baselines: int) -> RateVerdict:
    """Return the verdict of the baselines' votes, where there are `baselines` of them and some may have none."""
    if -1 in votes:
        return "NO-GO"
    return "GO" if votes and len(votes) == baselines and min(votes) == 1 else "INCONCLUSIVE"
