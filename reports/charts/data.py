"""What each chart shows, as plain numbers, and its words for people who do not see it. No drawing here."""

from __future__ import annotations

import msgspec


class ArmMark(msgspec.Struct, frozen=True):
    """How one arm is told apart everywhere: by its place in the order, its name and its shape; colour comes last."""

    arm: str
    label: str
    order: int
    """0 is EXO, the baselines follow; shapes, hatches and colours are taken by it."""


class IntervalRow(msgspec.Struct, frozen=True):
    """One baseline's speed-up with its bounds; the cross-check's beside it."""

    label: str
    ratio: float
    lower: float
    upper: float
    check_ratio: float | None = None
    check_lower: float | None = None
    check_upper: float | None = None


class SpeedupChart(msgspec.Struct, frozen=True):
    """Speed-up EXO / Ollama per baseline against the target."""

    target: float
    rows: list[IntervalRow]
    bounds: str
    """What the bar is: `one-sided 95% bounds`, or the bounds of a look."""
    method: str
    void: str = ""
    """Why the ratios are no evidence; written across the chart, which then shows no side as reached."""


class RequestPoint(msgspec.Struct, frozen=True):
    """One request at its place in the order of sending (from 1). `rate` is None where it failed."""

    place: int
    rate_tokens_per_s: float | None
    warmup: bool


class RunBlock(msgspec.Struct, frozen=True):
    """One run of one arm: its requests and the mean of the timed ones (None where none was good)."""

    mark: ArmMark
    run: int
    points: list[RequestPoint]
    mean_tokens_per_s: float | None


class OrderChart(msgspec.Struct, frozen=True):
    """Every request of a step in time order."""

    blocks: list[RunBlock]


class LatencyRow(msgspec.Struct, frozen=True):
    """One arm's times in milliseconds; `shown_ms` are at most 200 of them, evenly taken from the sorted list."""

    mark: ArmMark
    n: int
    p10_ms: float
    median_ms: float
    p90_ms: float
    p99_ms: float
    shown_ms: list[float]


class LatencyChart(msgspec.Struct, frozen=True):
    """First-token and inter-token times of the timed requests."""

    first_token: list[LatencyRow]
    inter_token: list[LatencyRow]


class TimePart(msgspec.Struct, frozen=True):
    """One piece of a bar: `kind` is `compute`, `hops`, `rest` (measured beyond both), `whole` or `undivided`."""

    label: str
    kind: str
    milliseconds: float


class TokenBar(msgspec.Struct, frozen=True):
    """Where the time of one token goes on one system."""

    label: str
    parts: list[TimePart]


class TokenTimeChart(msgspec.Struct, frozen=True):
    """Time per token: single nodes, the best a pipeline could do, and EXO as measured."""

    bars: list[TokenBar]
    target_ms: float | None
    """What EXO would need for the target ratio against the fastest baseline."""


class NodeRow(msgspec.Struct, frozen=True):
    """One node: what it computes on and what kept it busy."""

    node: str
    device: str
    device_kind: str
    """`gpu`, `cpu` or `unknown`."""
    load_per_cpu: list[float]
    """Load average per CPU just before each run; 1 is all CPUs busy."""
    gpu_busy_percent: dict[str, list[float]]
    """Arm label -> samples during its runs."""


class NodeChart(msgspec.Struct, frozen=True):
    """Device and load of every node."""

    rows: list[NodeRow]
    load_limit: float
    marks: list[ArmMark]


class ChartSet(msgspec.Struct, frozen=True):
    """The charts of one report. None where there is nothing to draw yet."""

    speedup: SpeedupChart | None = None
    order: OrderChart | None = None
    latency: LatencyChart | None = None
    token_time: TokenTimeChart | None = None
    nodes: NodeChart | None = None
