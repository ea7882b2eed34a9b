"""The ratio of every round, in order, against the target: what the verdict is made of."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, ClassVar

import msgspec

from reports.charts.figure import ALARM, BAND, CARD, FAINT, INK, QUIET, SMALL, ArmMark, round_ticks
from reports.stats.comparison import Comparison
from reports.text import format as fmt
from reports.verdict.decision import Decision

if TYPE_CHECKING:
    from reports.charts.figure import Axes, Figure

SPOKEN = 30
"""Rounds that the words name one by one."""
MARKS = 400
APART = 0.16
"""Of a round's width: how far the baselines of one round stand from each other."""


class RoundsChart(msgspec.Struct, frozen=True):
    """EXO over every baseline, round by round, and the interval that follows from it at the right."""

    name: ClassVar[str] = "rounds"
    title: ClassVar[str] = "The ratio of every round"

    target: float
    rows: list[tuple[ArmMark, Comparison]]
    void: str = ""
    """Why the ratios are no evidence."""

    @classmethod
    def of(cls, decision: Decision, marks: dict[str, ArmMark]) -> RoundsChart | None:
        """Return the chart of a decision; None where there is no round."""
        rows = [(marks[c.baseline], c) for c in decision.comparisons if c.baseline in marks and c.rounds]
        return cls(decision.limits.target_ratio, rows, decision.void) if rows else None

    @property
    def every(self) -> int:
        """Of so many rounds one is drawn: an eye tells no more than MARKS of them apart."""
        return -(-max(len(c.rounds) for _, c in self.rows) // MARKS)

    def alternative(self) -> str:
        """Return every round's ratio in words, and which rounds are lost."""
        told = [f"EXO over {mark.label}: {_in_words(c)}." for mark, c in self.rows]
        lost = self.rows[0][1].lost
        lines = f"against a line at {self.target:.2f}×"
        missing = f" Lost: round {fmt.listed([str(number) for number in lost])}." if lost else ""
        void = f"{self.void}. " if self.void else ""
        return (
            f"{void}The speed-up in every round, the arms' common trend taken out, {lines}. {' '.join(told)}{missing}"
        )

    def draw(self, figure: Figure) -> None:
        """Draw a mark a round and baseline, as measured faint behind it, the interval in a column of its own."""
        figure.set_figheight(3.4)
        axes = figure.subplots()
        numbers = sorted({r.round for _, c in self.rows for r in c.rounds} | set(self.rows[0][1].lost))
        half = max(0.5, 0.05 * (numbers[-1] - numbers[0]))  # of the bounds' column
        right = numbers[-1] + 0.7 + half
        axes.axvspan(right - half, right + half, color=BAND, linewidth=0, zorder=0)
        axes.axhline(self.target, color=INK, linewidth=2)
        for place, (mark, comparison) in enumerate(self.rows):
            shift = APART * (place - (len(self.rows) - 1) / 2)
            self._arm(axes, mark, comparison, shift, right + 3 * half * shift)
        lost = self.rows[0][1].lost
        axes.vlines(lost, 0, 1, transform=axes.get_xaxis_transform(), color=ALARM, linewidth=1, linestyle="--")
        ratios = [v for _, c in self.rows for r in c.rounds for v in (r.ratio, r.measured)]
        bounds = [v for _, c in self.rows for v in (c.lower, c.upper) if v > 0 and math.isfinite(v)]
        low, high = min([*ratios, *bounds, self.target]), max([*ratios, *bounds, self.target])
        margin = (high / low) ** 0.08
        axes.set_yscale("log")
        axes.set_ylim(low / margin, high * margin)
        ticks = round_ticks(low / margin, high * margin)
        axes.set_yticks(ticks, [f"{tick:g}×" for tick in ticks])
        axes.set_yticks([], minor=True)
        axes.set_xlim(numbers[0] - 0.6, right + half + 0.1)
        shown = numbers[:: -(-len(numbers) // 20)]
        axes.set_xticks([*shown, right], [*map(str, shown), "bounds"])
        axes.grid(axis="y")
        axes.text(numbers[0] - 0.55, self.target, f"target {self.target:.2f}×", va="bottom", weight="bold", fontsize=9)
        thinned = f", one in {self.every} shown" if self.every > 1 else ""
        axes.set_xlabel(f"round, in time order{thinned}{'; dashed: lost' if lost else ''}", **SMALL)
        axes.set_ylabel("speed-up")
        handles = [axes.plot([], [], m.shape, color=m.colour, label=f"over {m.label}")[0] for m, _ in self.rows]
        handles += axes.plot([], [], "o", color=CARD, markeredgecolor=FAINT, label="as measured, trend and all")
        figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=9, handletextpad=0.5)

    def _arm(self, axes: Axes, mark: ArmMark, comparison: Comparison, shift: float, at: float) -> None:
        colour = FAINT if self.void else mark.colour
        rounds = comparison.rounds[:: self.every]
        places = [r.round + shift for r in rounds]
        measured, ratios = zip(*((r.measured, r.ratio) for r in rounds), strict=True)
        axes.plot(places, measured, mark.shape, color=CARD, markeredgecolor=FAINT, markersize=6)
        axes.plot(places, ratios, mark.shape, color=colour, markersize=6.5)
        if comparison.lower > 0 and math.isfinite(comparison.upper):
            axes.plot([at, at], [comparison.lower, comparison.upper], color=colour, linewidth=4, solid_capstyle="butt")
        axes.plot([at], [comparison.ratio], mark.shape, color=CARD, markeredgecolor=QUIET, markersize=8)


def _in_words(comparison: Comparison) -> str:
    rounds = comparison.rounds
    if len(rounds) <= SPOKEN:
        return ", ".join(f"round {r.round} {fmt.ratio(r.ratio)}" for r in rounds)
    ratios = [r.ratio for r in rounds]
    middle = fmt.ratio(statistics.median(ratios))
    return f"{len(rounds)} rounds, {fmt.ratio(min(ratios))} to {fmt.ratio(max(ratios))}, the median {middle}"
