"""What stands beside the verdict and never votes: the owner's bands, TTFT, the share of requests that were answered."""

from __future__ import annotations

import math

import msgspec

from records.campaign import Campaign
from records.samples import Sample
from reports.checks.evidence import timed_with_lost
from reports.stats.arms import ArmEstimate
from reports.stats.comparison import Comparison
from reports.stats.runs import is_good
from reports.verdict.decision import Decision

BANDS = (
    (1.30, "at least +30 %: go on to Phase 2"),
    (1.10, "+10 to +30 %: weigh the complexity, and consider the GPU node alone"),
    (0.0, "below +10 %: leave EXO, and spread requests over several Ollamas"),
)
"""The plan owner's own reading of a ratio, from its lower edge on; they are the owner's, whatever the target says."""
MOST_TTFT_RATIO = 2.0
"""TTFT of EXO over the best single node's that the owner would bear."""


class Beside(msgspec.Struct, frozen=True):
    """All of it is about the best single node, the baseline of the smallest ratio."""

    best_node: str
    best_rate_tokens_per_s: float | None
    bands: list[str]
    """The band of the ratio; with those that its interval touches, the measured ratio's first."""
    ttft_ratio: float | None
    """Median time to first token, EXO's over the best node's."""
    answered: dict[str, float]
    """Arm -> share of its timed requests that gave a good answer, those of lost runs included."""


def beside(campaign: Campaign, decision: Decision, arms: list[ArmEstimate], step: int = 12) -> Beside | None:
    """Return what stands beside a decision; None where its ratios are none, or no evidence."""
    if decision.void or not decision.comparisons:
        return None
    binding = decision.comparisons[0]
    by_name = {arm.arm: arm for arm in arms}
    exo, best = next((arm for arm in arms if arm.engine == "exo"), None), by_name.get(binding.baseline)
    ttft = None
    if exo and best and exo.first_token_s and best.first_token_s and best.first_token_s.median > 0:
        ttft = exo.first_token_s.median / best.first_token_s.median
    timed = timed_with_lost(campaign, step)
    return Beside(
        best_node=binding.baseline,
        best_rate_tokens_per_s=best.rate_tokens_per_s if best else None,
        bands=_bands(binding),
        ttft_ratio=ttft,
        answered={arm: sum(map(is_answered, samples)) / len(samples) for arm, samples in timed.items()},
    )


def is_answered(sample: Sample) -> bool:
    """Tell whether a request gave a good answer, whatever became of its run."""
    return is_good(msgspec.structs.replace(sample, lost=""))


def _bands(comparison: Comparison) -> list[str]:
    edges = [edge for edge, _ in BANDS]
    own = next(place for place, edge in enumerate(edges) if comparison.ratio >= edge)
    if not math.isfinite(comparison.upper):
        return [BANDS[own][1]]
    first, last = (
        next(p for p, edge in enumerate(edges) if value >= edge) for value in (comparison.upper, comparison.lower)
    )
    return [BANDS[place][1] for place in sorted(range(first, last + 1), key=lambda place: (place != own, place))]
