"""Runs -> one estimate an arm: its rate over all runs, the spreads of its times, what failed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from records.samples import Sample
from reports.stats.runs import RunValue, decode_rate_tokens_per_s, in_schedule, inter_token_gaps_s, is_good, run_values
from reports.stats.summary import Summary, summary_of_values


class ArmEstimate(msgspec.Struct, frozen=True):
    """One arm over all of its runs. Spreads are over the timed good requests (inter-token: over their gaps)."""

    arm: str
    engine: Literal["exo", "ollama"] = msgspec.field(name="side")
    runs: list[RunValue]
    rate_tokens_per_s: float | None
    """Geometric mean of the runs; None where no request was good."""
    rate_cv: float | None
    """Standard deviation of the runs' log rates, which is their coefficient of variation; None below two runs."""
    first_token_s: Summary | None
    inter_token_s: Summary | None
    decode_tokens_per_s: Summary | None
    total_s: Summary | None
    output_tokens: Summary | None
    timed: int
    """Timed requests, failed ones included."""
    failed: int
    warmups: int
    errors: list[str]
    """Every failed timed request, `run 2 request 3: reason`."""


def arm_estimates(samples: Iterable[Sample]) -> list[ArmEstimate]:
    """Return one estimate an arm, EXO first, the baselines by name. The order of `samples` does not matter."""
    return [_estimate(arm, members) for arm, members in by_arm(filter(in_schedule, samples)).items()]


class ArmRuns(NamedTuple):
    """The runs alone, which is all that a ratio needs: one value each, by run number."""

    exo: list[RunValue]
    baselines: dict[str, list[RunValue]]
    """Arm -> its runs."""


def runs_of_arms(arms: Iterable[ArmEstimate]) -> ArmRuns:
    """Return EXO's runs and every baseline's."""
    found = ArmRuns([], {})
    for arm in arms:
        if arm.engine == "exo":
            found.exo.extend(arm.runs)
        else:
            found.baselines[arm.arm] = arm.runs
    return found


def by_arm(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Return every arm with its samples, EXO first, the baselines by name."""
    arms: dict[str, list[Sample]] = {}
    for sample in samples:
        arms.setdefault(sample.arm, []).append(sample)
    return dict(sorted(arms.items(), key=lambda item: (item[1][0].engine != "exo", item[0])))


def _estimate(arm: str, samples: list[Sample]) -> ArmEstimate:
    timed = sorted((s for s in samples if not s.warmup), key=lambda s: (s.run, s.request))
    good = [sample for sample in timed if is_good(sample)]
    bad = [sample for sample in timed if not is_good(sample)]
    runs = run_values(samples)
    logs = [run.log_rate for run in runs]
    return ArmEstimate(
        arm=arm,
        engine=samples[0].engine,
        runs=runs,
        rate_tokens_per_s=math.exp(statistics.fmean(logs)) if logs else None,
        rate_cv=statistics.stdev(logs) if len(logs) > 1 else None,
        first_token_s=summary_of_values(s.first_token_s for s in good if s.first_token_s is not None),
        inter_token_s=summary_of_values(gap for s in good for gap in inter_token_gaps_s(s)),
        decode_tokens_per_s=summary_of_values(r for r in map(decode_rate_tokens_per_s, good) if r is not None),
        total_s=summary_of_values(s.total_s for s in good if s.total_s is not None),
        output_tokens=summary_of_values(float(s.output_tokens) for s in good if s.output_tokens is not None),
        timed=len(timed),
        failed=len(bad),
        warmups=sum(sample.warmup for sample in samples),
        errors=[f"run {s.run} request {s.request}: {s.error or 'no tokens or no time in the answer'}" for s in bad],
    )
