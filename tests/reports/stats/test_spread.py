"""Requests spread over the Ollamas: the sum of the rates at once against the best node alone, in rounds."""

from __future__ import annotations

import pytest

from records.samples import Sample
from reports.stats.spread import spread_of
from tests.support.campaigns import sample


def halves(rounds: int, *, slower: float = 1.0, apart: float = 0.0) -> tuple[list[Sample], list[Sample]]:
    """Measure rog at 30 tokens/s and srv1 at 10, alone and at once (then `slower`), srv1 beginning `apart` later."""
    alone, together, clock = [], [], 0.0
    for number in range(1, rounds + 1):
        wobble = 1 + 0.01 * (-1) ** number
        for arm, rate in (("rog", 30.0), ("srv1", 10.0)):
            for request in range(1, 4):
                alone.append(sample(arm, 2 * number - 1, request, rate * wobble, clock))
                clock += 10
        for arm, rate, later in (("rog", 30.0 / slower, 0.0), ("srv1", 10.0 / slower, apart)):
            for request in range(1, 4):
                together.append(sample(arm, 2 * number, request, rate, clock + later))
                later += 64 / rate
        clock += 100
    return alone, together


def test_all_at_once_against_the_best_alone() -> None:
    """30 and 10 tokens/s at once are 1.33 of 30; each node's own rate stands beside it, with intervals."""
    found = spread_of(*halves(6), error=0.05)
    assert found is not None
    assert found.best_node == "rog"
    assert found.best_rate_tokens_per_s == pytest.approx(30, rel=0.01)
    assert found.aggregate.ratio == pytest.approx(4 / 3, rel=0.001)
    assert found.aggregate.lower < 4 / 3 < found.aggregate.upper
    assert {c.baseline: c.ratio for c in found.each} == pytest.approx({"rog": 1.0, "srv1": 1 / 3}, rel=0.001)


def test_nodes_that_hinder_each_other_give_less() -> None:
    """At half the rate each, two thirds of the best one alone come together."""
    found = spread_of(*halves(4, slower=2), error=0.05)
    assert found is not None
    assert found.aggregate.ratio == pytest.approx(2 / 3, rel=0.001)


def test_what_was_not_at_once_does_not_count() -> None:
    """Requests during which another node had none in flight are no spread; without any there is no ratio."""
    assert spread_of(*halves(4, apart=45.0), error=0.05) is None
    assert spread_of([], [], error=0.05) is None
