"""The charts of the report, in its order."""

from __future__ import annotations

from records.campaign import Campaign
from reports.charts.figure import Chart, arm_marks
from reports.charts.latency import LatencyChart
from reports.charts.nodes import NodesChart
from reports.charts.requests import RequestsChart
from reports.charts.rounds import RoundsChart
from reports.charts.speedup import SpeedupChart
from reports.charts.token_time import TokenTimeChart
from reports.charts.within_run import WithinRunChart
from reports.checks.evidence import schedule_samples, within_runs_of
from reports.stats.runs import start_order
from reports.verdict.decision import Decision
from reports.verdict.estimates import Estimates

CHARTS: tuple[type[Chart], ...] = (
    SpeedupChart,
    RoundsChart,
    RequestsChart,
    WithinRunChart,
    LatencyChart,
    TokenTimeChart,
    NodesChart,
)


def charts_of(campaign: Campaign, decision: Decision, estimates: Estimates) -> list[Chart]:
    """Return every chart that step 12's samples can fill, or step 11's as long as step 12 has none."""
    step = next((step for step in (12, 11) if estimates.arms.get(step)), 12)
    arms = estimates.arms.get(step, [])
    marks = arm_marks(arms)
    samples = sorted(schedule_samples(campaign, step), key=start_order)
    charts: list[Chart | None] = [
        SpeedupChart.of(decision),
        RoundsChart.of(decision, marks),
        RequestsChart.of(samples, arms, marks),
        WithinRunChart.of(within_runs_of(campaign, step), marks),
        LatencyChart.of(samples, arms, marks),
        TokenTimeChart.of(arms, estimates.pipeline, campaign.limits.target_ratio),
        NodesChart.of(campaign, marks, step),
    ]
    return [chart for chart in charts if chart is not None]
