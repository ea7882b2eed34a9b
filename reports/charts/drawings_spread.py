"""The drawings of spreads: latencies and the nodes' load. Style and look are those of drawings.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.charts.data import LatencyChart, LatencyRow, NodeChart
from reports.charts.drawings import COLOURS, INK, QUIET, look, round_ticks
from reports.text import format as fmt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def latency(figure: Figure, data: LatencyChart) -> None:
    """Draw both distributions: single times as dots, a bar from p10 to p90, a dark line at the median, p99 dashed."""
    panels = [
        ("Time to first token", data.first_token),
        ("Time between tokens", data.inter_token),
    ]
    panels = [panel for panel in panels if panel[1]]
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[len(rows) for _, rows in panels])
    for axes, (title, rows) in zip(grid[:, 0], panels, strict=True):
        _distribution(axes, title, rows)
    grid[-1, 0].set_xlabel(
        "milliseconds (logarithmic)      dots: single times     bar: p10 to p90     line: median     dashed: p99",
        fontsize=9,
        color=QUIET,
    )


def _distribution(axes: Axes, title: str, rows: list[LatencyRow]) -> None:
    axes.set_title(title)
    axes.set_xscale("log")
    for place, row in enumerate(rows):
        colour, shape = look(row.mark)
        wobble = [place + 0.26 + 0.05 * ((number * 7) % 5 - 2) for number in range(len(row.shown_ms))]
        axes.plot(row.shown_ms, wobble, shape, color=colour, markersize=3, alpha=0.45, markeredgewidth=0)
        bar = [row.p10_ms, row.p90_ms]
        axes.plot(bar, [place - 0.08] * 2, color=colour, linewidth=9, solid_capstyle="butt", alpha=0.55)
        axes.plot([row.median_ms] * 2, [place - 0.22, place + 0.06], color=INK, linewidth=2.2)
        axes.plot([row.p99_ms] * 2, [place - 0.18, place + 0.02], color=colour, linewidth=1.6, linestyle=(0, (2, 1)))
        axes.annotate(
            f"{fmt.duration(row.median_ms / 1000)}", (row.median_ms, place - 0.2), (0, 2.5),
            textcoords="offset points", ha="center", va="bottom", fontsize=9, weight="bold",
        )  # fmt: skip
    axes.set_ylim(len(rows) - 0.45, -0.62)
    axes.set_yticks(range(len(rows)), [row.mark.label for row in rows])
    everything = [v for row in rows for v in (*row.shown_ms, row.p99_ms, row.p10_ms) if v > 0]
    if everything:
        low, high = min(everything) / 1.12, max(everything) * 1.12
        axes.set_xlim(low, high)
        ticks = round_ticks(low, high)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def nodes(figure: Figure, data: NodeChart) -> None:
    """Draw each node's load before the runs against the limit, and how busy its GPU was while each arm ran."""
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_title("Load before each run, per CPU")
    right.set_title("GPU busy during the runs")
    for place, row in enumerate(data.rows):
        loads = row.load_per_cpu
        left.plot(
            loads, _spread(place, len(loads)), "o", color=COLOURS[0], markersize=4.5, alpha=0.6, markeredgewidth=0
        )
        if not loads:
            left.text(0.02, place, "not read", va="center", color=QUIET, fontsize=9)
        drawn = [(mark, row.gpu_busy_percent[mark.arm]) for mark in data.marks if row.gpu_busy_percent.get(mark.arm)]
        for lane, (mark, busy) in enumerate(drawn):
            colour, shape = look(mark)
            height = place + 0.2 * (lane - (len(drawn) - 1) / 2)
            right.plot([min(busy), max(busy)], [height] * 2, color=colour, linewidth=1.4)
            middle = sorted(busy)[len(busy) // 2]
            right.plot([middle], [height], shape, color=colour, markersize=6.5, label=mark.label)
        if not drawn:
            right.text(
                2,
                place,
                "no reading" if row.device_kind != "cpu" else "no GPU used",
                va="center",
                color=QUIET,
                fontsize=9,
            )
    left.axvline(data.load_limit, color=INK, linewidth=2)
    left.text(data.load_limit, 1.0, " limit", transform=left.get_xaxis_transform(), va="top", fontsize=9)
    left.set_xlim(0, max([data.load_limit * 1.5, *(1.1 * v for row in data.rows for v in row.load_per_cpu)]))
    right.set_xlim(-3, 103)
    left.set_ylim(len(data.rows) - 0.5, -0.5)
    kind = {"gpu": "GPU", "cpu": "CPU", "unknown": "device not known"}
    left.set_yticks(range(len(data.rows)), [f"{row.node}\n{kind[row.device_kind]}" for row in data.rows])
    right.set_xlabel("percent (line: least to most, mark: median)", fontsize=9, color=QUIET)
    left.set_xlabel("1 = every CPU busy", fontsize=9, color=QUIET)
    for axes in (left, right):
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
    unique = dict(zip(*reversed(right.get_legend_handles_labels()), strict=True))
    if unique:
        figure.legend(unique.values(), unique.keys(), loc="outside upper right", ncols=3, fontsize=9)


def _spread(place: float, n: int) -> list[float]:
    """Return n heights about `place`, so that equal values do not hide each other; never random."""
    return [place + 0.055 * ((number * 3) % 7 - 3) for number in range(n)]
