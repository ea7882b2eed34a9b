"""TTFT and ITL of every arm's timed requests, as distributions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from records.samples import Sample
from reports.charts.figure import INK, SMALL, ArmMark, log_axis, name_rows, some_of
from reports.stats.arms import ArmEstimate, by_arm
from reports.stats.runs import inter_token_gaps_s, is_good
from reports.stats.summary import Summary
from reports.text import format as fmt

if TYPE_CHECKING:
    from reports.charts.figure import Axes, Figure

LEAST_MS = 1e-3
"""What a time of zero is drawn as: the axis is logarithmic."""


class LatencyRow(msgspec.Struct, frozen=True):
    """One arm's times; `shown_ms` are some of the single ones."""

    mark: ArmMark
    times_s: Summary
    shown_ms: list[float]

    def in_words(self) -> str:
        """Return the row as words."""
        times = self.times_s
        return (
            f"{self.mark.label}: median {fmt.duration(times.median)}, p10 {fmt.duration(times.p10)}, "
            f"p90 {fmt.duration(times.p90)}, p99 {fmt.duration(times.p99)} ({times.n} values)"
        )


class LatencyChart(msgspec.Struct, frozen=True):
    """Both latencies of every arm that has them."""

    name: ClassVar[str] = "latency"
    title: ClassVar[str] = "TTFT (first token) and ITL (between tokens)"

    ttft: list[LatencyRow]
    itl: list[LatencyRow]

    @classmethod
    def of(
        cls, samples: Sequence[Sample], arms: Sequence[ArmEstimate], marks: dict[str, ArmMark]
    ) -> LatencyChart | None:
        """Return the chart of the good requests among `samples`; None where no latency is known."""
        ttft, itl, good_by_arm = [], [], by_arm(filter(is_good, samples))
        for arm in arms:
            good = good_by_arm.get(arm.arm, [])
            if arm.first_token_s:
                waits = (s.first_token_s for s in good if s.first_token_s is not None)
                ttft.append(LatencyRow(marks[arm.arm], arm.first_token_s, _shown_ms(waits)))
            if arm.inter_token_s:
                gaps = (gap for s in good for gap in inter_token_gaps_s(s))
                itl.append(LatencyRow(marks[arm.arm], arm.inter_token_s, _shown_ms(gaps)))
        return cls(ttft, itl) if ttft or itl else None

    @property
    def panels(self) -> list[tuple[str, list[LatencyRow]]]:
        """Return the panels that have rows, with their titles."""
        both = [("TTFT (first token)", self.ttft), ("ITL (between tokens)", self.itl)]
        return [(title, rows) for title, rows in both if rows]

    def alternative(self) -> str:
        """Return every arm's percentiles, in words."""
        return " ".join(f"{title}: {'; '.join(row.in_words() for row in rows)}." for title, rows in self.panels)

    def draw(self, figure: Figure) -> None:
        """Draw each arm's single times as dots, a bar from p10 to p90, a line at the median, p99 dashed."""
        figure.set_figheight(1.9 + 0.52 * (len(self.ttft) + len(self.itl)))
        heights = [len(rows) for _, rows in self.panels]
        grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
        for axes, (title, rows) in zip(grid[:, 0], self.panels, strict=True):
            axes.set_title(title)
            _distributions(axes, rows)
        grid[-1, 0].set_xlabel(
            "milliseconds (logarithmic)      dots: single times     bar: p10 to p90     line: median     dashed: p99",
            **SMALL,
        )


def _distributions(axes: Axes, rows: list[LatencyRow]) -> None:
    drawn: list[float] = []
    for place, row in enumerate(rows):
        colour, times = row.mark.colour, row.times_s
        p10, median, p90, p99 = (max(t * 1000, LEAST_MS) for t in (times.p10, times.median, times.p90, times.p99))
        wobble = [place + 0.26 + 0.05 * ((number * 7) % 5 - 2) for number in range(len(row.shown_ms))]
        axes.plot(row.shown_ms, wobble, row.mark.shape, color=colour, markersize=3, alpha=0.45, markeredgewidth=0)
        axes.plot([p10, p90], [place - 0.08] * 2, color=colour, linewidth=9, solid_capstyle="butt", alpha=0.55)
        axes.plot([median] * 2, [place - 0.22, place + 0.06], color=INK, linewidth=2.2)
        axes.plot([p99] * 2, [place - 0.18, place + 0.02], color=colour, linewidth=1.6, linestyle=(0, (2, 1)))
        axes.annotate(
            fmt.duration(times.median), (median, place - 0.2), (0, 2.5),
            textcoords="offset points", ha="center", va="bottom", fontsize=9, weight="bold",
        )  # fmt: skip
        drawn += [*row.shown_ms, p10, p99]
    axes.set_ylim(len(rows) - 0.45, -0.62)
    log_axis(axes, min(drawn) / 1.12, max(drawn) * 1.12)
    name_rows(axes, [row.mark.label for row in rows])


def _shown_ms(times_s: Iterable[float]) -> list[float]:
    return some_of(time * 1000 for time in times_s if time > 0)
