"""Checks of the schedule: all of it there, in turns, steady, and by an instrument whose error is known."""

from __future__ import annotations

import math
from collections import Counter

from scipy.special import stdtrit

from records import plan
from records.campaign import Campaign
from records.facts import Calibration
from reports.checks.check import Check
from reports.checks.evidence import arms_of, first_few, lost_runs, runs_of, schedule_samples, unreadable_of
from reports.stats.rounds import FEWEST_ROUNDS
from reports.stats.runs import is_good
from reports.stats.sample_size import compare_control

DRIFT_ERROR = 0.01
"""Probability of calling a trend where there is none, per arm: rare enough that the warning means something."""
DRIFT_RUNS = 4


def complete(campaign: Campaign, step: int) -> Check:
    """Tell whether every planned request of every run is in the raw data, once."""
    name, why = "complete", "Leaving out requests after seeing them is the oldest way to any result."
    benchmark = campaign.benchmark(step)
    files = (plan.step_numbered(step).samples_name, plan.step_numbered(step).conditions_name)
    torn = [f"{file} line {line.line}" for file in files for line in campaign.torn.get(file, [])]
    if benchmark is None:
        return Check(name, "unknown", f"step {step} has not ended", why)
    count = Counter((s.arm, s.run, s.request) for s in schedule_samples(campaign, step) if not s.warmup)
    present = Counter((arm, run) for arm, run, _ in count)
    lost = lost_runs(campaign, step)
    missing = [
        f"{arm} run {run} has {present[arm, run]} of {benchmark.requests} requests"
        for arm in benchmark.arms
        for run in range(1, benchmark.runs + 1)
        if present[arm, run] < benchmark.requests and (arm, run) not in lost
    ]
    if missing:
        evidence = first_few(missing) + (f" (unreadable: {first_few(torn)})" if torn else "")
        return Check(name, "fatal", evidence, why)
    twice = [f"{arm} run {run} request {request}" for (arm, run, request), times in count.items() if times > 1]
    if twice or torn:
        odd = [*(f"{key} is there twice" for key in twice), *(f"{line} cannot be read" for line in torn)]
        return Check(name, "warn", first_few(odd), why)
    if lost:
        return Check(name, "warn", "lost: " + first_few(f"{arm} run {run}" for arm, run in sorted(lost)), why)
    total = len(benchmark.arms) * benchmark.runs * benchmark.requests
    return Check(name, "pass", f"all {total} planned requests of {benchmark.runs} runs of each arm", why)


def baselines(campaign: Campaign, step: int) -> Check:
    """Tell whether every Ollama that hosts.yaml names was measured: a missing one might have been the best."""
    name, why = "baselines", "The plan asks about the best single node; one that was not measured might be it."
    named = set(campaign.settings_of(step).ollama or {})
    benchmark = campaign.benchmark(step)
    if step != 12 and benchmark is not None:  # the larger model runs where it fits
        named = {arm for arm in benchmark.arms if arm != "exo"}
    measured = {s.arm for s in schedule_samples(campaign, step) if s.engine == "ollama" and is_good(s)}
    if not named:
        return Check(name, "unknown", f"none is named; measured: {', '.join(sorted(measured)) or 'none'}", why)
    lacking = sorted(named - measured)
    if lacking:
        return Check(name, "unknown", f"no good request of {', '.join(lacking)}", why)
    return Check(name, "pass", ", ".join(sorted(named)), why)


def interleaved(campaign: Campaign, step: int) -> Check:
    """Tell whether the arms took turns: EXO's runs neither all before nor all after a baseline's."""
    name, why = "interleaved", "With one arm after the other, a drift of the machines decides: 10-25 % false GO."
    of_exo, runs = runs_of(campaign, step)
    exo = [run.start_utc for run in of_exo]
    blocks, untold = [], []
    for arm, values in runs.items():
        theirs = [run.start_utc for run in values]
        if not exo or not theirs or not all([*exo, *theirs]):
            untold.append(arm)
        elif min(len(exo), len(theirs)) >= 2 and (max(exo) < min(theirs) or max(theirs) < min(exo)):
            blocks.append(f"all of EXO's {len(exo)} runs lie on one side of {arm}'s {len(theirs)}")
    if blocks:
        return Check(name, "fatal", "; ".join(blocks), why)
    if untold or not runs:
        return Check(name, "unknown", "no times of both engines to compare", why)
    return Check(name, "pass", "the arms took turns", why)


