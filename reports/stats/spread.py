"""What requests spread over all Ollamas give, one in flight on each, against the best of them alone; by rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from records.samples import Sample
from reports.stats.comparison import Comparison, compare
from reports.stats.runs import RunValue, is_good, run_values

TOGETHER = "all together"
HALF = 0.5
"""Share of a request's time that the others must have been at work for it to count as at once."""


class Spread(msgspec.Struct, frozen=True):
    """The experiment `fab bench --spread`: every ratio is over the best node's rate alone, in the same round."""

    best_node: str
    best_rate_tokens_per_s: float
    aggregate: Comparison
    """The sum of the rates at which all of them answer at once."""
    each: list[Comparison]
    """Each node's own rate while all of them answer, under its name as `baseline`."""


def spread_of(alone: Sequence[Sample], together: Sequence[Sample], error: float) -> Spread | None:
    """Compare; None where no round has both halves of every node."""
    by_arm = {arm: run_values(s for s in alone if s.arm == arm) for arm in sorted({s.arm for s in alone})}
    by_arm = {arm: runs for arm, runs in by_arm.items() if runs}
    at_once = {arm: run_values(s for s in together if s.arm == arm and _crowded(s, together)) for arm in by_arm}
    if not by_arm or not all(at_once.values()):
        return None
    means = {arm: math.fsum(run.log_rate for run in runs) / len(runs) for arm, runs in by_arm.items()}
    best = max(means, key=lambda arm: means[arm])
    base = [_in_round(run) for run in by_arm[best]]
    sums = compare(_summed(list(at_once.values())), {best: base}, 1.0, error)
    if not sums:
        return None
    each = []
    for arm, runs in at_once.items():
        own = [msgspec.structs.replace(_in_round(run), arm=f"{arm} together") for run in runs]
        each += [msgspec.structs.replace(c, baseline=arm) for c in compare(own, {best: base}, 1.0, error)]
    return Spread(best, math.exp(means[best]), sums[0], each)


def _in_round(run: RunValue) -> RunValue:
    """Return a run under its round's number: of each round the runs 2r - 1 are alone and 2r together."""
    return msgspec.structs.replace(run, run=(run.run + 1) // 2)


def _summed(arms: Sequence[Sequence[RunValue]]) -> list[RunValue]:
    rounds = [{_in_round(run).run: run for run in runs} for runs in arms]
    summed = []
    for number in sorted(set.intersection(*map(set, rounds))):
        runs = [of_arm[number] for of_arm in rounds]
        rate, first = sum(run.rate_tokens_per_s for run in runs), min(runs, key=lambda run: run.start_utc)
        summed.append(
            RunValue(TOGETHER, number, rate, math.log(rate), len(runs), first.start_monotonic_s, first.start_utc)
        )
    return summed


def _crowded(sample: Sample, together: Sequence[Sample]) -> bool:
    """Tell whether every other node was at work for half of a request's time or more; all by one clock."""
    span = _span(sample)
    if not is_good(sample) or span is None:
        return False
    shared = dict.fromkeys((s.arm for s in together if s.arm != sample.arm), 0.0)
    for other in together:
        if other.arm in shared and (busy := _span(other)):
            shared[other.arm] += max(0.0, min(span[1], busy[1]) - max(span[0], busy[0]))
    return all(seconds >= HALF * (span[1] - span[0]) for seconds in shared.values())


def _span(sample: Sample) -> tuple[float, float] | None:
    if sample.start_monotonic_s is None or sample.total_s is None:
        return None
    return sample.start_monotonic_s, sample.start_monotonic_s + sample.total_s
