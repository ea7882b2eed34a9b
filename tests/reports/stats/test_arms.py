"""Estimates and intervals: held against scipy.stats as an independent oracle, and against what must not matter."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from records.settings import Limits
from reports.stats import intervals
from reports.stats.arms import arm_estimates
from reports.stats.comparison import compare
from reports.stats.runs import RunValue, decode_rate_tokens_per_s, inter_token_gaps_s, run_values
from reports.stats.summary import summary_of_values
from tests.support.campaigns import failed, make_campaign, sample

logs = st.lists(st.floats(-3, 3, allow_nan=False), min_size=3, max_size=8)


def runs(values: list[float], arm: str = "exo") -> list[RunValue]:
    """Make runs of these log rates."""
    return [RunValue(arm, number, math.exp(value), value, 3) for number, value in enumerate(values, start=1)]


@settings(max_examples=200, deadline=None)
@given(logs, logs, st.sampled_from([0.9, 0.95, 0.99]))
def test_welch_is_scipys(a: list[float], b: list[float], confidence: float) -> None:
    """The bounds and degrees of freedom are those of scipy's Welch test at the same one-sided level."""
    if np.var(a) + np.var(b) < 1e-12:
        return
    difference, lower, upper, freedom = intervals.welch(a, b, confidence)
    oracle = scipy_stats.ttest_ind(a, b, equal_var=False)
    both = oracle.confidence_interval(confidence_level=2 * confidence - 1)
    assert difference == pytest.approx(np.mean(a) - np.mean(b), abs=1e-9)
    assert freedom == pytest.approx(oracle.df, rel=1e-6)
    assert (lower, upper) == pytest.approx((both.low, both.high), rel=1e-6, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 7), st.integers(2, 7), st.integers(0, 10_000))
def test_exact_bounds_invert_scipys_exact_mann_whitney(n: int, m: int, seed: int) -> None:
    """A shift just inside the lower bound is not rejected by the exact one-sided test, one just outside is."""
    chance = random.Random(seed)
    a, b = ([chance.gauss(0.2, 1) for _ in range(k)] for k in (n, m))
    found = intervals.exact_bounds(intervals.ordered_differences(a, b), n, m, 0.95)

    def p_that_shift_is_more_than(shift: float) -> float:
        moved = [value - shift for value in a]
        return float(scipy_stats.mannwhitneyu(moved, b, alternative="greater", method="exact").pvalue)

    if found is None:
        assert p_that_shift_is_more_than(-1e6) > 0.05  # even complete separation does not reach the level
    else:
        assert p_that_shift_is_more_than(found[0] - 1e-9) <= 0.05 + 1e-12 < p_that_shift_is_more_than(found[0] + 1e-9)


@pytest.mark.parametrize(
    ("n", "m", "rank"),
    [(1, 30, 1), (2, 2, 0), (2, 4, 0), (2, 5, 1), (3, 3, 1), (4, 4, 2), (5, 5, 5), (6, 6, 8), (10, 10, 28)],
)
def test_rank_of_the_bound_is_the_published_one(n: int, m: int, rank: int) -> None:
    """The rank equals the tabled critical value plus one (5 %, one-sided); 3 against 3 just exists at 1 in 20."""
    assert intervals.bound_rank(n, m, 0.95) == rank


def test_large_samples_meet_the_normal_approximation() -> None:
    """Counting and approximating give neighbouring ranks where one hands over to the other."""
    counted, approximated = intervals.bound_rank(100, 100, 0.95), intervals.bound_rank(101, 100, 0.95)
    assert 0 < approximated - counted < 100


def test_one_run_a_side_bounds_nothing() -> None:
    """With a single run there is a ratio, no degrees of freedom, infinite bounds and no agreement."""
    found = compare(runs([1.0]), runs([0.5, 0.6], "srv1"), Limits())
    assert (found.lower, found.upper, found.degrees_of_freedom, found.agree) == (0.0, math.inf, 0.0, False)
    assert found.ratio == pytest.approx(math.exp(0.45))


def test_a_side_without_runs_is_refused() -> None:
    """There is no comparison with nothing."""
    with pytest.raises(ValueError, match="each arm"):
        compare(runs([1.0, 1.1]), [], Limits())


def test_without_variance_the_bounds_are_the_ratio() -> None:
    """Equal runs of both arms leave no doubt about the ratio between them."""
    found = compare(runs([math.log(13)] * 3), runs([math.log(10)] * 3, "srv1"), Limits())
    assert found.lower == found.ratio == found.upper == pytest.approx(1.3)
    assert found.says == "above"  # exactly on the target is on it, whatever the last bit of a logarithm says
    assert found.agree


