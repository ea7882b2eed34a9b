"""The ratio by rounds: held against scipy as an independent oracle, and against what must not matter."""

from __future__ import annotations

import math
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.stats import rounds
from reports.stats.comparison import Comparison, compare
from reports.stats.runs import RunValue
from tests.reports.stats.test_arms import runs

logs = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=4, max_size=9)


def places(number: int) -> rounds.Array:
    """Return EXO's and Ollama's places of so many rounds in ABBA order."""
    order = [arm for round_ in range(number) for arm in ("eo" if round_ % 2 == 0 else "oe")]
    return np.array([[place for place, arm in enumerate(order) if arm == which] for which in "eo"], dtype=float)


def compared(exo: list[float], ollama: list[float], target: float = 1.3, error: float = 0.05) -> Comparison:
    """Compare two arms of one campaign without any times."""
    return compare(runs(exo), {"rog": runs(ollama, "rog")}, target, error)[0]


@settings(max_examples=60)
@given(st.integers(4, 9), st.integers(0, 10_000))
def test_signed_rank_bounds_invert_scipys_exact_wilcoxon(number: int, seed: int) -> None:
    """A shift just inside the lower bound is not rejected by the exact one-sided test, one just outside is."""
    ratios = np.random.default_rng(seed).normal(0.2, 1, number)
    _, lower, upper = rounds.signed_rank(ratios, 0.05)

    def p_that_median_is_more_than(shift: float) -> float:
        from scipy import stats as scipy_stats  # here, for it takes a second, and each worker reads every file

        return float(scipy_stats.wilcoxon(ratios - shift, alternative="greater", method="exact").pvalue)

    if not np.isfinite(lower):
        assert p_that_median_is_more_than(-1e6) > 0.05  # even all of one sign does not reach the level
    else:
        assert p_that_median_is_more_than(float(lower) - 1e-9) <= 0.05 + 1e-12
        assert p_that_median_is_more_than(float(lower) + 1e-9) > 0.05
        assert -upper == pytest.approx(rounds.signed_rank(-ratios, 0.05)[1])


@pytest.mark.parametrize(
    ("number", "error", "bounded"), [(3, 0.1, False), (4, 0.05, False), (4, 0.1, True), (5, 0.05, True)]
)
def test_four_rounds_are_the_fewest(number: int, error: float, bounded: bool) -> None:
    """Four rounds have an exact bound at twice an error of 5 %, three have none, five have one at 5 % itself."""
    assert np.isfinite(rounds.signed_rank(np.arange(number, dtype=np.float64), error)[1]) == bounded


@settings(max_examples=60)
@given(logs, st.floats(-1, 1), st.floats(-1, 1))
def test_a_parabola_that_both_arms_share_moves_nothing(data: list[tuple[float, float]], a: float, b: float) -> None:
    """A machine that warms up, evenly or in a curve, changes neither ratio nor interval nor any round."""
    exo, ollama, at = np.array(data)[:, 0], np.array(data)[:, 1], places(len(data))
    trend = a * at + b * (at - 3) ** 2 / 10
    plain, drifted = (rounds.interval(exo + t[0], ollama + t[1], at, 0.05) for t in (0 * trend, trend))
    for one, other in zip(plain, drifted, strict=True):
        assert other == pytest.approx(one, abs=1e-6, rel=1e-6)


def test_the_interval_is_the_one_of_a_linear_model() -> None:
    """With arms of like noise: the estimate of least squares, its standard error and freedom within a few per cent."""
    chance, at = np.random.default_rng(1), places(40)
    exo, ollama = chance.normal(0.3, 0.05, 40), chance.normal(0, 0.05, 40)
    found = rounds.interval(exo, ollama, at, 0.05)
    x = np.concatenate(at)
    design = np.column_stack([np.repeat([1.0, 0.0], 40), np.repeat([0.0, 1.0], 40), x, x**2])
    fit, rest, *_ = np.linalg.lstsq(design, np.concatenate([exo, ollama]))
    difference = np.array([1, -1, 0, 0])
    squared = rest[0] / (80 - 4) * difference @ np.linalg.inv(design.T @ design) @ difference
    assert found.mean == pytest.approx(fit[0] - fit[1])
    assert found.standard_error == pytest.approx(math.sqrt(squared), rel=0.03)
    assert 70 < found.freedom <= 76
    assert found.log_ratios.mean() == pytest.approx(found.mean)


def test_unequal_noise_has_fewer_degrees_of_freedom() -> None:
    """Where one arm alone scatters, only its own runs tell how much."""
    at, wobble = places(8), np.array([1, -1, 2, -2, 0.5, -0.5, 1, -1])
    alone = rounds.interval(0.1 * wobble, 1e-6 * wobble, at, 0.05)
    both = rounds.interval(0.1 * wobble, 0.1 * wobble[::-1], at, 0.05)
    assert alone.freedom < 7 < both.freedom


@settings(max_examples=40)
@given(logs, st.floats(-2, 2))
def test_scaling_one_arm_scales_everything(data: list[tuple[float, float]], shift: float) -> None:
    """Measuring EXO in a unit c times as large multiplies ratio and bounds by c and moves nothing else."""
    exo, ollama = [x for x, _ in data], [y for _, y in data]
    one, other = compared(exo, ollama), compared([x + shift for x in exo], ollama)
    for field in ("ratio", "lower", "upper", "hl_ratio"):
        assert getattr(other, field) == pytest.approx(getattr(one, field) * math.exp(shift), rel=1e-5)


