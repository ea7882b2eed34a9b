"""Where the time of one token goes: measured systems beside the best a pipeline over these nodes could do."""

from __future__ import annotations

import msgspec

from reports.charts.token_time import TokenBar, TokenTimeChart
from reports.stats.arms import ArmEstimate
from reports.stats.ceiling import Ceiling
from reports.text import format as fmt
from reports.text.table import Table, clip
from reports.verdict.estimates import token_time_s

WHY_NO_FASTER = (
    "Several nodes serve one stream as a pipeline: every token passes all stages in turn, so its time is the sum of "
    "the stages' computing and of the hops between them. A pipeline makes room for a larger model; it does not by "
    "itself make one stream faster."
)


class TimeView(msgspec.Struct, frozen=True):
    """The section's sentences and its tables."""

    lines: list[str]
    table: Table | None
    stages: Table | None = None


def time_view(arms: list[ArmEstimate], ceiling: Ceiling | None, target: float) -> TimeView:
    """Put the token-time chart and the ceiling into words."""
    chart = TokenTimeChart.of(arms, ceiling, target)
    if chart is None:
        return TimeView([WHY_NO_FASTER, "Nothing has been measured yet that could be set against it."], None)
    rows = [
        [bar.label, fmt.digits(bar.milliseconds), fmt.digits(1000 / bar.milliseconds), _shares(bar)]
        for bar in chart.bars
    ]
    table = Table(["System", "ms per token, decoding", "Tokens/s, decoding", "Of which"], rows, [1, 2])
    if ceiling is None:
        missing = "The ceiling of this pipeline is not known: it needs step 1's nodes and one measured baseline."
        return TimeView([WHY_NO_FASTER, missing], table)
    exo = next((token_time_s(arm) for arm in arms if arm.engine == "exo"), None)
    return TimeView([WHY_NO_FASTER, *_ceiling_said(ceiling, exo, target)], table, _stages(ceiling))


def _shares(bar: TokenBar) -> str:
    if len(bar.parts) < 2:
        return ""
    return ", ".join(f"{part.label} {fmt.fraction(part.milliseconds / bar.milliseconds)}" for part in bar.parts)


def _ceiling_said(ceiling: Ceiling, exo_s: float | None, target: float) -> list[str]:
    said = [
        f"At its ceiling this pipeline decodes {fmt.rate(ceiling.rate_tokens_per_s)} tokens per second, "
        f"{fmt.ratio(ceiling.ratio)} of the fastest single node ({clip(ceiling.fastest_node, cap=40)}, "
        f"{fmt.rate(ceiling.fastest_rate_tokens_per_s)}); {fmt.fraction(ceiling.compute_share)} of a token's "
        f"time is computing, {fmt.fraction(ceiling.hop_share)} hops. "
        + (
            f"The target of {target:.2f}× lies beyond that ceiling."
            if ceiling.ratio < target
            else f"The target of {target:.2f}× lies within it."
        )
    ]
    if exo_s is not None:
        reached = ceiling.token_s / exo_s
        said.append(
            f"EXO reached {fmt.fraction(reached)} of that ceiling."
            if reached <= 1
            else f"EXO decoded {fmt.ratio(reached)} as fast as that ceiling: it is made from Ollama's rates, so "
            "EXO's engine must be faster on these nodes than Ollama's."
        )
    return said


def _stages(ceiling: Ceiling) -> Table:
    rows = [
        [
            clip(stage.node, cap=40),
            fmt.fraction(stage.share),
            fmt.rate(stage.rate_tokens_per_s) + ("" if stage.rate_known else " (not measured: the fastest's)"),
            fmt.duration(stage.share / stage.rate_tokens_per_s),
            fmt.duration(stage.hop_s),
        ]
        for stage in ceiling.stages
    ]
    head = ["Stage of the ceiling", "Share of the layers", "Alone, tokens/s", "Its part of a token", "Hop to the next"]
    return Table(head, rows, [1, 2, 3, 4])
