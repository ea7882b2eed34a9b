"""Every request of a step in the order of sending: what drifted, what failed, what was discarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from records.samples import Sample
from reports.charts.figure import ALARM, BAND, CARD, INK, QUIET, SMALL, ArmMark
from reports.stats.arms import ArmEstimate
from reports.stats.runs import rate_tokens_per_s
from reports.text import format as fmt

if TYPE_CHECKING:
    from reports.charts.figure import Axes, Figure

NUMBERED = 30
"""With more runs than these there is no room for their numbers."""


class RequestPoint(msgspec.Struct, frozen=True):
    """One request at its place in the order of sending (from 1). Its rate is None where it failed."""

    place: int
    rate_tokens_per_s: float | None
    warmup: bool


class RunBand(msgspec.Struct, frozen=True):
    """One run of one arm: its requests and the mean of the timed ones (None where none was good)."""

    mark: ArmMark
    run: int
    points: list[RequestPoint]
    mean_tokens_per_s: float | None


class RequestsChart(msgspec.Struct, frozen=True):
    """Every request in time order, one band a run."""

    name: ClassVar[str] = "requests"
    title: ClassVar[str] = "Every request, in time order"

    bands: list[RunBand]

    @classmethod
    def of(
        cls, samples: Sequence[Sample], arms: Sequence[ArmEstimate], marks: dict[str, ArmMark]
    ) -> RequestsChart | None:
        """Return the chart of `samples`, which come in the order of sending; None where there is none."""
        means = {(run.arm, run.run): run.rate_tokens_per_s for arm in arms for run in arm.runs}
        bands: list[RunBand] = []
        for place, sample in enumerate((s for s in samples if s.arm in marks), start=1):
            mark, run = marks[sample.arm], sample.run
            if not bands or (bands[-1].mark, bands[-1].run) != (mark, run):
                bands.append(RunBand(mark, run, [], means.get((sample.arm, run))))
            bands[-1].points.append(RequestPoint(place, rate_tokens_per_s(sample), sample.warmup))
        return cls(bands) if bands else None

    @property
    def points(self) -> list[RequestPoint]:
        """Return the requests of all runs."""
        return [point for band in self.bands for point in band.points]

    def alternative(self) -> str:
        """Return how many requests there were and the range of every arm's rates, in words."""
        rates: dict[str, list[float]] = {}
        for band in self.bands:
            timed = [p.rate_tokens_per_s for p in band.points if p.rate_tokens_per_s is not None and not p.warmup]
            rates.setdefault(band.mark.label, []).extend(timed)
        ranges = [
            f"{label}: {fmt.digits(min(timed))} to {fmt.digits(max(timed))} tokens per second"
            for label, timed in rates.items()
            if timed
        ]
        failed = sum(point.rate_tokens_per_s is None for point in self.points)
        counts = (
            f"Output rate of all {len(self.points)} requests in the order they were sent, "
            f"in {fmt.count(len(self.bands), 'run')}; "
            f"{fmt.count(sum(point.warmup for point in self.points), 'warm-up')} hollow and discarded, {failed} failed."
        )
        return f"{counts} {'; '.join(ranges)}." if ranges else counts

    def draw(self, figure: Figure) -> None:
        """Draw every request on its run's band; warm-ups hollow, failures as crosses at 0."""
        figure.set_figheight(4.2)
        axes = figure.subplots()
        rates = [point.rate_tokens_per_s for point in self.points if point.rate_tokens_per_s is not None]
        top = max(rates, default=1.0) * 1.12
        for number, band in enumerate(self.bands):
            first, last = band.points[0].place, band.points[-1].place
            if number % 2:
                axes.axvspan(first - 0.5, last + 0.5, color=BAND, linewidth=0, zorder=0)
            for point in band.points:
                _request(axes, point, band.mark)
            if band.mean_tokens_per_s is not None:
                axes.plot([first - 0.3, last + 0.3], [band.mean_tokens_per_s] * 2, color=INK, linewidth=1.3, zorder=1)
            if len(self.bands) <= NUMBERED:
                axes.text((first + last) / 2, top, str(band.run), ha="center", va="top", fontsize=8, color=QUIET)
        axes.set_ylim(0, top)
        axes.set_xlim(0.3, len(self.points) + 0.7)
        axes.grid(axis="y")
        axes.set_ylabel("output tokens per second")
        axes.set_xlabel("requests in the order they were sent; a band is one run, its number on top", **SMALL)
        marks = sorted({band.mark for band in self.bands}, key=lambda mark: mark.order)
        handles = [axes.plot([], [], m.shape, color=m.colour, markersize=7, label=m.label)[0] for m in marks]
        handles += axes.plot([], [], "o", color=CARD, markeredgecolor=QUIET, label="hollow: warm-up, discarded")
        handles += axes.plot([], [], color=INK, linewidth=1.3, label="mean of a run")
        if len(rates) < len(self.points):
            handles += axes.plot([], [], "X", color=ALARM, markersize=8, linestyle="", label="failed")
        figure.legend(
            handles=handles, loc="outside upper left", ncols=3, fontsize=9, handletextpad=0.5, columnspacing=1.6
        )


def _request(axes: Axes, point: RequestPoint, mark: ArmMark) -> None:
    if point.rate_tokens_per_s is None:
        axes.plot([point.place], [0], "X", color=ALARM, markersize=9, clip_on=False, zorder=5)
        return
    face = CARD if point.warmup else mark.colour
    axes.plot(
        [point.place], [point.rate_tokens_per_s], mark.shape, color=face, markeredgecolor=mark.colour, markersize=6.5
    )
