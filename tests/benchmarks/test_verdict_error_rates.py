"""The published error rates, guarded on a smaller run of the same simulation.

Each bound leaves more than four standard errors of the smaller run, so that a change of the rule is caught and chance
is not: below 1 in 10 000.
"""

from __future__ import annotations

import math

import pytest

from benchmarks.verdict_error_rates import fixed, measure, sequential
from benchmarks.verdict_noise import NOISES, Cell, Noise

CAMPAIGNS = 2500
SEED = 7
BY_NAME = {noise.name: noise for noise in NOISES}
EQUAL = BY_NAME["equal, CV 5 %"]
PLAN = "best of EXO / best of Ollama"


def slack(share: float) -> float:
    """Return four standard errors of a share."""
    return 4 * math.sqrt(share * (1 - share) / CAMPAIGNS)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_false_go_at_the_target_is_what_was_asked_for(noise: Noise) -> None:
    """At a true +30 % no interleaved noise makes our rule say GO more often than 5.5 %."""
    found = measure((fixed, Cell(noise, 1.30, 6, CAMPAIGNS, SEED)))
    assert found.said["ours"].get("GO", 0) <= 0.055 + slack(0.055)


@pytest.mark.parametrize(
    ("noise", "ratio", "power"),
    [(EQUAL, 1.40, 0.755), (EQUAL, 1.50, 0.997), (BY_NAME["equal, CV 10 %"], 1.50, 0.73)],
    ids=["CV 5 % at 1.40", "CV 5 % at 1.50", "CV 10 % at 1.50"],
)
def test_power_is_the_published_one(noise: Noise, ratio: float, power: float) -> None:
    """The cross-check costs next to nothing: power stays at what was planned with."""
    found = measure((fixed, Cell(noise, ratio, 6, CAMPAIGNS, SEED)))
    assert found.said["ours"].get("GO", 0) == pytest.approx(power, abs=slack(power) + 0.01)


def test_the_plans_rule_is_a_coin_at_the_target() -> None:
    """At a true +30 % the plan's script says SUCCESS in half of all campaigns."""
    found = measure((fixed, Cell(EQUAL, 1.30, 5, CAMPAIGNS, SEED)))
    assert found.said[PLAN]["SUCCESS"] == pytest.approx(0.495, abs=slack(0.5) + 0.01)


def test_looks_keep_the_error_and_save_runs() -> None:
    """Three looks together err as rarely as one fixed campaign, and need 9 pairs at +20 %, 17 on the line."""
    on_the_line = measure((sequential, Cell(EQUAL, 1.30, 6, CAMPAIGNS, SEED)))
    assert on_the_line.said["looks"].get("GO", 0) <= 0.052 + slack(0.052)
    assert on_the_line.mean_pairs == pytest.approx(17.3, abs=0.4)
    below = measure((sequential, Cell(EQUAL, 1.20, 6, CAMPAIGNS, SEED)))
    assert below.mean_pairs == pytest.approx(8.9, abs=0.5)
    assert below.said["looks"].get("GO", 0) == 0


def test_the_same_seed_gives_the_same_table() -> None:
    """A published figure can be had again."""
    cell = Cell(EQUAL, 1.40, 3, 50, SEED)
    assert fixed(cell) == fixed(cell)
