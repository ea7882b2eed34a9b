"""Titles of the charts and their text alternatives: what each one shows, with its numbers."""

from __future__ import annotations

from reports.charts.data import LatencyChart, LatencyRow, NodeChart, OrderChart, SpeedupChart, TokenTimeChart
from reports.text import format as fmt

TITLES = {
    "speedup": "Speed-up against the target",
    "requests": "Every request, in time order",
    "latency": "First token and the tokens after it",
    "token-time": "Where the time of one token goes",
    "nodes": "What every node computed on, and how busy it was",
}


def alternative(data: SpeedupChart | OrderChart | LatencyChart | TokenTimeChart | NodeChart) -> str:
    """Return what the chart shows as one paragraph of plain text."""
    if isinstance(data, SpeedupChart):
        return _speedup(data)
    if isinstance(data, OrderChart):
        return _order(data)
    if isinstance(data, LatencyChart):
        return _latency(data)
    if isinstance(data, TokenTimeChart):
        return _token_time(data)
    return _nodes(data)


def _speedup(data: SpeedupChart) -> str:
    if data.void:
        ratios = ", ".join(f"{row.label}: {fmt.ratio(row.ratio)}" for row in data.rows)
        return f"{data.void}. Ratios of EXO, crossed out as no evidence: {ratios}."
    rows = [
        f"{row.label}: {fmt.ratio(row.ratio)}, bounds {fmt.interval(row.lower, row.upper, data.target)}, "
        + (
            "all of it at or beyond the target line."
            if row.lower >= data.target
            else "all of it short of the target line."
            if row.upper < data.target
            else "across the target line."
        )
        for row in data.rows
    ]
    return f"Speed-up of EXO with its interval against a line at {data.target:.2f}×. " + " ".join(rows)


def _order(data: OrderChart) -> str:
    arms: dict[str, list[float]] = {}
    warmups = failed = total = 0
    for block in data.blocks:
        rates = arms.setdefault(block.mark.label, [])
        for point in block.points:
            total += 1
            warmups += point.warmup
            failed += point.rate_tokens_per_s is None
            if point.rate_tokens_per_s is not None and not point.warmup:
                rates.append(point.rate_tokens_per_s)
    ranges = [
        f"{label}: {fmt.digits(min(rates))} to {fmt.digits(max(rates))} tokens per second"
        for label, rates in arms.items()
        if rates
    ]
    return (
        f"Output rate of all {total} requests in the order they were sent, "
        f"in {fmt.count(len(data.blocks), 'run')}; "
        f"{fmt.count(warmups, 'warm-up')} hollow and discarded, {failed} failed. " + "; ".join(ranges) + "."
    )


def _latency(data: LatencyChart) -> str:
    def words(rows: list[LatencyRow]) -> str:
        return "; ".join(
            f"{row.mark.label}: median {fmt.duration(row.median_ms / 1000)}, "
            f"p10 {fmt.duration(row.p10_ms / 1000)}, p90 {fmt.duration(row.p90_ms / 1000)}, "
            f"p99 {fmt.duration(row.p99_ms / 1000)} ({row.n} values)"
            for row in rows
        )

    parts = [("Time to first token", data.first_token), ("Time between tokens", data.inter_token)]
    return " ".join(f"{title}: {words(rows)}." for title, rows in parts if rows)


def _token_time(data: TokenTimeChart) -> str:
    bars = [
        f"{bar.label}: {fmt.digits(sum(part.milliseconds for part in bar.parts))} ms"
        + (
            " (" + ", ".join(f"{part.label} {fmt.digits(part.milliseconds)} ms" for part in bar.parts) + ")"
            if len(bar.parts) > 1
            else ""
        )
        for bar in data.bars
    ]
    needed = f" The target needs {fmt.digits(data.target_ms)} ms." if data.target_ms is not None else ""
    return "Milliseconds per output token. " + "; ".join(bars) + "." + needed


def _nodes(data: NodeChart) -> str:
    rows = []
    for row in data.rows:
        load = (
            f"load per CPU before the runs {min(row.load_per_cpu):.2f} to {max(row.load_per_cpu):.2f}"
            if row.load_per_cpu
            else "load not read"
        )
        labels = {mark.arm: mark.label for mark in data.marks}
        busy = [
            f"GPU {min(values):.0f} to {max(values):.0f}% busy while {labels.get(arm, arm)} ran"
            for arm, values in row.gpu_busy_percent.items()
            if values
        ]
        rows.append(f"{row.node} ({row.device}): " + ", ".join([load, *busy]) + ".")
    return f"Load limit {data.load_limit:g} per CPU. " + " ".join(rows)
