"""The speed-up over every baseline, with its interval, against the target."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from reports.charts.figure import ALARM, CARD, COLOURS, FAINT, INK, QUIET, SMALL, log_axis, name_rows
from reports.stats.comparison import METHOD, Comparison
from reports.text import format as fmt
from reports.text.escape import one_line
from reports.verdict.decision import Decision

if TYPE_CHECKING:
    from reports.charts.figure import Axes, Figure

REACHED = "#dcebe0"
SAYS = {
    "above": "all of it at or beyond the target line",
    "below": "all of it short of the target line",
    "across": "across the target line",
}


class SpeedupChart(msgspec.Struct, frozen=True):
    """EXO's rate over every baseline's."""

    name: ClassVar[str] = "speedup"
    title: ClassVar[str] = "Speed-up against the target"

    target: float
    comparisons: list[Comparison]
    """Those whose interval is bounded."""
    bounds: str
    """What the bar is: `one-sided 95% bounds`, over all looks where there were several."""
    void: str = ""
    """Why the ratios are no evidence; written across the chart, which then shows no side of the target as reached."""

    @classmethod
    def of(cls, decision: Decision) -> SpeedupChart | None:
        """Return the chart of a decision; None where no ratio has bounds yet."""
        bounded = [c for c in decision.comparisons if math.isfinite(c.upper) and c.lower > 0]
        limits = decision.limits
        bounds = f"one-sided {limits.confidence:.0%} bounds{' over all looks' if decision.looks else ''}"
        return cls(limits.target_ratio, bounded, bounds, decision.void) if bounded else None

    def alternative(self) -> str:
        """Return the ratios, their bounds and where these lie, in words."""
        if self.void:
            ratios = ", ".join(f"{_label(c)}: {fmt.ratio(c.ratio)}" for c in self.comparisons)
            return f"{self.void}. Ratios of EXO, crossed out as no evidence: {ratios}."
        rows = [
            f"{_label(c)}: {fmt.ratio(c.ratio)}, bounds {fmt.interval(c.lower, c.upper, self.target)}, {SAYS[c.says]}."
            for c in self.comparisons
        ]
        return f"Speed-up of EXO with its interval against a line at {self.target:.2f}×. " + " ".join(rows)

    def draw(self, figure: Figure) -> None:
        """Draw a ring with its interval per baseline, the cross-check under it, the target as a line."""
        figure.set_figheight(1.55 + 0.85 * len(self.comparisons))
        axes = figure.subplots()
        values = [v for c in self.comparisons for v in (c.lower, c.upper, *_cross_check(c))]
        low, high = min([*values, 0.92, self.target / 1.1]), max([*values, self.target * 1.08])
        margin = (high / low) ** 0.06
        low, high = low / margin, high * margin
        log_axis(axes, low, high, "×")  # twice as fast and half as fast are equally far from equal speed
        axes.set_ylim(len(self.comparisons) - 0.45, -0.62)
        if not self.void:
            axes.axvspan(self.target, high, color=REACHED, zorder=0)
        self._lines(axes)
        for place, comparison in enumerate(self.comparisons):
            self._row(axes, place, comparison)
        if self.void:
            axes.text(
                0.5, 0.5, self.void, transform=axes.transAxes, ha="center", va="center", weight="bold", fontsize=11,
                color=ALARM, zorder=9, bbox={"facecolor": CARD, "edgecolor": ALARM, "linewidth": 2, "pad": 7},
            )  # fmt: skip
        name_rows(axes, [_label(c) for c in self.comparisons], grid=False)
        check = "\ndiamond and dashes: Hodges-Lehmann cross-check" if any(map(_cross_check, self.comparisons)) else ""
        axes.set_xlabel(
            f"speed-up: EXO's output tokens per second ÷ Ollama's, with {self.bounds}\nring and bar: {METHOD}{check}",
            **SMALL,
        )

    def _lines(self, axes: Axes) -> None:
        """Draw target and equal speed; their labels lean away from each other, so that they never meet."""
        axes.axvline(self.target, color=INK, linewidth=2)
        axes.axvline(1, color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
        away, back = ("left", "right") if self.target >= 1 else ("right", "left")
        top = axes.get_xaxis_transform()
        axes.text(
            self.target, 1.02, f" target {self.target:.2f}× ", transform=top, ha=away, weight="bold", fontsize=9.5
        )
        axes.text(1, 1.02, " equal speed ", transform=top, ha=back, **SMALL)

    def _row(self, axes: Axes, place: int, c: Comparison) -> None:
        colour = FAINT if self.void else COLOURS[0]
        axes.plot([c.lower, c.upper], [place, place], color=colour, linewidth=5, solid_capstyle="butt")
        axes.plot([c.ratio], [place], "o", color=CARD, markeredgecolor=colour, markeredgewidth=3, markersize=11)
        right = axes.get_yaxis_transform()
        size: dict[str, Any] = {"color": QUIET, "fontsize": 11} if self.void else {"weight": "bold", "fontsize": 13}
        axes.text(1.03, place - 0.11, fmt.ratio(c.ratio), transform=right, va="center", **size)
        bounds = fmt.interval(c.lower, c.upper, self.target)
        axes.text(1.03, place + 0.17, bounds, transform=right, va="center", fontsize=9.5)
        if check := _cross_check(c):
            below = place + 0.22
            axes.plot(check, [below, below], color=QUIET, linewidth=1.4, linestyle="--")
            axes.plot([c.hl_ratio], [below], "D", color=QUIET, markersize=4.5)


def _label(comparison: Comparison) -> str:
    return f"Ollama {one_line(comparison.baseline, 20)}"


def _cross_check(c: Comparison) -> list[float]:
    """Return the cross-check's bounds; empty where so few runs have none."""
    return [c.hl_lower, c.hl_upper] if c.hl_lower is not None and c.hl_upper is not None else []
