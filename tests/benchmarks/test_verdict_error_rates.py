"""The published error rates, guarded on a smaller run of the same simulation.

Each bound leaves more than four standard errors of the smaller run, so that a change of the rule is caught and chance
is not: below 1 in 10 000.
"""

from __future__ import annotations

import math

import pytest

from benchmarks.verdict_error_rates import OURS, fixed, looking, measure
from benchmarks.verdict_noise import NOISES, Cell, Noise

CAMPAIGNS = 4000
SEED = 7
BY_NAME = {noise.name: noise for noise in NOISES}
EQUAL = BY_NAME["equal, CV 5 %"]
PLAN = "best of EXO / best of Ollama"
LINEAR = [noise for noise in NOISES if noise.drift]


def slack(share: float) -> float:
    """Return four standard errors of a share."""
    return 4 * math.sqrt(share * (1 - share) / CAMPAIGNS)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_false_go_at_the_target_is_what_was_asked_for(noise: Noise) -> None:
    """At a true +30 % no interleaved noise makes our rule say GO more often than 5.5 %, with or without looks."""
    for function in (fixed, looking):
        found = measure((function, Cell(noise, 1.30, 6, CAMPAIGNS, SEED)))
        assert found.said[OURS].get("GO", 0) <= 0.055 + slack(0.055)


@pytest.mark.parametrize("noise", [EQUAL, *LINEAR], ids=lambda noise: noise.name)
def test_a_linear_drift_costs_no_power(noise: Noise) -> None:
    """At a true +40 % six rounds say GO in 68 % of campaigns at CV 5 %, in 95 % at CV 2 %, whatever the drift."""
    found = measure((fixed, Cell(noise, 1.40, 6, CAMPAIGNS, SEED)))
    power = 0.68 if noise.exo_cv > 0.02 else 0.95
    assert found.said[OURS].get("GO", 0) >= power - slack(power)


@pytest.mark.parametrize(("name", "go"), [("curved drift -30 %, CV 5 %", 0.68), ("curved drift -30 %, CV 2 %", 0.98)])
def test_a_curved_drift_costs_little(name: str, go: float) -> None:
    """A machine that warms up fast at first and then slowly leaves GO at +40 % about where it was."""
    found = measure((fixed, Cell(BY_NAME[name], 1.40, 6, CAMPAIGNS, SEED)))
    assert found.said[OURS].get("GO", 0) >= go - slack(go)


def test_the_plans_rule_is_a_coin_at_the_target() -> None:
    """At a true +30 % the plan's script says SUCCESS in half of all campaigns."""
    found = measure((fixed, Cell(EQUAL, 1.30, 5, CAMPAIGNS, SEED)))
    assert found.said[PLAN]["SUCCESS"] == pytest.approx(0.495, abs=slack(0.5) + 0.01)


def test_looks_save_rounds() -> None:
    """Three looks need 9 rounds at +20 %, 17 on the line, and say GO to nothing at +20 %."""
    on_the_line = measure((looking, Cell(EQUAL, 1.30, 6, CAMPAIGNS, SEED)))
    assert on_the_line.mean_rounds == pytest.approx(17.3, abs=0.4)
    below = measure((looking, Cell(EQUAL, 1.20, 6, CAMPAIGNS, SEED)))
    assert below.mean_rounds == pytest.approx(8.9, abs=0.5)
    assert below.said[OURS].get("GO", 0) == 0


def test_the_same_seed_gives_the_same_table() -> None:
    """A published figure can be had again."""
    cell = Cell(EQUAL, 1.40, 4, 50, SEED)
    assert fixed(cell) == fixed(cell)
