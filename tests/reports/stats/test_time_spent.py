"""What became of a measuring step's time."""

from __future__ import annotations

import msgspec
import pytest

from records.campaign import Campaign
from records.samples import Conditions
from reports.pages.methods import methods_said
from reports.stats.time_spent import time_spent
from tests.support.campaigns import make_campaign, with_conditions, with_records, with_result


def lasting(elapsed_s: float) -> Campaign:
    """Return a campaign whose step 12 took so long, each run loading for 6 s in one of three ways."""

    def loading(note: Conditions) -> Conditions:
        ways = {"exo": (4.0, None, 2.0), "srv1": (1.0, 5.0, None), "rog": (6.0, None, None)}[note.arm]
        return msgspec.structs.replace(note, **dict(zip(("reload_s", "load_s", "placing_s"), ways, strict=True)))

    campaign = with_conditions(make_campaign(), loading)
    records = {**campaign.records, 12: msgspec.structs.replace(campaign.records[12], elapsed_s=elapsed_s)}
    return with_records(campaign, records)


def test_every_second_is_a_request_a_load_or_the_rest() -> None:
    """A restart, an Ollama's load and the placing of EXO 1.x are loading; what is left is told by run."""
    campaign = lasting(2000.0)
    spent = time_spent(campaign, 12)
    assert spent is not None
    requests_s = sum((s.total_s or 0) + (s.connect_s or 0) for s in campaign.samples[12])
    assert (spent.runs, spent.loading_s) == (18, 18 * 6.0)
    assert spent.requests_s == pytest.approx(requests_s)
    assert spent.rest_s == pytest.approx(2000.0 - 18 * 6.0 - requests_s)
    said = " ".join(methods_said(campaign))
    assert "restarting EXO and loading models 5.4%" in said
    assert f"({spent.rest_s / 18:.1f} s a run)" in said


def test_a_step_of_several_calls_tells_nothing() -> None:
    """Where runs were kept from an earlier call, or more was measured than the step lasted, its time is not told."""
    assert time_spent(with_result(lasting(2000.0), 12, resumed=3), 12) is None
    assert time_spent(lasting(1.0), 12) is None
