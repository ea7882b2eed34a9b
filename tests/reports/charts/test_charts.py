"""The charts: drawn from numbers alone, the same bytes each time, told in words, and proof against odd numbers."""

from __future__ import annotations

import math
import struct
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from records.campaign import Campaign
from reports.charts.catalogue import CHARTS, charts_of
from reports.charts.figure import (
    DOTS,
    PNG_DPI,
    WIDTH_IN,
    ArmMark,
    Chart,
    DrawnChart,
    arm_marks,
    draw_charts,
    round_ticks,
)
from reports.charts.latency import LatencyChart, LatencyRow
from reports.charts.nodes import NodeRow, NodesChart
from reports.charts.requests import RequestPoint, RequestsChart, RunBand
from reports.charts.rounds import RoundsChart
from reports.charts.speedup import SpeedupChart
from reports.charts.token_time import TimePart, TokenBar, TokenTimeChart
from reports.charts.within_run import WithinRunChart
from reports.stats.comparison import Comparison, RoundRatio
from reports.stats.summary import summary_of_values
from reports.stats.within_run import WithinRun
from reports.verdict.decision import decide
from reports.verdict.estimates import estimates_of
from tests.support import campaigns

EXO, ROG = ArmMark("EXO", 0), ArmMark("Ollama rog", 1)


def compared(ratio: float, lower: float, upper: float) -> Comparison:
    """Return a comparison with `rog` whose interval clears 1.30, without a cross-check."""
    rounds = [RoundRatio(number, ratio, ratio, number % 2 == 1) for number in range(1, 5)]
    return Comparison("rog", ratio, lower, upper, 4.0, 0.05, ratio, None, None, True, rounds, [], 0.95, "above")


def latency_row(mark: ArmMark, *times_s: float) -> LatencyRow:
    """Return the row of an arm with these times."""
    spread = summary_of_values(times_s)
    assert spread is not None
    return LatencyRow(mark, spread, [time * 1000 for time in times_s])


CHECKED = msgspec.structs.replace(compared(1.42, 1.36, 1.48), hl_ratio=1.41, hl_lower=1.35, hl_upper=1.49)
CHANGING = WithinRun("rog", [[1.1, 1.2], [0.9, 0.8]], [-0.2, -0.3, -0.25], -9.0)
SPEEDUP = SpeedupChart(1.3, [CHECKED], "bounds")
WHOLE: list[Chart] = [
    SPEEDUP,
    RoundsChart(1.3, [(ROG, msgspec.structs.replace(CHECKED, lost=[5]))]),
    RequestsChart(
        [
            RunBand(EXO, 1, [RequestPoint(1, 20.0, True), RequestPoint(2, 42.0, False)], 42.0),
            RunBand(ROG, 1, [RequestPoint(3, None, False)], None),
        ]
    ),
    WithinRunChart([(ROG, CHANGING)]),
    LatencyChart([latency_row(EXO, 0.060, 0.066, 0.071)], [latency_row(EXO, 0.005)]),
    TokenTimeChart(
        [TokenBar("Pipeline, estimated", [TimePart("computing", "compute", 30.0), TimePart("hops", "hops", 2.0)])], 18.0
    ),
    NodesChart(
        [
            NodeRow("srv1", "CLANG", "cpu", [0.1, 0.2], []),
            NodeRow("rog", "AMD", "gpu", [], [(EXO, [20.0, 60.0])]),
        ],
        0.5,
    ),
]


def charts_by_name(campaign: Campaign) -> dict[str, Any]:
    """Return what a campaign's charts show."""
    return {chart.name: chart for chart in charts_of(campaign, decide(campaign, 12), estimates_of(campaign))}


@pytest.fixture(scope="module")
def drawn() -> list[DrawnChart]:
    """Draw every chart once."""
    return draw_charts(WHOLE)


def test_every_chart_is_an_svg_and_a_png_of_one_width(drawn: list[DrawnChart]) -> None:
    """Every chart, in the report's order; the SVG is XML without script, date or outside address."""
    assert [chart.name for chart in drawn] == [chart.name for chart in CHARTS]
    for chart in drawn:
        root = ElementTree.fromstring(chart.svg)
        assert {element.tag.rpartition("}")[2] for element in root.iter()}.isdisjoint({"script", "image", "date"})
        assert b"<dc:date>" not in chart.svg
        assert b"Matplotlib v" not in chart.svg
        assert chart.png.startswith(b"\x89PNG")
        assert struct.unpack(">I", chart.png[16:20])[0] == round(WIDTH_IN * PNG_DPI)
        assert chart.alt.endswith(".")


