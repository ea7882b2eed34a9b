"""What a client saw of one streamed answer, and how far that is from the truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from benchmarks.metronome import Truth, gaps, p99, p99_error


class Seen(msgspec.Struct, frozen=True):
    """One answer as a client reports it; seconds."""

    first_s: float
    """From the start of the request to the first piece of text."""
    span_s: float
    """From the first piece of text to the last."""
    gaps_s: list[float] | None = None
    """Between neighbouring pieces; None where the client keeps none."""


class Errors(msgspec.Struct, frozen=True):
    """How far a client's numbers are off."""

    first_token_mean_s: float
    first_token_p99_s: float
    """Of absolute values."""
    rate_mean_fraction: float
    gaps_p99_fraction: float | None
    """None where the client keeps no gaps."""


def seen_of(timing: list[float]) -> Seen:
    """Sum up one answer from the seconds to each piece of text."""
    return Seen(timing[0], timing[-1] - timing[0], gaps(timing))


def errors_of(slow: Sequence[tuple[Truth, Seen]], fast: Sequence[tuple[Truth, Seen]]) -> Errors:
    """Compare first tokens of slow answers, rates and gaps of fast ones, with the truth.

    A client that was held up until all was there saw an answer of no length, at an infinite rate.
    """
    first = [seen.first_s - truth.first_token_s for truth, seen in slow]
    rates = [truth.span_s / seen.span_s - 1 if seen.span_s else math.inf for truth, seen in fast]
    kept = [(truth, seen.gaps_s) for truth, seen in fast if seen.gaps_s is not None]
    return Errors(
        first_token_mean_s=statistics.mean(first),
        first_token_p99_s=p99([abs(error) for error in first]),
        rate_mean_fraction=statistics.mean(rates),
        gaps_p99_fraction=p99_error(kept) if kept else None,
    )
