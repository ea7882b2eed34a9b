"""Samples -> estimates: one number a run, one row an arm, one interval a comparison. docs/methodology.md has the why.

The replicate is the run (one load of the model), never the request: requests of one run share its load, its clock and
its memory layout, so taking them for replicates makes the noise look smaller than it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from reports import intervals
from reports.limits import Limits
from reports.samples import Sample


class Spread(msgspec.Struct, frozen=True):
    """How a list of numbers is spread; the unit is in the name of the field that holds it."""

    n: int
    mean: float
    median: float
    p10: float
    p90: float
    p99: float
    minimum: float
    maximum: float


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


class ArmEstimate(msgspec.Struct, frozen=True):
    """One arm over all of its runs. Spreads are over the timed good requests (inter-token: over their gaps)."""

    arm: str
    side: Literal["exo", "ollama"]
    runs: list[RunValue]
    rate_tokens_per_s: float | None
    """Geometric mean of the runs; None where no request was good."""
    rate_cv: float | None
    """Standard deviation of the runs' log rates, which is their coefficient of variation; None below two runs."""
    first_token_s: Spread | None
    inter_token_s: Spread | None
    decode_tokens_per_s: Spread | None
    total_s: Spread | None
    output_tokens: Spread | None
    timed: int
    """Timed requests, failed ones included."""
    failed: int
    warmups: int
    errors: list[str]
    """Every failed timed request, `run 2 request 3: reason`."""


class Comparison(msgspec.Struct, frozen=True):
    """The ratio of EXO's rate to one baseline's, with two intervals made in different ways."""

    baseline: str
    ratio: float
    lower: float
    """One-sided lower bound at `limits.confidence`; 0 where two runs a side are not there to tell."""
    upper: float
    """One-sided upper bound; infinite in the same case."""
    degrees_of_freedom: float
    hl_ratio: float
    """Hodges-Lehmann estimate."""
    hl_lower: float | None
    """Exact bound of the same level; None where so few runs have none (fewer than 3 a side at 95 %)."""
    hl_upper: float | None
    agree: bool
    """The two intervals stand on the same side of the target, or at least not where only one supports a verdict."""
    exo_runs: int
    ollama_runs: int
    method: str
    confidence: float = 0.95


def is_good(sample: Sample) -> bool:
    """Tell whether a request counts: timed, single-stream, whole, with tokens and a time."""
    return (
        not sample.warmup
        and sample.concurrency == 1
        and sample.error is None
        and bool(sample.output_tokens)
        and bool(sample.total_s)
    )