@settings(max_examples=100, deadline=None)
@given(logs, logs, st.floats(-2, 2))
def test_scaling_one_side_scales_everything(a: list[float], b: list[float], shift: float) -> None:
    """Measuring EXO in a unit c times as large multiplies ratio and bounds by c and moves nothing else."""
    one = compare(runs(a), runs(b, "srv1"), Limits())
    other = compare(runs([x + shift for x in a]), runs(b, "srv1"), Limits())
    scale = math.exp(shift)
    for field in ("ratio", "lower", "upper", "hl_ratio"):
        assert getattr(other, field) == pytest.approx(getattr(one, field) * scale, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(logs, logs)
def test_swapping_the_sides_inverts_the_ratio(a: list[float], b: list[float]) -> None:
    """Ollama over EXO is one over EXO over Ollama, and the bounds change places."""
    one, other = compare(runs(a), runs(b, "srv1"), Limits()), compare(runs(b), runs(a, "srv1"), Limits())
    assert other.ratio == pytest.approx(1 / one.ratio, rel=1e-9)
    assert other.lower == pytest.approx(1 / one.upper, rel=1e-6)
    assert other.hl_ratio == pytest.approx(1 / one.hl_ratio, rel=1e-9)
    if one.hl_lower is not None and one.hl_upper is not None:
        assert (other.hl_lower, other.hl_upper) == pytest.approx((1 / one.hl_upper, 1 / one.hl_lower), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(chance: random.Random) -> None:
    """Estimates are the same however the lines of the file are shuffled."""
    samples = make_campaign(runs=3).samples[12]
    shuffled = samples[:]
    chance.shuffle(shuffled)
    assert arm_estimates(shuffled) == arm_estimates(samples)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_percentiles_are_numpys(values: list[float]) -> None:
    """Median and percentiles are numpy's linear interpolation."""
    found = summary_of_values(values)
    assert found is not None
    wanted = np.percentile(values, [10, 50, 90, 99])
    assert (found.p10, found.median, found.p90, found.p99) == pytest.approx(tuple(wanted), rel=1e-9, abs=1e-6)
    assert summary_of_values([]) is None


def test_a_run_is_the_geometric_mean_of_its_timed_good_requests() -> None:
    """Warm-ups, failed requests and the concurrency experiment do not count; the run does, with what is left."""
    lines = [
        sample("exo", 1, 0, 5.0, warmup=True),
        sample("exo", 1, 1, 10.0),
        sample("exo", 1, 2, 40.0),
        failed(sample("exo", 1, 3, 99.0)),
        msgspec.structs.replace(sample("exo", 1, 4, 99.0), concurrency=4),
        msgspec.structs.replace(sample("exo", 0, 0, 99.0), run=0),
        failed(sample("exo", 2, 1, 10.0)),
    ]
    [value] = run_values(lines)
    assert (value.run, value.requests) == (1, 2)
    assert value.rate_tokens_per_s == pytest.approx(20.0)
    [arm] = arm_estimates(lines)
    assert (arm.timed, arm.failed, arm.warmups) == (4, 2, 1)
    assert arm.errors[0].startswith("run 1 request 3: the stream ended")
    assert arm.rate_cv is None


def test_an_arm_that_always_failed_has_no_rate() -> None:
    """Nothing good leaves no rate, no spread and no runs; the failures are all listed."""
    [arm] = arm_estimates([failed(sample("rog", 1, k, 10.0)) for k in range(3)])
    assert (arm.rate_tokens_per_s, arm.runs, arm.first_token_s, arm.failed) == (None, [], None, 3)
    assert len(arm.errors) == 3


@pytest.mark.parametrize("tokens_per_frame", [1, 2, 4, 8])
def test_decode_rate_and_gaps_do_not_depend_on_the_frame_size(tokens_per_frame: int) -> None:
    """A server of 50 tokens/s reads 50 tokens/s and 20 ms, however many tokens it packs into a frame."""
    times = [0.1 + 0.02 * k for k in range(0, 64, tokens_per_frame)]
    packed = msgspec.structs.replace(
        sample("exo", 1, 1, 50.0),
        frame_times_s=times,
        first_token_s=times[0],
        last_token_s=times[-1],
        first_frame_tokens=tokens_per_frame,
        output_tokens=64,
    )
    assert decode_rate_tokens_per_s(packed) == pytest.approx(50.0)
    assert inter_token_gaps_s(packed) == pytest.approx([0.02] * (len(times) - 1))


def test_decode_rate_is_none_where_it_cannot_be_told() -> None:
    """One frame, or no times, has no decode rate."""
    one = msgspec.structs.replace(sample("exo", 1, 1, 50.0), first_frame_tokens=64)
    assert decode_rate_tokens_per_s(one) is None
    assert decode_rate_tokens_per_s(failed(one)) is None
    assert inter_token_gaps_s(msgspec.structs.replace(one, frame_times_s=[0.1])) == []
