"""The same rule with three looks: where they are taken, what decides, and what they refuse."""

from __future__ import annotations

import math

import pytest

from records.settings import Limits
from reports.verdict.rule import RateDecision, decide_looks, decide_rates
from tests.reports.stats.test_arms import runs

WOBBLE = [0.02, -0.02, 0.01, -0.015, 0.018, -0.012] * 3


def looked(ratio: float, measured: int, noise: float = 1.0, limits: Limits | None = None) -> RateDecision:
    """Decide on so many rounds around a ratio."""
    exo = runs([math.log(ratio) + noise * x for x in WOBBLE[:measured]])
    return decide_looks(exo, {"rog": runs([0.0] * measured, "rog")}, limits or Limits(), measured)


@pytest.mark.parametrize(
    ("ratio", "noise", "measured", "verdict", "looks"),
    [
        (1.6, 1, 6, "GO", [6]),
        (1.0, 1, 6, "NO-GO", [6]),
        (1.6, 1, 5, "go on", []),
        (1.6, 1, 18, "GO", [6]),
        (1.31, 1, 6, "go on", [6]),
        (1.31, 1, 11, "go on", [6]),
        (1.35, 3, 12, "go on", [6, 12]),
        (1.305, 3, 18, "INCONCLUSIVE", [6, 12, 18]),
    ],
)
def test_looks_are_after_six_twelve_and_eighteen(
    ratio: float, noise: float, measured: int, verdict: str, looks: list[int]
) -> None:
    """The first look that decides is the last; only the third one can end without a decision."""
    found = looked(ratio, measured, noise)
    assert (found.verdict, [look.rounds for look in found.looks]) == (verdict, looks)


def test_a_look_is_the_rule_of_fixed_rounds_at_a_smaller_error() -> None:
    """At the first look the interval is wider than that of six rounds that were planned, and no other estimate."""
    exo, ollama = runs([math.log(1.4) + x for x in WOBBLE[:6]]), runs([0.0] * 6, "rog")
    look, fixed = looked(1.4, 6).comparisons[0], decide_rates(exo, {"rog": ollama}, Limits()).comparisons[0]
    assert look.ratio == fixed.ratio
    assert look.lower < fixed.lower < fixed.upper < look.upper
    assert (look.confidence, fixed.confidence) == (pytest.approx(0.9781), pytest.approx(0.95))


def test_a_lost_round_leaves_the_looks_where_they_were_planned() -> None:
    """Of six rounds one is lost: the look is taken at the five that there are."""
    exo, ollama = runs([math.log(2) + x for x in WOBBLE[:6]]), runs([0.0] * 6, "rog")
    found = decide_looks(exo, {"rog": [ollama[0], *ollama[2:]]}, Limits(), 6)
    assert (found.verdict, found.comparisons[0].lost, len(found.comparisons[0].rounds)) == ("GO", [2], 5)


def test_other_confidences_have_no_looks() -> None:
    """The looks pay for 95 %; at 99 % the rule goes on and ends INCONCLUSIVE rather than say what it cannot keep."""
    limits = Limits(confidence=0.99)
    assert looked(2.0, 6, limits=limits).verdict == "go on"
    assert looked(2.0, 18, limits=limits).verdict == "INCONCLUSIVE"
