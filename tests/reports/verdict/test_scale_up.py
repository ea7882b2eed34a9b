"""The naive rules, the plan's words, and the larger model that perhaps no single node can run."""

from __future__ import annotations

import random

import msgspec
import pytest

from records.campaign import Campaign
from records.facts import Skipped
from records.settings import Limits
from reports.stats.naive import naive_rules, plan_word
from reports.verdict.decision import decide
from tests.support.campaigns import failed, make_campaign, measurement, sample, with_records
from tests.support.made_records import record


def test_naive_rules_are_the_plans_arithmetic() -> None:
    """Best over best, mean over the best mean, median over the best median, of single requests."""
    lines = [sample("exo", 1, k, rate) for k, rate in enumerate((10.0, 20.0, 90.0), start=1)]
    lines += [sample("rog", 1, k, rate) for k, rate in enumerate((10.0, 20.0, 60.0), start=1)]
    lines += [sample("srv1", 1, 1, 25.0), sample("srv1", 1, 0, 999.0, warmup=True)]
    best, mean, median = naive_rules(lines, Limits())
    assert best.ratio == pytest.approx(1.5)
    assert best.says == "SUCCESS"
    assert mean.ratio == pytest.approx(40 / 30)
    assert mean.says == "SUCCESS"
    assert median.ratio == pytest.approx(20 / 25)
    assert median.says == "FAIL"
    assert [rule.ratio for rule in naive_rules([], Limits())] == [None] * 3


@pytest.mark.parametrize(
    ("ratio", "word"), [(1.30, "SUCCESS"), (1.2999, "PARTIAL"), (1.0001, "PARTIAL"), (1.0, "FAIL"), (None, "-")]
)
def test_the_plans_words(ratio: float | None, word: str) -> None:
    """SUCCESS from 30 % on, PARTIAL above nothing, FAIL otherwise, as the plan's script has it."""
    assert plan_word(ratio, 1.30) == word


def with_large(baselines: tuple[str, ...], unable: tuple[str, ...] = ()) -> Campaign:
    """Return a campaign whose step 13 ran the larger model on EXO and on these baselines."""
    campaign = make_campaign()
    rates = {"exo": 4.0, "rog": 2.0, "srv1": 1.0}
    lines, noted = measurement(("exo", *baselines), rates, 0.02, 4, chance=random.Random(1), step=13)
    lines = [failed(s, "model requires more system memory") if s.arm in unable else s for s in lines]
    measured = campaign.benchmark(12)
    assert measured
    large = msgspec.structs.replace(measured, arms=["exo", *baselines], runs=4)
    return msgspec.structs.replace(
        with_records(campaign, {**campaign.records, 13: record(13, large)}),
        samples={**campaign.samples, 13: lines},
        conditions={**campaign.conditions, 13: noted},
    )


def test_a_model_that_no_single_node_can_run_has_no_speed_up() -> None:
    """Without a baseline there is no ratio, whether the baselines failed or were left out."""
    for campaign in (with_large(()), with_large(("rog", "srv1"), unable=("rog", "srv1"))):
        decision = decide(campaign, 13)
        assert decision.comparisons == []
        assert decision.verdict == "INCONCLUSIVE"


def test_a_larger_model_is_compared_with_who_could_run_it() -> None:
    """One baseline ran it and one could not: the ratio is against the one."""
    decision = decide(with_large(("rog", "srv1"), unable=("srv1",)), 13)
    assert (decision.verdict, [c.baseline for c in decision.comparisons]) == ("GO", ["rog"])


def test_a_skipped_larger_model_is_said_to_be_skipped() -> None:
    """The reason for skipping is what the headline says."""
    campaign = make_campaign()
    found = decide(with_records(campaign, {**campaign.records, 13: record(13, Skipped("no time"))}), 13)
    assert found.verdict == "NOT YET"
    assert "no time" in found.headline
