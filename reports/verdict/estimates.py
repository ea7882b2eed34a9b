"""What one report computes once and shows in several places: every step's arms, the larger model, the ceiling."""

from __future__ import annotations

import msgspec

from records.campaign import Campaign
from reports.stats.arms import ArmEstimate, arm_estimates
from reports.stats.ceiling import Ceiling, pipeline_ceiling, stages_by_memory
from reports.verdict.decision import Decision, decide


class Estimates(msgspec.Struct, frozen=True):
    """The arms of every step that measured, by step number, and the larger model's own decision."""

    arms: dict[int, list[ArmEstimate]]
    large: Decision | None
    ceiling: Ceiling | None


def estimates_of(campaign: Campaign) -> Estimates:
    """Return the arms of every step that measured and, where step 13 did, its own decision."""
    arms = {step: arm_estimates(campaign.samples[step]) for step in sorted(campaign.samples)}
    large = decide(campaign, 13) if 13 in campaign.samples else None
    return Estimates(arms, large, campaign_ceiling(campaign, arms.get(12) or arms.get(11) or []))


def campaign_ceiling(campaign: Campaign, arms: list[ArmEstimate]) -> Ceiling | None:
    """Return the pipeline's ceiling from the measured baselines, the nodes' memory and their round trips.

    None where step 1 or every baseline is missing.
    """
    preflight, settings = campaign.preflight, campaign.settings
    if preflight is None:
        return None
    rates = {
        settings.node_of(arm.arm) or arm.arm: 1 / token_s
        for arm in arms
        if arm.engine == "ollama" and (token_s := token_time_s(arm)) is not None
    }
    try:
        stages = stages_by_memory(
            {node: rate for node, rate in rates.items() if node in preflight.nodes},
            {name: node.memory_bytes for name, node in preflight.nodes.items()},
            {name: node.round_trip_s or 0.0 for name, node in preflight.nodes.items()},
        )
        return pipeline_ceiling(stages)
    except ValueError:
        return None


def token_time_s(arm: ArmEstimate) -> float | None:
    """Return an arm's time per token while decoding, in seconds: what a pipeline's ceiling can be compared with."""
    if arm.decode_tokens_per_s and arm.decode_tokens_per_s.median > 0:
        return 1 / arm.decode_tokens_per_s.median
    return 1 / arm.rate_tokens_per_s if arm.rate_tokens_per_s else None