def test_the_same_numbers_give_the_same_bytes(drawn: list[DrawnChart]) -> None:
    """Drawn again, after other charts than before and under a user's own style, not a byte differs."""
    import matplotlib

    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert draw_charts(WHOLE[::-1]) == drawn[::-1]


def test_the_words_say_what_the_drawing_shows(drawn: list[DrawnChart]) -> None:
    """The text alternatives carry the numbers and the side of the target."""
    words = {chart.name: chart.alt for chart in drawn}
    assert "Ollama rog: 1.42×, bounds 1.36 to 1.48, all of it at or beyond the target line." in words["speedup"]
    assert "EXO over Ollama rog: round 1 1.42×, round 2 1.42×" in words["rounds"]
    assert "Lost: round 5." in words["rounds"]
    assert "Ollama rog −22.1% over 3 runs" in words["within-run"]
    assert "all 3 requests" in words["requests"]
    assert "1 warm-up hollow and discarded, 1 failed" in words["requests"]
    assert "TTFT (first token): EXO: median 66.0 ms" in words["latency"]
    assert "Pipeline, estimated: 32.0 ms (computing 30.0 ms, hops 2.00 ms)" in words["token-time"]
    assert "GPU 20 to 60% busy while EXO ran" in words["nodes"]


def test_ratios_that_are_no_evidence_are_drawn_so() -> None:
    """The reason stands across the drawing and at the head of its words, and no side of the target is coloured."""
    void = "INVALID: these numbers do not compare like with like"
    chart = draw_charts([msgspec.structs.replace(SPEEDUP, void=void)])[0]
    assert chart.alt.startswith(f"{void}. Ratios of EXO, crossed out as no evidence: Ollama rog: 1.42×")
    assert b'style="fill: #dcebe0' not in chart.svg
    assert b'style="fill: #a1260d' in chart.svg
    valid = draw_charts([SPEEDUP])[0].svg
    assert b'style="fill: #dcebe0' in valid
    assert b'style="fill: #a1260d' not in valid


def test_a_campaign_fills_the_charts_with_its_own_numbers() -> None:
    """Arms keep their marks, requests their order in time, warm-ups their mark, runs their means."""
    campaign = campaigns.make_campaign(speedup=1.6, runs=4)
    charts = charts_by_name(campaign)
    bands = charts["requests"].bands
    assert [point.place for band in bands for point in band.points] == list(range(1, len(campaign.samples[12]) + 1))
    assert [band.mark.label for band in bands[:3]] == ["EXO", "Ollama rog", "Ollama srv1"]
    assert all([point.warmup for point in band.points] == [True, False, False, False] for band in bands)
    logs = [math.log(point.rate_tokens_per_s) for point in bands[0].points if not point.warmup]
    assert bands[0].mean_tokens_per_s == pytest.approx(math.exp(sum(logs) / len(logs)))
    assert [comparison.baseline for comparison in charts["speedup"].comparisons] == ["rog", "srv1"]
    assert all(len(row.shown_ms) <= DOTS for row in charts["latency"].itl)


def test_a_failed_request_is_drawn_as_failed() -> None:
    """It keeps its place in the order and has no rate."""
    campaign = campaigns.make_campaign(runs=4)
    broken = msgspec.structs.replace(campaign.samples[12][1], error="cut off", total_s=None, output_tokens=None)
    samples = [campaign.samples[12][0], broken, *campaign.samples[12][2:]]
    charts = charts_by_name(msgspec.structs.replace(campaign, samples={**campaign.samples, 12: samples}))
    assert charts["requests"].bands[0].points[1] == RequestPoint(2, None, False)
    assert len(draw_charts(charts.values())) == 7


def test_times_of_zero_and_below_are_drawn() -> None:
    """A server whose frames arrive in one packet, or a clock read wrongly, makes odd gaps but no crash."""
    campaign = campaigns.make_campaign(runs=4)
    samples = [
        msgspec.structs.replace(s, first_token_s=0.0, frame_times_s=[0.0, 0.0, 0.5, 0.4]) for s in campaign.samples[12]
    ]
    odd = msgspec.structs.replace(campaign, samples={**campaign.samples, 12: samples})
    assert len(draw_charts(charts_of(odd, decide(campaign, 12), estimates_of(odd)))) == 7


