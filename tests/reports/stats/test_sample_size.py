"""How many rounds it takes, and the pipeline's estimate: formulas held against published and simulated figures."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.settings import Limits
from reports.stats.comparison import compare
from reports.stats.estimate import Stage, pipeline_estimate, stages_of
from reports.stats.sample_size import plan_from_control, power, rounds_needed, rounds_to_settle, seconds_per_run
from tests.reports.stats.test_arms import runs
from tests.support.campaigns import measurement

ROOT = math.sqrt(2)
"""A round's log ratio scatters by so much more than the runs of either arm, where they scatter alike."""


@pytest.mark.parametrize(("cv", "least", "most"), [(0.02, 4, 4), (0.03, 5, 6), (0.05, 11, 12), (0.10, 40, 42)])
def test_rounds_to_tell_40_from_30_per_cent(cv: float, least: int, most: int) -> None:
    """With 5 % error both ways it takes 4, 5, 11 and 41 rounds where runs scatter by 2, 3, 5 and 10 %."""
    needed = rounds_needed(math.log(1.4 / 1.3), ROOT * cv, 0.95, 0.95)
    assert needed is not None
    assert least <= needed <= most


@pytest.mark.parametrize(
    ("cv", "ratio", "wanted"), [(0.05, 1.4, 0.73), (0.05, 1.5, 0.997), (0.10, 1.4, 0.30), (0.10, 1.5, 0.71)]
)
def test_power_at_six_rounds_is_the_simulated_one(cv: float, ratio: float, wanted: float) -> None:
    """The noncentral t gives what simulated campaigns gave (docs/methodology.md)."""
    assert power(6, math.log(ratio / 1.3), ROOT * cv, 0.95) == pytest.approx(wanted, abs=0.03)


def test_no_number_of_rounds_settles_what_is_on_the_line() -> None:
    """At or next to the target the answer is None, not a number that nobody can afford."""
    assert rounds_needed(0.0, 0.05, 0.95, 0.8) is None
    assert rounds_needed(0.001, 0.05, 0.95, 0.8) is None
    assert rounds_needed(0.5, 0.0, 0.95, 0.8) == 4


def test_settling_takes_the_hardest_baseline_for_go_and_the_easiest_for_no_go() -> None:
    """GO must be reached against every baseline, NO-GO against one; too few rounds tell no noise."""
    limits, wobble = Limits(), [0.0, 0.05, -0.05, 0.02]

    def settled(rates: list[float], **baselines: list[float]) -> int | None:
        named = {name: runs(values, name) for name, values in baselines.items()}
        return rounds_to_settle(compare(runs(rates), named, limits.target_ratio, 0.05), limits)

    exo, strong = [math.log(1.45) + x for x in wobble], [-x for x in wobble]
    against_strong = settled(exo, strong=strong)
    assert against_strong is not None
    assert settled(exo, strong=strong, weak=[x - 0.5 for x in strong]) == against_strong
    assert settled(exo, strong=strong, fast=[x + math.log(1.45) for x in strong]) == 4
    assert settled(exo[:3], strong=strong[:3]) is None


def test_a_control_says_how_many_rounds_and_how_long() -> None:
    """From the noise of Ollama against itself at CV 5 % the plan is near 11 rounds, and its hours follow."""
    lines, _ = measurement(("a", "b"), {"a": 20.0, "b": 20.0}, 0.05, 40, chance=random.Random(3), request_cv=0.001)
    plan = plan_from_control(lines, Limits(), arms=3)
    assert plan is not None
    assert plan.rounds is not None
    assert 0.04 < plan.round_cv / ROOT < 0.06
    assert 7 <= plan.rounds <= 16
    assert plan.total_s == pytest.approx(plan.rounds * 3 * (90 + 4 * 3.4 + 2), rel=0.2)
    assert plan_from_control([], Limits()) is None
    assert plan_from_control([line for line in lines if line.run < 4], Limits()) is None
    assert seconds_per_run([]) is None


rates = st.floats(0.5, 500)


@settings(max_examples=200)
@given(st.lists(st.tuples(rates, st.floats(0.01, 1), st.floats(0, 0.1)), min_size=1, max_size=6))
def test_no_pipeline_beats_its_fastest_node(nodes: list[tuple[float, float, float]]) -> None:
    """Whatever the split and the hops, the estimate of one stream is at most the fastest node's own rate."""
    total = sum(share for _, share, _ in nodes)
    found = pipeline_estimate([Stage(f"n{i}", r, share / total, hop) for i, (r, share, hop) in enumerate(nodes)])
    assert found.rate_tokens_per_s <= found.best_split_rate_tokens_per_s * (1 + 1e-9)
    assert found.best_split_ratio <= 1 + 1e-9
    assert found.compute_share + found.hop_share == pytest.approx(1)


def test_the_estimate_by_hand() -> None:
    """Half the layers at 10 tokens/s, half at 30, two hops of 5 ms: 50 + 16.7 + 10 ms a token."""
    found = pipeline_estimate([Stage("slow", 10, 0.5, 0.005), Stage("fast", 30, 0.5, 0.005)])
    assert found.token_s == pytest.approx(0.05 + 1 / 60 + 0.01)
    assert found.hops_s == pytest.approx(0.01)
    assert found.ratio == pytest.approx(1 / found.token_s / 30)
    assert found.fastest_node == "fast"
    assert pipeline_estimate([Stage("alone", 10, 1.0, 0.5)]).hops_s == 0


def test_a_node_without_a_rate_counts_as_the_fastest() -> None:
    """Shares follow the weights, hops are half the difference of the round trips, and the ring's order is kept."""
    stages = stages_of(
        {"srv1": 9.0, "rog": 30.0}, {"rog": 64, "srv1": 32, "srv2": 16}, {"srv1": 0.0, "srv2": 0.001, "rog": 0.004}
    )
    assert [stage.node for stage in stages] == ["rog", "srv1", "srv2"]
    assert [stage.share for stage in stages] == pytest.approx([64 / 112, 32 / 112, 16 / 112])
    assert (stages[2].rate_tokens_per_s, stages[2].rate_known) == (30.0, False)
    assert [stage.hop_s for stage in stages] == pytest.approx([0.002, 0.0005, 0.0015])


@pytest.mark.parametrize(
    "stages",
    [
        [],
        [Stage("a", 0, 1, 0)],
        [Stage("a", 1, 1, -1)],
        [Stage("a", 1, 0.5, 0)],
        [Stage("a", 1, 2, 0), Stage("b", 1, -1, 0)],
    ],
)
def test_impossible_pipelines_are_refused(stages: list[Stage]) -> None:
    """No stage, no rate, a negative hop or share, and shares that are not a whole are errors."""
    with pytest.raises(ValueError, match=r"stage|share"):
        pipeline_estimate(stages)


def test_memory_or_rates_unknown_is_refused() -> None:
    """An estimate of nothing is not made up."""
    with pytest.raises(ValueError, match="rate of one node"):
        stages_of({}, {"a": 1}, {})
