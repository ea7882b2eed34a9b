"""What the report says of the power that was drawn."""

from __future__ import annotations

import msgspec
import pytest

from records.campaign import Campaign
from records.samples import Conditions
from reports.pages.power import power_table
from reports.stats.arms import arm_estimates
from reports.text.table import Table
from tests.support.campaigns import make_campaign


def shown(*notes: Conditions) -> Table | None:
    """Return the table of a campaign with these notes in its step 12."""
    campaign: Campaign = msgspec.structs.replace(make_campaign(runs=2), conditions={12: list(notes)})
    return power_table(campaign, {12: arm_estimates(campaign.samples[12])})


def drew(arm: str, run: int, *watts: float, lost: str = "") -> Conditions:
    """Return the notes of a run beside which rog's GPU drew so much."""
    return Conditions(1, arm, run, "", gpu_power_w={"rog": list(watts)}, lost=lost)


def test_a_mean_by_node_and_arm_and_tokens_a_joule_where_it_computes() -> None:
    """The runs' samples together, lost runs left out; another node's baseline buys nothing of rog's joules."""
    table = shown(
        drew("exo", 1, 40.0, 60.0), drew("exo", 2, 80.0), drew("exo", 2, 900.0, lost="srv2 was gone"),
        drew("rog", 1, 100.0), drew("srv1", 1, 9.0),
    )  # fmt: skip
    assert table is not None
    by_arm = {row[1]: row for row in table.rows}
    rate = {arm.arm: arm.rate_tokens_per_s for arm in arm_estimates(make_campaign(runs=2).samples[12])}
    assert by_arm["EXO"][2] == "60.0 W"
    assert float(by_arm["EXO"][3]) == pytest.approx((rate["exo"] or 0) / 60, abs=0.006)
    assert float(by_arm["Ollama rog"][3]) == pytest.approx((rate["rog"] or 0) / 100, abs=0.006)
    assert by_arm["Ollama srv1"][2:] == ["9.0 W", "-"]


def test_silence_is_said() -> None:
    """Where no kernel tells a power, the report says so and shows no figure."""
    table = shown(Conditions(1, "exo", 1, ""))
    assert table is not None
    assert table.rows == [["-", "-", "not measured", "-"]]
    assert shown() is None