def instrument(campaign: Campaign, step: int) -> Check:
    """Tell whether the script's own error is small beside what it measured, at the nearest calibrated speed.

    The rate votes, so its error is fatal beyond the limit; the latencies are only shown, so theirs is a warning.
    """
    name, why = "instrument", "No result is finer than the error of what it was measured with."
    ready = campaign.script
    arms = [a for a in arms_of(campaign, step) if a.rate_tokens_per_s and a.first_token_s]
    if ready is None or not ready.calibration or not arms:
        unread = first_few(unreadable_of(campaign, [10]))
        return Check(name, "unknown", unread or "no calibration (step 10) or nothing measured", why)
    limit = campaign.limits.instrument_fraction
    fatal, warned, errors = [], [], []
    for arm in arms:
        decode = arm.decode_tokens_per_s.median if arm.decode_tokens_per_s else arm.rate_tokens_per_s or 1.0
        for calibration in _nearest(ready.calibration, decode):
            rate = abs(calibration.rate_error_mean_fraction)
            first_s = arm.first_token_s.median if arm.first_token_s else 0.0
            wait = abs(calibration.first_token_error_mean_s) / first_s if first_s > 0 else 0.0
            gap = abs(calibration.inter_token_error_mean_s) * decode
            errors.append((rate, f"{arm.arm}: rate {rate:.2%}, first token {wait:.2%}, inter-token {gap:.2%}"))
            if rate > limit:
                fatal.append(f"{arm.arm}: the rate is off by {rate:.2%} at {calibration.tokens_per_s:g} tokens/s")
            elif max(wait, gap) > limit:
                warned.append(f"{arm.arm}: first token {wait:.2%}, inter-token {gap:.2%} (shown, not voting)")
    if fatal:
        return Check(name, "fatal", f"{first_few(fatal)}; limit {limit:.0%}", why)
    if warned:
        return Check(name, "warn", f"rate within {limit:.0%}; {first_few(dict.fromkeys(warned))}", why)
    return Check(name, "pass", f"largest error of what was measured: {max(errors)[1]}; limit {limit:.0%}", why)


def drift(campaign: Campaign, step: int) -> Check:
    """Tell whether an arm's runs went up or down over time: the slope of log rate over the run's place, by t test."""
    name, why = "drift", "A machine that warms up or fills up measures the hour; the interleaved order only halves it."
    trends, evidence = [], []
    exo, baselines = runs_of(campaign, step)
    for arm, runs in {"exo": exo, **baselines}.items():
        values = sorted(runs, key=lambda run: (run.start_utc, run.start_monotonic_s or 0.0, run.run))
        if len(values) < DRIFT_RUNS:
            continue
        slope, t = _slope([run.log_rate for run in values])
        evidence.append(f"{arm} {math.expm1(slope * (len(values) - 1)):+.1%} from first to last run")
        if abs(t) >= stdtrit(len(values) - 2, 1 - DRIFT_ERROR / 2):
            trends.append(evidence[-1])
    if trends:
        return Check(name, "warn", f"a trend: {'; '.join(trends)}", why, essential=False)
    if not evidence:
        return Check(name, "unknown", f"fewer than {DRIFT_RUNS} runs tell no trend", why, essential=False)
    return Check(name, "pass", f"no trend beyond the noise: {'; '.join(evidence)}", why, essential=False)


def control(campaign: Campaign, _step: int) -> Check:
    """Tell whether Ollama against itself through the same pipeline came out as 1.00 within its interval."""
    name, why = "A/A", "A pipeline that finds a difference between a server and itself would find one anywhere."
    compared = compare_control(campaign.control, campaign.limits)
    if compared is None or compared.round_cv is None:
        lacking = f"{FEWEST_ROUNDS} rounds of a control (`fab bench --control`) are needed"
        return Check(name, "unknown", lacking, why, essential=False)
    evidence = (
        f"itself / itself = {compared.ratio:.3f}, bounds {compared.lower:.3f} to {compared.upper:.3f}, "
        f"{len(compared.rounds)} rounds"
    )
    inside = compared.lower <= 1 <= compared.upper
    return Check(name, "pass" if inside else "warn", evidence, why, essential=False)


def _nearest(calibration: list[Calibration], tokens_per_s: float) -> list[Calibration]:
    """Return the calibrations (one per frame size) at the speed nearest on a logarithmic scale."""
    nearest = min((c.tokens_per_s for c in calibration), key=lambda speed: abs(math.log(speed / tokens_per_s)))
    return [c for c in calibration if c.tokens_per_s == nearest]


def _slope(values: list[float]) -> tuple[float, float]:
    """Return the least-squares slope over 0, 1, 2, ... and its t; t is 0 where nothing varies."""
    n = len(values)
    middle, mean = (n - 1) / 2, math.fsum(values) / n
    width = sum((i - middle) ** 2 for i in range(n))
    slope = sum((i - middle) * (value - mean) for i, value in enumerate(values)) / width
    rest = sum((value - mean - slope * (i - middle)) ** 2 for i, value in enumerate(values))
    if rest < 1e-24:
        return slope, 0.0 if abs(slope) < 1e-12 else math.copysign(math.inf, slope)
    return slope, slope / math.sqrt(rest / (n - 2) / width)