def test_one_run_an_arm_has_no_interval_to_draw() -> None:
    """Bounds that are infinite make no speed-up chart, one run no drift within runs; the others are drawn."""
    charts = charts_by_name(campaigns.make_campaign(runs=1))
    assert list(charts) == ["rounds", "requests", "latency", "token-time", "nodes"]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_odd_numbers_are_drawn_all_the_same(scale: float) -> None:
    """Tiny, huge, equal and zero values, and a ratio far from the target, raise nothing."""
    charts: list[Chart] = [
        SpeedupChart(1.3, [compared(scale, scale * 0.99, scale * 1.01)], "bounds"),
        RequestsChart([RunBand(EXO, 1, [RequestPoint(1, None, False)], None)]),
        LatencyChart([latency_row(ROG, scale, scale)], []),
        TokenTimeChart([TokenBar("EXO", [TimePart("whole", "whole", scale)])], None),
        NodesChart([NodeRow("n", "d", "unknown", [0.0], [])], 0.5),
    ]
    drawn = draw_charts(charts)
    assert len(drawn) == 5
    assert drawn[1].alt.endswith("0 warm-ups hollow and discarded, 1 failed.")


def test_marks_differ_without_colour() -> None:
    """EXO is always the circle; no two of five arms share a shape."""
    campaign = campaigns.make_campaign(runs=4)
    marks = arm_marks(estimates_of(campaign).arms[12])
    assert marks["exo"].order == 0
    assert len({mark.order for mark in marks.values()}) == len(marks) == 3
    assert min(mark.order for mark in arm_marks(estimates_of(campaign).arms[11]).values()) == 1


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.4, 1.6), (0.87, 1.58), (0.92, 6.0), (100, 600), (30, 33), (1e-3, 1e5), (5, 5.01), (1e12, 1.2e12)],
)
def test_ticks_are_few_and_inside_and_apart(low: float, high: float) -> None:
    """A logarithmic axis gets two to seven ticks, all of them on it, and none crowds another."""
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    assert min(b / a for a, b in pairwise(ticks)) > (high / low) ** 0.07


def test_a_large_series_is_drawn_as_what_an_eye_can_see() -> None:
    """Ten thousand requests are drawn in as many artists as a hundred thousand: quantiles, not marks."""
    from matplotlib.figure import Figure

    artists = []
    for count in (10_000, 100_000):
        points = [RequestPoint(place, 30.0 + place % 7, False) for place in range(1, count + 1)]
        bands = [RunBand(ROG, number, points[at : at + 10], 30.0) for number, at in enumerate(range(0, count, 10), 1)]
        figure = Figure()
        RequestsChart(bands).draw(figure)
        artists.append(sum(1 for axes in figure.axes for _ in axes.findobj()))
    assert artists[0] == artists[1] < 200


def test_single_values_are_no_more_than_an_eye_tells_apart() -> None:
    """Of three times as many runs the nodes and the drift are as large a picture: at 8 333 rounds they had 17 MB."""
    sizes = []
    for runs in (130, 390):
        found = charts_by_name(campaigns.make_campaign(runs=runs))
        sizes.append([len(chart.svg) for chart in draw_charts([found["nodes"], found["within-run"]])])
    for few, many in zip(*sizes, strict=True):
        assert many == pytest.approx(few, rel=0.05)


def test_many_rounds_are_one_series() -> None:
    """A thousand rounds take as many artists as four do, lost ones included, and the words tell their spread."""
    from matplotlib.figure import Figure

    artists = []
    for count in (4, 1000):
        rounds = [RoundRatio(number, 1.4, 1.3 + number / 10 / count, False) for number in range(1, count + 1)]
        chart = RoundsChart(1.3, [(ROG, msgspec.structs.replace(CHECKED, rounds=rounds, lost=list(range(count // 2))))])
        figure = Figure()
        chart.draw(figure)
        artists.append(len(figure.axes[0].lines) + len(figure.axes[0].collections))
    assert artists[0] == artists[1]
    assert "1000 rounds, 1.30× to 1.40×, the median 1.35×" in chart.alternative()
