"""What one report computes once and shows in several places: every step's arms, the larger model, the pipeline."""

from __future__ import annotations

import msgspec

from records.campaign import Campaign
from records.facts import Preflight
from reports.checks.evidence import arms_of
from reports.stats.arms import ArmEstimate
from reports.stats.estimate import PipelineEstimate, pipeline_estimate, stages_of
from reports.stats.spread import Spread, spread_of
from reports.verdict.beside import Beside, beside
from reports.verdict.decision import Decision, decide


class Estimates(msgspec.Struct, frozen=True):
    """The arms of every step that measured, by step number, and the larger model's own decision."""

    arms: dict[int, list[ArmEstimate]]
    large: Decision | None
    pipeline: PipelineEstimate | None
    beside: Beside | None = None
    spread: Spread | None = None


def estimates_of(campaign: Campaign, decision: Decision | None = None) -> Estimates:
    """Return the arms of every step that measured and, where step 13 did, its own decision."""
    arms = {step: arms_of(campaign, step) for step in sorted(campaign.samples)}
    large = decide(campaign, 13) if 13 in campaign.samples else None
    pipeline = campaign_estimate(campaign, arms.get(12) or arms.get(11) or [])
    spread = spread_of(campaign.spread_alone, campaign.spread_together, 1 - campaign.limits.confidence)
    return Estimates(arms, large, pipeline, beside(campaign, decision or decide(campaign), arms.get(12, [])), spread)


def campaign_estimate(campaign: Campaign, arms: list[ArmEstimate]) -> PipelineEstimate | None:
    """Return the pipeline's estimate from the measured baselines, the layers to be dealt and the round trips.

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
        stages = stages_of(
            {node: rate for node, rate in rates.items() if node in preflight.nodes},
            _shares(preflight, campaign.profile),
            {name: node.round_trip_s or 0.0 for name, node in preflight.nodes.items()},
        )
        return pipeline_estimate(stages)
    except ValueError:
        return None


def _shares(preflight: Preflight, profile: str) -> dict[str, int]:
    """Return the small pair's layers by node as step 1 computed them, else the memory by which they are dealt."""
    if layers := preflight.layers(profile):
        return layers
    memory = {key: node.memory_bytes for key, node in preflight.nodes.items()}
    return dict(sorted(memory.items(), key=lambda item: (item[1], item[0]), reverse=True))


def token_time_s(arm: ArmEstimate) -> float | None:
    """Return an arm's time per token while decoding, in seconds: what a pipeline's estimate can be compared with."""
    if arm.decode_tokens_per_s and arm.decode_tokens_per_s.median > 0:
        return 1 / arm.decode_tokens_per_s.median
    return 1 / arm.rate_tokens_per_s if arm.rate_tokens_per_s else None
