"""What stands beside the verdict: the owner's bands, TTFT, the share of requests answered. It never votes."""

from __future__ import annotations

import pytest

from records.campaign import Campaign
from reports.verdict.beside import BANDS, Beside, beside
from reports.verdict.decision import decide
from reports.verdict.estimates import estimates_of
from tests.support.campaigns import changed, failed, make_campaign


def beside_of(campaign: Campaign) -> Beside | None:
    """Return what stands beside a campaign's decision."""
    return beside(campaign, decide(campaign), estimates_of(campaign).arms[12])


@pytest.mark.parametrize(
    ("speedup", "cv", "bands"),
    [(1.6, 0.02, [0]), (1.2, 0.01, [1]), (0.9, 0.02, [2]), (1.31, 0.03, [0, 1]), (1.08, 0.05, [2, 1])],
)
def test_bands_that_the_interval_touches(speedup: float, cv: float, bands: list[int]) -> None:
    """The measured ratio's band comes first, then those that its interval reaches into."""
    found = beside_of(make_campaign(speedup, cv))
    assert found is not None
    assert found.bands == [BANDS[place][1] for place in bands]
    assert found.best_node == "rog"


def test_ttft_and_answers() -> None:
    """EXO's median TTFT over the best node's, and the share of requests that gave an answer."""
    campaign = make_campaign(1.6, runs=20)
    fails = changed(campaign, lambda s: failed(s) if (s.arm, s.run, s.request) == ("exo", 3, 2) else s)
    found = beside_of(fails)
    assert found is not None
    assert found.ttft_ratio == pytest.approx(1 / 1.6, rel=0.05)
    assert found.answered == {"exo": pytest.approx(59 / 60), "rog": 1.0, "srv1": 1.0}


def test_ratios_that_are_no_evidence_have_nothing_beside_them() -> None:
    """Without a finished, valid schedule there is no band to read."""
    assert beside_of(make_campaign(1.6, 0.02, 4, until_decided=True)) is None
