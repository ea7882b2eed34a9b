"""Every request of a step in the order of sending: what drifted, what failed, what was discarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from records.samples import Sample
from reports.charts.figure import ALARM, BAND, CARD, INK, QUIET, SMALL, ArmMark
from reports.stats.arms import ArmEstimate
from reports.stats.runs import rate_tokens_per_s
from reports.stats.summary import summary_of_values
from reports.text import format as fmt

if TYPE_CHECKING:
    from reports.charts.figure import Axes, Figure

NUMBERED = 30
"""With more runs than these there is no room for their numbers."""
SINGLE = 2000
"""Requests that are drawn one by one at most: with more, marks cover each other and the picture takes minutes."""
COLUMNS = 240
"""Slices of the time axis that a larger series is cut into, each drawn as quantiles; an eye tells no more apart."""


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
        """Draw every request on its run's band, warm-ups hollow; a large series as quantiles. Failures are crosses."""
        figure.set_figheight(4.2)
        axes = figure.subplots()
        points = self.points
        rates = [point.rate_tokens_per_s for point in points if point.rate_tokens_per_s is not None]
        top = max(rates, default=1.0) * 1.12
        single = len(points) <= SINGLE
        if single:
            self._runs(axes, top)
        marks = sorted({band.mark for band in self.bands}, key=lambda mark: mark.order)
        for mark in marks:
            series = [point for band in self.bands if band.mark == mark for point in band.points]
            _requests(axes, series, mark) if single else _quantiles(axes, series, mark, len(points))
        failed = [point.place for point in points if point.rate_tokens_per_s is None]
        if failed:
            axes.plot(failed, [0] * len(failed), "X", color=ALARM, markersize=9, linestyle="", clip_on=False, zorder=5)
        axes.set_ylim(0, top)
        axes.set_xlim(0.3, len(points) + 0.7)
        axes.grid(axis="y")
        axes.set_ylabel("output tokens per second")
        what = "a band is one run, its number on top" if single else "the warm-ups, which are discarded, not drawn"
        axes.set_xlabel(f"requests in the order they were sent; {what}", **SMALL)
        handles = [axes.plot([], [], m.shape, color=m.colour, markersize=7, label=m.label)[0] for m in marks]
        if single:
            handles += axes.plot([], [], "o", color=CARD, markeredgecolor=QUIET, label="hollow: warm-up, discarded")
            handles += axes.plot([], [], color=INK, linewidth=1.3, label="mean of a run")
        else:
            label = f"median of a {COLUMNS}th, p10 to p90 around it"
            handles += axes.plot([], [], color=INK, linewidth=1.3, label=label)
        if failed:
            handles += axes.plot([], [], "X", color=ALARM, markersize=8, linestyle="", label="failed")
        figure.legend(
            handles=handles, loc="outside upper left", ncols=3, fontsize=9, handletextpad=0.5, columnspacing=1.6
        )

    def _runs(self, axes: Axes, top: float) -> None:
        """Draw what tells the runs apart: shades, each one's mean, and its number where there is room."""
        ends = [(band.points[0].place, band.points[-1].place) for band in self.bands]
        shaded = [(first - 0.5, last - first + 1) for first, last in ends[1::2]]
        axes.broken_barh(shaded, (0, top), color=BAND, linewidth=0, zorder=0)
        means = [
            (first - 0.3, last + 0.3, band.mean_tokens_per_s)
            for band, (first, last) in zip(self.bands, ends, strict=True)
            if band.mean_tokens_per_s is not None
        ]
        if means:
            left, right, heights = zip(*means, strict=True)
            axes.hlines(heights, left, right, color=INK, linewidth=1.3, zorder=1)
        if len(self.bands) <= NUMBERED:
            for band, (first, last) in zip(self.bands, ends, strict=True):
                axes.text((first + last) / 2, top, str(band.run), ha="center", va="top", fontsize=8, color=QUIET)


def _requests(axes: Axes, series: list[RequestPoint], mark: ArmMark) -> None:
    """Draw one arm's requests one by one, in two artists."""
    for warmup, face in ((True, CARD), (False, mark.colour)):
        drawn = [(p.place, rate) for p in series if p.warmup == warmup and (rate := p.rate_tokens_per_s) is not None]
        places, rates = [place for place, _ in drawn], [rate for _, rate in drawn]
        axes.plot(places, rates, mark.shape, color=face, markeredgecolor=mark.colour, markersize=6.5)


def _quantiles(axes: Axes, series: list[RequestPoint], mark: ArmMark, total: int) -> None:
    """Draw one arm's timed requests as the median and the p10 to p90 of every slice of the time axis."""
    slices: dict[int, list[float]] = {}
    for point in series:
        if point.rate_tokens_per_s is not None and not point.warmup:
            slices.setdefault((point.place - 1) * COLUMNS // total, []).append(point.rate_tokens_per_s)
    middles = [(column + 0.5) * total / COLUMNS for column in slices]
    spreads = [spread for rates in slices.values() if (spread := summary_of_values(rates))]
    low, high = [spread.p10 for spread in spreads], [spread.p90 for spread in spreads]
    axes.fill_between(middles, low, high, color=mark.colour, alpha=0.35, linewidth=0)
    every = max(1, len(middles) // 12)
    axes.plot(
        middles, [spread.median for spread in spreads],
        color=mark.colour, linewidth=1.3, marker=mark.shape, markevery=every, markersize=6.5,
    )  # fmt: skip
