"""Campaign -> what each chart shows. Plain arithmetic on samples; the drawing is elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from records.campaign import Campaign
from records.samples import Sample
from reports.charts.data import (
    ArmMark,
    ChartSet,
    IntervalRow,
    LatencyChart,
    LatencyRow,
    NodeChart,
    NodeRow,
    OrderChart,
    RequestPoint,
    RunBlock,
    SpeedupChart,
)
from reports.pages.results import arm_label
from reports.pages.token_time import token_time_chart
from reports.stats.arms import ArmEstimate
from reports.stats.ceiling import Ceiling
from reports.stats.comparison import METHOD_WORDS
from reports.stats.runs import in_schedule, inter_token_gaps_s, is_good, rate_tokens_per_s, start_order
from reports.stats.summary import Summary
from reports.text.escape import one_line
from reports.verdict.decision import Decision

DOTS = 120
"""Single times that one row of a distribution shows at most."""
LEAST_MS = 1e-3
"""What a time of zero is drawn as: the axis is logarithmic."""


def chart_set(
    campaign: Campaign, decision: Decision, arms: list[ArmEstimate], ceiling: Ceiling | None, step: int
) -> ChartSet:
    """Return the data of every chart that `step`'s samples (12, or 11 where 12 has none) can fill."""
    marks = arm_marks(arms)
    samples = sorted((s for s in campaign.samples.get(step, []) if in_schedule(s)), key=start_order)
    return ChartSet(
        speedup=_speedup(campaign, decision),
        order=_order(samples, marks, arms),
        latency=_latency(samples, marks, arms),
        token_time=token_time_chart(arms, ceiling, campaign.limits.target_ratio),
        nodes=_nodes(campaign, marks, step),
    )


def arm_marks(arms: Iterable[ArmEstimate]) -> dict[str, ArmMark]:
    """Give every arm its place: EXO first, then the baselines by name."""
    ordered = sorted(arms, key=lambda arm: (arm.engine != "exo", arm.arm))
    first = 0 if any(arm.engine == "exo" for arm in ordered) else 1
    return {
        arm.arm: ArmMark(arm.arm, one_line(arm_label(arm.arm, arm.engine), 24), place)
        for place, arm in enumerate(ordered, start=first)
    }


def _speedup(campaign: Campaign, decision: Decision) -> SpeedupChart | None:
    rows = [
        IntervalRow(f"Ollama {one_line(c.baseline, 20)}", c.ratio, c.lower, c.upper, c.hl_ratio, c.hl_lower, c.hl_upper)
        for c in decision.comparisons
        if math.isfinite(c.upper) and c.lower > 0
    ]
    if not rows:
        return None
    limits = campaign.limits
    bounds = "the bounds of the looks" if decision.looks else f"one-sided {limits.confidence:.0%} bounds"
    return SpeedupChart(limits.target_ratio, rows, bounds, METHOD_WORDS[decision.comparisons[0].method], decision.void)


def _order(samples: Sequence[Sample], marks: dict[str, ArmMark], arms: list[ArmEstimate]) -> OrderChart | None:
    means = {(run.arm, run.run): run.rate_tokens_per_s for arm in arms for run in arm.runs}
    blocks: list[RunBlock] = []
    for place, sample in enumerate((s for s in samples if s.arm in marks), start=1):
        point = RequestPoint(place, rate_tokens_per_s(sample), sample.warmup)
        if blocks and (blocks[-1].mark.arm, blocks[-1].run) == (sample.arm, sample.run):
            blocks[-1].points.append(point)
        else:
            mean = means.get((sample.arm, sample.run))
            blocks.append(RunBlock(marks[sample.arm], sample.run, [point], mean))
    return OrderChart(blocks) if blocks else None


def _latency(samples: Sequence[Sample], marks: dict[str, ArmMark], arms: list[ArmEstimate]) -> LatencyChart | None:
    first: list[LatencyRow] = []
    between: list[LatencyRow] = []
    for arm in sorted(arms, key=lambda arm: marks[arm.arm].order):
        good = [s for s in samples if s.arm == arm.arm and is_good(s)]
        if arm.first_token_s:
            values = [s.first_token_s for s in good if s.first_token_s is not None]
            first.append(_row(marks[arm.arm], arm.first_token_s, values))
        if arm.inter_token_s:
            gaps = [gap for s in good for gap in inter_token_gaps_s(s)]
            between.append(_row(marks[arm.arm], arm.inter_token_s, gaps))
    return LatencyChart(first, between) if first or between else None


def _row(mark: ArmMark, spread: Summary, values_s: Sequence[float]) -> LatencyRow:
    ordered = sorted(value * 1000 for value in values_s if value > 0)
    shown = ordered
    if len(ordered) > DOTS:
        shown = [ordered[round(place * (len(ordered) - 1) / (DOTS - 1))] for place in range(DOTS)]
    p10, median, p90, p99 = (
        max(value * 1000, LEAST_MS) for value in (spread.p10, spread.median, spread.p90, spread.p99)
    )
    return LatencyRow(mark, spread.n, p10, median, p90, p99, shown)


def _nodes(campaign: Campaign, marks: dict[str, ArmMark], step: int) -> NodeChart | None:
    conditions = campaign.conditions.get(step, [])
    started = campaign.started
    names = list(started)
    names += sorted({n for c in conditions for n in (*c.load_1m, *c.gpu_busy_percent)} - set(names))
    rows = []
    for name in names:
        process = started.get(name)
        busy: dict[str, list[float]] = {}
        for noted in conditions:
            if noted.arm in marks:
                busy.setdefault(noted.arm, []).extend(noted.gpu_busy_percent.get(name, []))
        rows.append(
            NodeRow(
                node=one_line(name, 24),
                device=one_line(process.device, 60) if process else "device not known",
                device_kind=process.device_kind if process else "unknown",
                load_per_cpu=[
                    c.load_1m[name] / c.cpu_count[name]
                    for c in conditions
                    if c.cpu_count.get(name) and name in c.load_1m
                ],
                gpu_busy_percent={arm: values for arm, values in busy.items() if values},
            )
        )
    if not any(row.load_per_cpu or row.gpu_busy_percent for row in rows):
        return None
    return NodeChart(rows, campaign.limits.load_per_cpu, sorted(marks.values(), key=lambda mark: mark.order))