@settings(max_examples=40)
@given(logs)
def test_swapping_the_arms_inverts_the_ratio(data: list[tuple[float, float]]) -> None:
    """Ollama over EXO is one over EXO over Ollama, and the bounds change places."""
    exo, ollama, at = np.array(data)[:, 0], np.array(data)[:, 1], places(len(data))
    one, other = rounds.interval(exo, ollama, at, 0.05), rounds.interval(ollama, exo, at[::-1], 0.05)
    assert (other.mean, other.lower, other.upper) == pytest.approx((-one.mean, -one.upper, -one.lower), abs=1e-6)


def test_without_variance_the_bounds_are_the_ratio() -> None:
    """Equal rounds leave no doubt about the ratio; exactly on the target is on it, whatever a logarithm's last bit."""
    found = compared([math.log(13)] * 4, [math.log(10)] * 4)
    assert found.lower == pytest.approx(1.3) == found.upper
    assert (found.says, found.vote) == ("above", 1)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_fewer_than_four_rounds_bound_nothing(number: int) -> None:
    """There is a ratio, and neither a bound nor a vote."""
    found = compared([math.log(2)] * number, [0.0] * number)
    assert found.ratio == pytest.approx(2)
    assert (found.lower, found.upper) == (0.0, math.inf)
    assert (found.degrees_of_freedom, found.round_cv, found.vote) == (0, None, 0)
    with pytest.raises(ValueError, match="have no interval"):
        rounds.interval(np.zeros(number), np.zeros(number), places(number), 0.05)


def test_a_round_with_a_lost_run_is_lost_for_all() -> None:
    """A run that one baseline lacks makes no round for any, and is named; the order of the runs does not matter."""
    exo, rog, srv1 = runs([1.0] * 6), runs([0.5] * 6, "rog"), runs([0.2] * 6, "srv1")
    found = compare(exo[::-1], {"rog": rog, "srv1": [srv1[0], *srv1[2:]], "down": []}, 1.3, 0.05)
    assert [(c.baseline, c.lost, len(c.rounds)) for c in found] == [("rog", [2], 5), ("srv1", [2], 5)]
    assert [r.round for r in found[0].rounds] == [1, 3, 4, 5, 6]
    assert compare(exo, {"rog": []}, 1.3, 0.05) == compare([], {"rog": rog}, 1.3, 0.05) == []


def test_places_are_those_of_the_clock() -> None:
    """A trend in time is told by the order in which the runs began, whatever their numbers."""

    def timed(values: list[RunValue], turns: str, me: str) -> list[RunValue]:
        clock = [place for place, arm in enumerate(turns) if arm == me]
        return [msgspec.structs.replace(run, start_utc=f"{at:04d}") for run, at in zip(values, clock, strict=True)]

    turns = "eooeeooeeooe"
    exo = runs([0.3 - 0.03 * place for place, arm in enumerate(turns) if arm == "e"])
    ollama = runs([-0.03 * place for place, arm in enumerate(turns) if arm == "o"], "rog")
    good = compare(timed(exo, turns, "e"), {"rog": timed(ollama, turns, "o")}, 1.3, 0.05)[0]
    assert [math.log(r.ratio) for r in good.rounds] == pytest.approx([0.3] * 6)
    assert [r.exo_first for r in good.rounds] == [True, False] * 3


def test_the_order_shows_where_one_run_changes_the_next() -> None:
    """Ollama slower right after EXO is a higher ratio wherever EXO ran first."""
    ratios = np.log([1.50, 1.40, 1.51, 1.39, 1.49, 1.41])
    effect, t = rounds.order_effect(ratios, places(6))
    from scipy import stats as scipy_stats

    oracle = scipy_stats.ttest_ind(ratios[::2], ratios[1::2])
    assert effect == pytest.approx(math.log(1.5 / 1.4), rel=0.01)
    assert t == pytest.approx(oracle.statistic)


@pytest.mark.parametrize("error", [0.05, 0.01])
def test_many_rounds_have_the_bounds_that_all_their_pairs_would_give(error: float) -> None:
    """Counting pairs finds the very Walsh averages that writing all of them down and sorting them would."""
    ratios = np.random.default_rng(1).normal(0.2, 0.05, 301)
    first, second = np.triu_indices(len(ratios))
    walsh = np.sort((ratios[first] + ratios[second]) / 2)
    middle, lower, upper = rounds.signed_rank(ratios, error)
    rank = int(np.searchsorted(walsh, lower, side="left")) + 1
    assert middle == pytest.approx(np.median(walsh))
    assert walsh[rank - 1] == pytest.approx(float(lower))
    assert walsh[-rank] == pytest.approx(float(upper))
    assert abs(rank - rounds._rank.__wrapped__(len(ratios), error)) <= 1


def test_the_normal_law_takes_over_where_the_exact_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the last number of rounds that is counted exactly, both laws give the same rank within one."""
    exact = rounds._rank.__wrapped__(rounds.EXACT_UP_TO, 0.05)
    monkeypatch.setattr(rounds, "EXACT_UP_TO", rounds.EXACT_UP_TO - 1)
    assert abs(rounds._rank.__wrapped__(rounds.EXACT_UP_TO + 1, 0.05) - exact) <= 1


def test_ten_thousand_rounds_need_no_table_of_their_pairs() -> None:
    """The bounds of 10 000 rounds take a few megabytes, where their 50 million pairs would take 400."""
    ratios = np.random.default_rng(2).normal(0.2, 0.05, 10_000)
    tracemalloc.start()
    middle, lower, upper = rounds.signed_rank(ratios, 0.05)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lower < middle < upper
    assert peak < 5_000_000
