"""Every validity check, in the order in which a report shows them. One that fails fatally makes the campaign INVALID.

A check is a pure function of a campaign and the number of the step that measured (12, or 13 for the larger model).
"""

from __future__ import annotations

from collections.abc import Callable

from records.campaign import Campaign
from reports.checks.answers import errors, keeps_losing, same_model, same_work, token_counts
from reports.checks.check import Check
from reports.checks.heat import order, within_run
from reports.checks.prefill import no_cache, warm
from reports.checks.quiet import no_neighbour
from reports.checks.schedule import baselines, complete, control, drift, instrument, interleaved
from reports.checks.setup import device, ollama_unaffected, one_campaign, right_software, same_weights, whole_cluster

__all__ = ["BEYOND_REPAIR", "CHECKS", "Check", "check_all"]

CHECKS: tuple[Callable[[Campaign, int], Check], ...] = (
    right_software,
    whole_cluster,
    same_model,
    same_weights,
    same_work,
    device,
    warm,
    no_cache,
    no_neighbour,
    instrument,
    errors,
    complete,
    baselines,
    one_campaign,
    interleaved,
    token_counts,
    drift,
    within_run,
    order,
    control,
    ollama_unaffected,
)


BEYOND_REPAIR: tuple[Callable[[Campaign, int], Check], ...] = (
    right_software,
    same_model,
    device,
    warm,
    no_cache,
    no_neighbour,
    keeps_losing,
    one_campaign,
)
"""Those that stay fatal whatever is measured after; a benchmark stops where one of them is."""


def check_all(campaign: Campaign, step: int = 12) -> list[Check]:
    """Run every check on what `step` measured."""
    return [check(campaign, step) for check in CHECKS]
