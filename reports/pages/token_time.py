"""Where the time of one token goes: measured systems beside the estimate of a pipeline over these nodes."""

from __future__ import annotations

import msgspec

from reports.charts.token_time import TokenBar, TokenTimeChart
from reports.stats.arms import ArmEstimate
from reports.stats.estimate import PipelineEstimate
from reports.text import format as fmt
from reports.text.table import Table, clip
from reports.verdict.estimates import token_time_s

WHY_NO_FASTER = (
    "Several nodes serve one stream as a pipeline: every token passes all stages in turn, so its time is the sum of "
    "the stages' computing and of the hops between them. A pipeline makes room for a larger model; it does not by "
    "itself make one stream faster: with one engine and one set of weights the ratio of a single stream is at most 1 "
    "where one node is the fastest at every part and the model fits it."
)
WHAT_IS_OPEN = (
    "It is an estimate and no bound. It spreads each node's time evenly over the layers; embedding and head are not "
    "spread, and what they cost is left open. Its rates are Ollama's. Real rings of EXO 0.0.15 came out 1.14 to 1.76 "
    "times above it."
)


class TimeView(msgspec.Struct, frozen=True):
    """The section's sentences and its tables."""

    lines: list[str]
    table: Table | None
    stages: Table | None = None


def time_view(
    arms: list[ArmEstimate], pipeline: PipelineEstimate | None, target: float, *, rehearsed: bool = False
) -> TimeView:
    """Put the token-time chart and the pipeline's estimate into words."""
    chart = TokenTimeChart.of(arms, pipeline, target)
    if chart is None:
        return TimeView([WHY_NO_FASTER, "Nothing has been measured yet that could be set against it."], None)
    rows = [
        [bar.label, fmt.digits(bar.milliseconds), fmt.digits(1000 / bar.milliseconds), _shares(bar)]
        for bar in chart.bars
    ]
    table = Table(["System", "ms per token, decoding", "Tokens/s, decoding", "Of which"], rows, [1, 2])
    if pipeline is None:
        missing = "There is no estimate of this pipeline: it needs step 1's nodes and one measured baseline."
        return TimeView([WHY_NO_FASTER, missing], table)
    exo = next((token_time_s(arm) for arm in arms if arm.engine == "exo"), None)
    return TimeView(
        [WHY_NO_FASTER, *_estimate_said(pipeline, exo, target, rehearsed), WHAT_IS_OPEN], table, _stages(pipeline)
    )


def _shares(bar: TokenBar) -> str:
    if len(bar.parts) < 2:
        return ""
    return ", ".join(f"{part.label} {fmt.fraction(part.milliseconds / bar.milliseconds)}" for part in bar.parts)


def _estimate_said(pipeline: PipelineEstimate, exo_s: float | None, target: float, rehearsed: bool) -> list[str]:
    said = [
        f"By the estimate this pipeline decodes {fmt.rate(pipeline.rate_tokens_per_s)} tokens per second, "
        f"{fmt.ratio(pipeline.ratio)} of the fastest single node ({clip(pipeline.fastest_node, cap=40)}, "
        f"{fmt.rate(pipeline.fastest_rate_tokens_per_s)}); {fmt.fraction(pipeline.compute_share)} of a token's "
        f"time is computing, {fmt.fraction(pipeline.hop_share)} hops. "
        f"The target of {target:.2f}× lies {'above' if pipeline.ratio < target else 'within'} the estimate."
    ]
    if exo_s is None:
        return said
    reached = pipeline.token_s / exo_s
    if reached <= 1:
        return [*said, f"EXO reached {fmt.fraction(reached)} of the estimate."]
    why = (
        "this is a rehearsal, whose speed was set, and says nothing about pipelines."
        if rehearsed
        else "the parts that are not spread cost less here than a layer's share of them, or EXO's engine is faster on "
        "these nodes than Ollama's."
    )
    return [*said, f"EXO beat the estimate: it decoded {fmt.ratio(reached)} as fast; {why}"]


def _stages(pipeline: PipelineEstimate) -> Table:
    rows = [
        [
            clip(stage.node, cap=40),
            fmt.fraction(stage.share),
            fmt.rate(stage.rate_tokens_per_s) + ("" if stage.rate_known else " (not measured: the fastest's)"),
            fmt.duration(stage.share / stage.rate_tokens_per_s),
            fmt.duration(stage.hop_s),
        ]
        for stage in pipeline.stages
    ]
    head = ["Stage of the estimate", "Share of the layers", "Alone, tokens/s", "Its part of a token", "Hop to the next"]
    return Table(head, rows, [1, 2, 3, 4])
