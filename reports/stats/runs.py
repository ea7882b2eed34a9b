"""Samples -> runs: which requests count, and the one number of a run. docs/methodology.md has the why.

The replicate is the run (one load of the model), never the request: requests of one run share its load, its clock and
its memory layout, so taking them for replicates makes the noise look smaller than it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from records.samples import Sample


class RunValue(msgspec.Struct, frozen=True):
    """One run of one arm: the replicate of every comparison."""

    arm: str
    run: int
    rate_tokens_per_s: float
    """exp of `log_rate`."""
    log_rate: float
    """Mean over the run's timed good requests of log(output tokens / total time)."""
    requests: int
    start_monotonic_s: float | None = None
    start_utc: str = ""


def in_schedule(sample: Sample) -> bool:
    """Tell whether a request belongs to the schedule of runs: not the concurrency experiment's, not of a lost try."""
    return sample.concurrency == 1 and sample.run >= 1 and not sample.lost


def is_good(sample: Sample) -> bool:
    """Tell whether a request counts: timed, of the schedule, whole, with tokens and a time."""
    return not sample.warmup and in_schedule(sample) and rate_tokens_per_s(sample) is not None


def rate_tokens_per_s(sample: Sample) -> float | None:
    """Return a request's output tokens over its wall time; None where it failed, or tells no tokens or no time."""
    if sample.error is not None or not sample.output_tokens or not sample.total_s or sample.total_s < 0:
        return None
    return sample.output_tokens / sample.total_s


def decode_rate_tokens_per_s(sample: Sample) -> float | None:
    """Return (tokens - tokens in the first frame) / (last - first token's arrival); None where it cannot be told.

    Written so that it does not depend on how many tokens a frame carries: counting N tokens over N - 1 intervals, or
    frames for tokens, does.
    """
    first, last, tokens = sample.first_token_s, sample.last_token_s, sample.output_tokens
    if first is None or last is None or not tokens or last <= first:
        return None
    after_first = tokens - (sample.first_frame_tokens or 1)
    return after_first / (last - first) if after_first > 0 else None


def inter_token_gaps_s(sample: Sample) -> list[float]:
    """Return the gaps between content frames, each divided by the mean number of tokens of a later frame."""
    times = sample.frame_times_s
    if len(times) < 2:
        return []
    after_first = (sample.output_tokens or len(times)) - (sample.first_frame_tokens or 1)
    tokens_per_gap = max(1.0, after_first / (len(times) - 1))
    return [(later - earlier) / tokens_per_gap for earlier, later in pairwise(times)]


def start_order(sample: Sample) -> tuple[str, float]:
    """Return a key that sorts samples by when they began; the monotonic clock only settles equal time stamps."""
    return sample.start_utc, sample.start_monotonic_s or 0.0


def run_values(samples: Iterable[Sample]) -> list[RunValue]:
    """Return one value for every run of one arm that has a good timed request, by run number."""
    by_run: dict[int, list[Sample]] = {}
    for sample in samples:
        if in_schedule(sample):
            by_run.setdefault(sample.run, []).append(sample)
    values = []
    for run, members in sorted(by_run.items()):
        logs = [math.log(rate) for s in members if is_good(s) and (rate := rate_tokens_per_s(s))]
        if not logs:
            continue
        log_rate = math.fsum(logs) / len(logs)
        first = min(members, key=start_order)
        values.append(
            RunValue(first.arm, run, math.exp(log_rate), log_rate, len(logs), first.start_monotonic_s, first.start_utc)
        )
    return values
