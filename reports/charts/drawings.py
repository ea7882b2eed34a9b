"""Speed-up, order and token time, each drawn on a figure handed in; drawings_spread.py has the others.

Shapes, hatches and labels carry the meaning, colour only helps. Everything must be readable printed in grey: the
colours differ in lightness too, every arm has a shape of its own, discarded requests are hollow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.charts.data import ArmMark, OrderChart, SpeedupChart, TokenTimeChart
from reports.text import format as fmt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CARD, INK, QUIET, FAINT, GRID = "#fbfaf7", "#1f2a37", "#5b6673", "#b9b4a8", "#e4e0d6"
ALARM = "#a1260d"
COLOURS = ("#0b4f9e", "#e08f1f", "#8a4f9e", "#2f8f83", "#8c6d46")
SHAPES = ("o", "s", "^", "D", "v")
HATCHES = {"compute": "", "hops": "////", "rest": "\\\\\\", "whole": "", "undivided": ""}
FILLS = {"compute": "#0b4f9e", "hops": "#f3c98b", "rest": "#e9e6df", "whole": "#98a2ae", "undivided": "#5d86bd"}


def speedup(figure: Figure, data: SpeedupChart) -> None:
    """Draw a dot with its interval per baseline, the cross-check under it, the target as a line."""
    axes = figure.subplots()
    values = [v for row in data.rows for v in (row.lower, row.upper, row.check_lower, row.check_upper) if v]
    low, high = min([*values, 0.92, data.target / 1.1]), max([*values, data.target * 1.08])
    margin = (high / low) ** 0.06
    low, high = low / margin, high * margin
    axes.set_xscale("log")  # twice as fast and half as fast are equally far from equal speed
    axes.set_xlim(low, high)
    axes.set_ylim(len(data.rows) - 0.45, -0.62)
    if not data.void:
        axes.axvspan(data.target, high, color="#dcebe0", zorder=0)
    axes.axvline(data.target, color=INK, linewidth=2)
    axes.axvline(1, color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
    ticks = round_ticks(low, high)
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    axes.set_xticks([], minor=True)
    # The two labels lean away from each other, so that they never meet.
    sides = ("left", "right") if data.target >= 1 else ("right", "left")
    top = axes.get_xaxis_transform()
    axes.text(data.target, 1.02, f" target {data.target:.2f}×", transform=top, ha=sides[0], weight="bold", fontsize=9.5)
    axes.text(1, 1.02, "equal speed ", transform=top, ha=sides[1], color=QUIET, fontsize=9)
    for place, row in enumerate(data.rows):
        colour = FAINT if data.void else COLOURS[0]
        axes.plot([row.lower, row.upper], [place, place], color=colour, linewidth=5, solid_capstyle="butt")
        axes.plot([row.ratio], [place], "o", color=CARD, markeredgecolor=colour, markeredgewidth=3, markersize=11)
        right = axes.get_yaxis_transform()
        size: dict[str, Any] = {"color": QUIET, "fontsize": 11} if data.void else {"weight": "bold", "fontsize": 13}
        axes.text(1.03, place - 0.11, fmt.ratio(row.ratio), transform=right, va="center", **size)
        bounds = fmt.interval(row.lower, row.upper, data.target)
        axes.text(1.03, place + 0.17, bounds, transform=right, va="center", fontsize=9.5)
        if row.check_ratio is not None and row.check_lower is not None and row.check_upper is not None:
            below = place + 0.22
            axes.plot([row.check_lower, row.check_upper], [below, below], color=QUIET, linewidth=1.4, linestyle="--")
            axes.plot([row.check_ratio], [below], "D", color=QUIET, markersize=4.5)
    if data.void:
        axes.text(
            0.5, 0.5, data.void, transform=axes.transAxes, ha="center", va="center", weight="bold", fontsize=11,
            color=ALARM, zorder=9, bbox={"facecolor": CARD, "edgecolor": ALARM, "linewidth": 2, "pad": 7},
        )  # fmt: skip
    axes.set_yticks(range(len(data.rows)), [row.label for row in data.rows])
    check = "     diamond and dashes: Hodges-Lehmann cross-check" if any(row.check_lower for row in data.rows) else ""
    axes.set_xlabel(
        f"speed-up: EXO's output tokens per second ÷ Ollama's, with {data.bounds}\nring and bar: {data.method}{check}",
        fontsize=9,
        color=QUIET,
    )
    axes.spines["left"].set_visible(False)


def order(figure: Figure, data: OrderChart) -> None:
    """Draw every request in the order of sending, on one band a run; warm-ups hollow, failures as crosses at 0."""
    axes = figure.subplots()
    seen: dict[str, ArmMark] = {}
    rates = [p.rate_tokens_per_s for b in data.blocks for p in b.points if p.rate_tokens_per_s is not None]
    top = max(rates, default=1.0) * 1.12
    for number, block in enumerate(data.blocks):
        first, last = block.points[0].place, block.points[-1].place
        seen.setdefault(block.mark.arm, block.mark)
        if number % 2:
            axes.axvspan(first - 0.5, last + 0.5, color="#f0ede5", linewidth=0, zorder=0)
        colour, shape = look(block.mark)
        for point in block.points:
            if point.rate_tokens_per_s is None:
                axes.plot([point.place], [0], "X", color=ALARM, markersize=9, clip_on=False, zorder=5)
            else:
                face = CARD if point.warmup else colour
                axes.plot(
                    [point.place], [point.rate_tokens_per_s], shape, color=face, markeredgecolor=colour, markersize=6.5
                )
        if block.mean_tokens_per_s is not None:
            axes.plot([first - 0.3, last + 0.3], [block.mean_tokens_per_s] * 2, color=INK, linewidth=1.3, zorder=1)
        if len(data.blocks) <= 30:
            axes.text((first + last) / 2, top, str(block.run), ha="center", va="top", fontsize=8, color=QUIET)
    axes.set_ylim(0, top)
    axes.set_xlim(0.3, data.blocks[-1].points[-1].place + 0.7)
    axes.grid(axis="y")
    axes.set_ylabel("output tokens per second")
    axes.set_xlabel(
        "requests in the order they were sent; a band is one run, its number on top", fontsize=9, color=QUIET
    )
    marks = sorted(seen.values(), key=lambda mark: mark.order)
    handles = [axes.plot([], [], look(m)[1], color=look(m)[0], markersize=7, label=m.label)[0] for m in marks]
    handles += axes.plot([], [], "o", color=CARD, markeredgecolor=QUIET, label="hollow: warm-up, discarded")
    handles += axes.plot([], [], color=INK, linewidth=1.3, label="mean of a run")
    if any(p.rate_tokens_per_s is None for b in data.blocks for p in b.points):
        handles += axes.plot([], [], "X", color=ALARM, markersize=8, linestyle="", label="failed")
    figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=9, handletextpad=0.5, columnspacing=1.6)


def token_time(figure: Figure, data: TokenTimeChart) -> None:
    """Draw one bar a system, its parts told apart by hatch and by the words in or beside them."""
    axes = figure.subplots()
    longest = max([sum(p.milliseconds for p in bar.parts) for bar in data.bars] + [data.target_ms or 0.0, 1e-9])
    named: set[str] = set()
    for place, bar in enumerate(data.bars):
        left = 0.0
        for part in bar.parts:
            label = part.label if part.label not in named else None
            named.add(part.label)
            axes.barh(
                place, part.milliseconds, left=left, height=0.52, color=FILLS[part.kind], edgecolor=INK,
                linewidth=0.8, hatch=HATCHES[part.kind], label=label,
            )  # fmt: skip
            left += part.milliseconds
        axes.text(left + longest * 0.012, place, f"{fmt.digits(left)} ms", va="center", weight="bold", fontsize=9.5,
            bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    if data.target_ms is not None:
        axes.axvline(data.target_ms, color=INK, linewidth=2)
        axes.text(
            data.target_ms, 1.02, f"needed for the target: {fmt.digits(data.target_ms)} ms",
            transform=axes.get_xaxis_transform(), fontsize=9,
            ha="left" if data.target_ms < 0.2 * longest else "center" if data.target_ms < 0.75 * longest else "right",
        )  # fmt: skip
    axes.set_xlim(0, longest * 1.14)
    axes.set_ylim(len(data.bars) - 0.5, -0.5)
    axes.set_yticks(range(len(data.bars)), [bar.label for bar in data.bars])
    axes.set_xlabel("milliseconds per output token, while decoding", fontsize=9, color=QUIET)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=4, fontsize=9, columnspacing=1.4)


def look(mark: ArmMark) -> tuple[str, str]:
    """Return colour and shape of an arm."""
    return COLOURS[mark.order % len(COLOURS)], SHAPES[mark.order % len(SHAPES)]


def round_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between `low` and `high` for a logarithmic axis, three to seven of them."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(1 + 0.2 * n for n in range(45))):
        ticks = [step * 10.0**power for power in range(-4, 9) for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) >= 3:
            return ticks[:: -(-len(ticks) // 7)]
    return [low, high]
