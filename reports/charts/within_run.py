"""Each request against its place in its run: an arm that a run warms up, or tires."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from reports.charts.figure import CARD, QUIET, SMALL, ArmMark, some_of
from reports.stats.within_run import WithinRun
from reports.text import format as fmt

if TYPE_CHECKING:
    from reports.charts.figure import Figure

APART = 0.12


class WithinRunChart(msgspec.Struct, frozen=True):
    """The rate by the place of a request in its run, over the mean of that run."""

    name: ClassVar[str] = "within-run"
    title: ClassVar[str] = "Drift within a run"

    rows: list[tuple[ArmMark, WithinRun]]

    @classmethod
    def of(cls, found: Sequence[WithinRun], marks: dict[str, ArmMark]) -> WithinRunChart | None:
        """Return the chart of the arms that have enough runs of several requests; None where none has."""
        rows = [(marks[row.arm], row) for row in found if row.arm in marks]
        return cls(rows) if rows else None

    def alternative(self) -> str:
        """Return every arm's change from the first to the last request of a run, in words."""
        told = [
            f"{mark.label} {row.change:+.1%} over {fmt.count(len(row.changes), 'run')}".replace("-", "\u2212")
            for mark, row in self.rows
        ]
        return f"Change of the rate from the first to the last timed request of a run, on average: {'; '.join(told)}."

    def draw(self, figure: Figure) -> None:
        """Draw a mark a request, the mean of a place as a larger one, joined by a line."""
        figure.set_figheight(3.0)
        axes = figure.subplots()
        axes.axhline(100, color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
        longest = max(len(row.places) for _, row in self.rows)
        for order, (mark, row) in enumerate(self.rows):
            shift = APART * (order - (len(self.rows) - 1) / 2)
            at = [place + 1 + shift for place, values in enumerate(row.places) if values]
            for x, values in zip(at, filter(None, row.places), strict=True):
                shares = [100 * value for value in some_of(values)]
                axes.plot([x] * len(shares), shares, mark.shape, color=CARD, markeredgecolor=mark.colour, markersize=4)
            means = [100 * statistics.fmean(values) for values in row.places if values]
            axes.plot(at, means, mark.shape, color=mark.colour, linestyle="-", linewidth=1.3, markersize=7.5)
        axes.set_xticks(range(1, longest + 1))
        axes.set_xlim(0.5, longest + 0.5)
        axes.grid(axis="y")
        axes.set_ylabel("% of its run's mean")
        axes.set_xlabel("place of a timed request in its run; hollow: one request, filled: their mean", **SMALL)
        handles = [axes.plot([], [], m.shape, color=m.colour, label=m.label)[0] for m, _ in self.rows]
        figure.legend(handles=handles, loc="outside upper left", ncols=4, fontsize=9, handletextpad=0.5)
