"""What the report says of a pipeline: an estimate, called so, and one bound; and who gets which layers."""

from __future__ import annotations

import msgspec
import pytest

from records.campaign import Campaign
from records.facts import Feasible
from reports.charts.token_time import TokenTimeChart
from reports.pages.nodes import environment_view
from reports.pages.token_time import time_view
from reports.stats.arms import arm_estimates
from reports.verdict.estimates import campaign_estimate
from tests.support.amd import amd_node
from tests.support.campaigns import make_campaign, with_result


def said(campaign: Campaign, *, rehearsed: bool = False) -> str:
    """Return the section's sentences."""
    arms = arm_estimates(campaign.samples[12])
    return " ".join(time_view(arms, campaign_estimate(campaign, arms), 1.3, rehearsed=rehearsed).lines)


def bars(campaign: Campaign) -> list[str]:
    """Return the chart's bars by name."""
    arms = arm_estimates(campaign.samples[12])
    chart = TokenTimeChart.of(arms, campaign_estimate(campaign, arms), 1.3)
    assert chart is not None
    return [bar.label for bar in chart.bars]


def test_a_campaign_that_beats_the_estimate_says_so_in_place() -> None:
    """Beside the estimate and on the chart; a rehearsal adds that its speed was set."""
    fast = make_campaign(2.0)
    assert "EXO beat the estimate" in said(fast)
    assert "EXO's engine is faster on these nodes" in said(fast)
    assert "says nothing about pipelines" in said(fast, rehearsed=True)
    assert "EXO, beats the estimate" in bars(fast)


def test_a_campaign_below_the_estimate_says_how_far() -> None:
    """The estimate is called so, with what is left open and the one bound; nothing calls it a ceiling."""
    slow = make_campaign(0.3)
    words = said(slow)
    assert " of the estimate." in words
    assert "an estimate and no bound" in words
    assert "at most 1 where one node is the fastest at every part and the model fits it" in words
    assert "ceiling" not in words.lower()
    assert "Pipeline, estimated" in bars(slow)
    assert "EXO" in bars(slow)


def test_the_shares_are_the_layers_that_step_1_computed() -> None:
    """Where step 1 knew who gets which layers, the estimate takes them in the ring's order; else memory stands in."""
    campaign = make_campaign()
    preflight = campaign.preflight
    assert preflight is not None
    layers = {"rog": 20, "srv2": 5, "srv1": 3}
    row = Feasible(campaign.profile, "small", "m", "m", True, "", True, [], layers=layers)
    arms = arm_estimates(campaign.samples[12])
    told = campaign_estimate(with_result(campaign, 1, feasible=[row]), arms)
    assert told is not None
    assert [stage.node for stage in told.stages] == list(layers)
    assert [stage.share for stage in told.stages] == pytest.approx([count / 28 for count in layers.values()])
    other = campaign_estimate(with_result(campaign, 1, feasible=[msgspec.structs.replace(row, pair="large")]), arms)
    assert other is not None
    assert {stage.node for stage in other.stages} == set(layers)
    assert sum(stage.share for stage in other.stages) == pytest.approx(1)


def test_who_gets_which_layers_is_in_the_report() -> None:
    """The table of the nodes has each one's layers and, of a node with an AMD GPU, both kinds of its memory."""
    campaign = make_campaign()
    preflight = campaign.preflight
    assert preflight is not None
    row = Feasible(campaign.profile, "small", "m", "m", True, "", True, [], layers={"rog": 20, "srv2": 5, "srv1": 3})
    nodes = preflight.nodes | {"rog": msgspec.structs.replace(preflight.nodes["rog"], amd=amd_node())}
    table = environment_view(with_result(campaign, 1, feasible=[row], nodes=nodes)).nodes
    assert table is not None
    said = {str(line[0]): dict(zip(table.head[1:], map(str, line[1:]), strict=True)) for line in table.rows}
    assert said["Layers it gets"]["rog"] == "20 of 28"
    assert said["GPU's memory"]["rog"] == "103 GB + 16.1 GB of the RAM (GTT)"
    assert said["GPU's memory"]["srv1"] == ""
