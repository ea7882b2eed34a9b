"""How an arm's rate changes from the first to the last timed request of a run: a boost that ends, say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from records.samples import Sample
from reports.stats.runs import is_good, rate_tokens_per_s

FEWEST_RUNS = 3


class WithinRun(msgspec.Struct, frozen=True):
    """One arm: its rate by the place of a request in its run, over the mean of that run."""

    arm: str
    places: list[list[float]]
    """Of every place, the first timed request's first: the rate over its run's mean, one value a run that has it."""
    changes: list[float]
    """Of every run with two good requests: the log of last over first, by a straight line through all of them."""
    t: float
    """Student's t of the changes; 0 where they are too few or do not vary."""

    @property
    def change(self) -> float:
        """Relative change from a run's first timed request to its last, on average."""
        return math.expm1(statistics.fmean(self.changes))


def within_runs(samples: Iterable[Sample]) -> list[WithinRun]:
    """Return one row an arm that has FEWEST_RUNS runs of two good requests, in the order of the samples' arms."""
    by_run: dict[str, dict[int, list[Sample]]] = {}
    for sample in samples:
        if is_good(sample):
            by_run.setdefault(sample.arm, {}).setdefault(sample.run, []).append(sample)
    rows = [_row(arm, list(runs.values())) for arm, runs in sorted(by_run.items())]
    return [row for row in rows if len(row.changes) >= FEWEST_RUNS]


def _row(arm: str, runs: Sequence[Sequence[Sample]]) -> WithinRun:
    first = min(sample.request for run in runs for sample in run)
    last = max(sample.request for run in runs for sample in run)
    places: list[list[float]] = [[] for _ in range(first, last + 1)]
    changes = []
    for run in runs:
        logs = {s.request: math.log(rate) for s in run if (rate := rate_tokens_per_s(s))}
        mean = statistics.fmean(logs.values())
        for request, value in logs.items():
            places[request - first].append(math.exp(value - mean))
        if len(logs) > 1:
            slope = statistics.linear_regression(list(logs), list(logs.values())).slope
            changes.append(slope * (last - first))
    return WithinRun(arm, places, changes, _t(changes))


def _t(values: Sequence[float]) -> float:
    if len(values) < FEWEST_RUNS or (spread := statistics.stdev(values)) < 1e-12:
        return 0.0
    return statistics.fmean(values) / spread * math.sqrt(len(values))
