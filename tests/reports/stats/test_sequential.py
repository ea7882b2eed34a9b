"""The rule with three looks: its bounds, its edges, and what it refuses."""

from __future__ import annotations

import math

import pytest
from reports.stats.sequential import log_ratios, look, looks_so_far, paired_comparison

from records.settings import Limits
from reports.verdict.rule import decide_rounds
from tests.reports.stats.test_arms import runs

TARGET = 1.30


def rounds_with_t(n: int, t: float) -> list[float]:
    """Make n log ratios whose Student's t against the target is exactly `t`."""
    shape = [(-1.0) ** k for k in range(n)]
    spread = math.sqrt(sum(x * x for x in shape) / (n - 1) / n)
    return [math.log(TARGET) + x + t * spread for x in shape]


@pytest.mark.parametrize(
    ("n", "t", "says"),
    [
        (6, 2.681, "GO"),
        (6, 2.679, "go on"),
        (6, -2.681, "NO-GO"),
        (12, 2.277, "GO"),
        (12, 2.275, "go on"),
        (18, 2.178, "GO"),
        (18, 2.176, "INCONCLUSIVE"),
        (18, -2.178, "NO-GO"),
        (18, 0.0, "INCONCLUSIVE"),
    ],
)
def test_bounds_of_the_three_looks(n: int, t: float, says: str) -> None:
    """Each look decides at its own published bound, and only the last one can end without a decision."""
    taken = look({"rog": rounds_with_t(n, t)}, TARGET)
    assert (taken.rounds, taken.decision) == (n, says)
    assert taken.t == pytest.approx(t)


def test_go_needs_every_baseline_and_no_go_one() -> None:
    """The smallest t of all baselines decides."""
    high, low, middle = rounds_with_t(6, 5), rounds_with_t(6, -5), rounds_with_t(6, 1)
    assert look({"a": high, "b": high}, TARGET).decision == "GO"
    assert look({"a": high, "b": middle}, TARGET).decision == "go on"
    assert look({"a": high, "b": low}, TARGET).decision == "NO-GO"


@pytest.mark.parametrize("n", [5, 7, 11, 17])
def test_peeking_in_between_is_refused(n: int) -> None:
    """There is no bound for any other number of rounds."""
    with pytest.raises(KeyError):
        look({"rog": rounds_with_t(n, 3)}, TARGET)


def test_a_decided_campaign_takes_no_further_look() -> None:
    """Pairs measured after the look that decided are not looked at; before the sixth pair there is no look."""
    decided = rounds_with_t(6, 5) + rounds_with_t(6, -50)
    assert [taken.decision for taken in looks_so_far({"rog": decided}, TARGET)] == ["GO"]
    assert looks_so_far({"rog": decided[:5]}, TARGET) == []
    assert looks_so_far({}, TARGET) == []


def test_rounds_are_runs_of_equal_number() -> None:
    """A run that one arm lacks makes no round, and the order of the runs does not matter."""
    exo, ollama = runs([1.0, 2.0, 3.0]), runs([0.5, 0.5, 0.25], "rog")
    assert log_ratios(exo[::-1], [ollama[0], ollama[2]]) == [0.5, 2.75]


@pytest.mark.parametrize(("t", "says"), [(2.681, "above"), (2.679, "across"), (-2.681, "below"), (-2.679, "across")])
def test_the_interval_shown_agrees_with_the_look(t: float, says: str) -> None:
    """The paired interval lies beyond the target exactly where the look decides."""
    assert paired_comparison("rog", rounds_with_t(6, t), 2.680, Limits()).says == says


def test_rounds_without_variance_decide_by_the_ratio_alone() -> None:
    """Identical ratios: on the target or above is GO, below is NO-GO, never a division by zero."""
    assert look({"rog": [math.log(TARGET)] * 6}, TARGET).decision == "GO"
    assert look({"rog": [math.log(1.29)] * 6}, TARGET).decision == "NO-GO"


def test_other_confidences_have_no_bounds() -> None:
    """The three bounds pay for 95 %; at 99 % the rule says INCONCLUSIVE rather than something it cannot keep."""
    exo, ollama = runs([math.log(2) + 0.01 * (k % 2) for k in range(6)]), runs([0.0] * 6, "rog")
    assert decide_rounds(exo, {"rog": ollama}, Limits()).verdict == "GO"
    assert decide_rounds(exo, {"rog": ollama}, Limits(confidence=0.99)).verdict == "INCONCLUSIVE"
    assert decide_rounds(exo[:4], {"rog": ollama}, Limits()).verdict == "go on"
