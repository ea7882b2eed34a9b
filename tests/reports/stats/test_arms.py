"""Estimates of the arms, held against what must not matter."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.stats.arms import arm_estimates
from reports.stats.runs import RunValue, decode_rate_tokens_per_s, inter_token_gaps_s, run_values
from reports.stats.summary import summary_of_values
from tests.support.campaigns import failed, make_campaign, sample


def runs(values: list[float], arm: str = "exo") -> list[RunValue]:
    """Make runs of these log rates."""
    return [RunValue(arm, number, math.exp(value), value, 3) for number, value in enumerate(values, start=1)]


@settings(max_examples=50)
@given(st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(chance: random.Random) -> None:
    """Estimates are the same however the lines of the file are shuffled."""
    samples = make_campaign(runs=3).samples[12]
    shuffled = samples[:]
    chance.shuffle(shuffled)
    assert arm_estimates(shuffled) == arm_estimates(samples)


@settings(max_examples=100)
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
