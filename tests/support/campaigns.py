"""Made-up campaigns whose true speed-up and noise are known, for the tests of estimates, checks and the verdict.

`make_campaign(speedup=1.5, cv=0.03)` returns a whole one in memory: fifteen records and interleaved samples of steps 11
and 12 with one warm-up and three timed requests a run. `changed(...)` makes it go wrong in one place.
`write_campaign` lays it down as `logs/<profile>/`, which `load_campaign` reads back.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from records import plan
from records.campaign import CONTROL_NAME, Campaign
from records.record import Problem, Record, decoded_result, decoded_settings
from records.samples import Conditions, Sample
from records.settings import Limits
from tests.support.made_records import (
    EXO_MODEL,
    NODES,
    OLLAMA_MODEL,
    RATES,
    REQUESTS,
    TOKENS,
    WARMUPS,
    record,
    results,
    utc,
)


def make_campaign(
    speedup: float = 1.6,
    cv: float = 0.02,
    runs: int = 6,
    *,
    baselines: Sequence[str] = ("rog", "srv1"),
    seed: int = 1,
    request_cv: float = 0.01,
    until_decided: bool = False,
    rehearsal: dict[str, Any] | None = None,
    limits: Limits | None = None,
    last_step: int = 15,
) -> Campaign:
    """Return a campaign that is in order. `cv` is the noise between runs, `request_cv` that within a run."""
    limits = limits or Limits()
    rates = {arm: RATES[arm] for arm in baselines} | {"exo": max(RATES[arm] for arm in baselines) * speedup}
    arms = {11: tuple(baselines), 12: ("exo", *baselines)}
    samples: dict[int, list[Sample]] = {}
    conditions: dict[int, list[Conditions]] = {}
    for step in (s for s in (11, 12) if s <= last_step):
        samples[step], conditions[step] = measurement(
            arms[step], rates, cv, runs, chance=random.Random(f"{seed}-{step}"), request_cv=request_cv, step=step
        )
    made = results(arms, runs, until_decided)
    records = {
        number: record(number, result, rehearsal=rehearsal, limits=limits, baselines=baselines)
        for number, result in made.items()
        if number <= last_step
    }
    return with_records(Campaign("llama-0015", samples=samples, conditions=conditions), records)


def with_records(campaign: Campaign, records: dict[int, Record]) -> Campaign:
    """Return the campaign with these records instead of its own, decoded as reading them would."""
    return msgspec.structs.replace(
        campaign,
        records=records,
        results={n: result for n, kept in records.items() if (result := decoded_result(kept)) is not None},
        settings_by_step={n: decoded_settings(kept) for n, kept in records.items()},
    )


def measurement(
    arms: Sequence[str],
    rates: dict[str, float],
    cv: float,
    runs: int,
    *,
    chance: random.Random,
    request_cv: float = 0.01,
    step: int = 12,
    drift: float = 0.0,
) -> tuple[list[Sample], list[Conditions]]:
    """Return interleaved samples (ABC, CBA, ...) and each run's conditions; `drift` is added to log rates per run."""
    samples: list[Sample] = []
    conditions: list[Conditions] = []
    clock = 600.0 * step
    place = 0
    for run in range(1, runs + 1):
        for arm in arms if run % 2 else tuple(reversed(arms)):
            level = math.log(rates[arm]) + chance.gauss(0, cv) + drift * place
            place += 1
            clock += 90.0
            conditions.append(_conditions(arm, run, clock))
            for request in range(WARMUPS + REQUESTS):
                warmup = request < WARMUPS
                rate = math.exp(level + chance.gauss(0, request_cv)) * (0.6 if warmup else 1.0)
                samples.append(sample(arm, run, request, rate, clock, warmup=warmup))
                clock += (samples[-1].total_s or 0.0) + 0.2
    return samples, conditions


def sample(arm: str, run: int, request: int, rate: float, clock: float = 0.0, *, warmup: bool = False) -> Sample:
    """Return one good request of TOKENS tokens at `rate` tokens per second, its first token after 8 % of the time."""
    total_s = TOKENS / rate
    first_s, last_s = 0.08 * total_s, 0.999 * total_s
    model = EXO_MODEL if arm == "exo" else OLLAMA_MODEL
    return Sample(
        schema=1,
        arm=arm,
        engine="exo" if arm == "exo" else "ollama",
        run=run,
        request=request,
        warmup=warmup,
        model_asked=model,
        model_answered=model,
        output_tokens=TOKENS,
        token_source="usage" if arm == "exo" else "eval_count",
        first_token_s=first_s,
        last_token_s=last_s,
        total_s=total_s,
        error=None,
        campaign="0123456789ab-12",
        start_utc=utc(clock),
        start_monotonic_s=clock,
        connect_s=0.001,
        prompt_sha256=f"{run:032d}{request:032d}",
        prompt_tokens=60,
        max_tokens=TOKENS,
        frame_times_s=[first_s + (last_s - first_s) * i / (TOKENS - 1) for i in range(TOKENS)],
        first_frame_tokens=1,
        load_s=None if arm == "exo" else 0.01,
        finish_reason="length",
        text_sha256=f"{arm}{run}{request}",
        text_head="def binary_search(",
    )


def failed(good: Sample, error: str = "the stream ended without finish_reason") -> Sample:
    """Return `good` as a request that failed."""
    return msgspec.structs.replace(
        good, error=error, output_tokens=None, token_source="none", total_s=None, last_token_s=None
    )


def changed(campaign: Campaign, change: Callable[[Sample], Sample | None], step: int = 12) -> Campaign:
    """Return the campaign with every sample of `step` put through `change`; None drops it."""
    kept = [new for old in campaign.samples[step] if (new := change(old)) is not None]
    return msgspec.structs.replace(campaign, samples={**campaign.samples, step: kept})


def with_result(campaign: Campaign, step: int, **fields: Any) -> Campaign:
    """Return the campaign with these fields of `step`'s result replaced."""
    new = msgspec.structs.replace(campaign.results[step], **fields)
    return msgspec.structs.replace(campaign, results={**campaign.results, step: new})


def with_conditions(campaign: Campaign, change: Callable[[Conditions], Conditions], step: int = 12) -> Campaign:
    """Return the campaign with every run's conditions of `step` put through `change`."""
    new = [change(noted) for noted in campaign.conditions[step]]
    return msgspec.structs.replace(campaign, conditions={**campaign.conditions, step: new})


def with_failed_step(
    campaign: Campaign, step: int, found: str = "the API never answered", exo_said: str = "RuntimeError: no way"
) -> Campaign:
    """Return the campaign with `step` failed and nothing after it, as a StepError leaves it."""
    problem = Problem("srv2", found, "an answer", f"fab {plan.step_numbered(step).name}", exo_said)
    base = campaign.records.get(step) or record(step, None)
    new = msgspec.structs.replace(base, status="failed", result={}, summary=found, errors=[problem])
    records = {number: kept for number, kept in campaign.records.items() if number < step} | {step: new}
    samples = {number: kept for number, kept in campaign.samples.items() if number <= step}
    return with_records(msgspec.structs.replace(campaign, samples=samples), records)


def write_campaign(folder: Path, campaign: Campaign) -> None:
    """Lay the campaign down as files, in the names and formats of a real one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, kept in campaign.records.items():
        (folder / plan.step_numbered(number).record_name).write_bytes(msgspec.json.encode(kept))
    for number, lines in campaign.samples.items():
        _write_lines(folder / plan.step_numbered(number).samples_name, lines)
    for number, noted in campaign.conditions.items():
        _write_lines(folder / plan.step_numbered(number).conditions_name, noted)
    if campaign.control:
        _write_lines(folder / CONTROL_NAME, campaign.control)


def _write_lines(path: Path, structs: Sequence[msgspec.Struct]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(struct) + b"\n" for struct in structs))


def _conditions(arm: str, run: int, clock: float) -> Conditions:
    return Conditions(
        schema=1,
        arm=arm,
        run=run,
        noted_utc=utc(clock - 5),
        reload="restart" if arm == "exo" else "reload",
        reload_s=4.0,
        load_1m=dict.fromkeys(NODES, 0.4),
        cpu_count=dict.fromkeys(NODES, 8),
        gpu_busy_percent={"rog": [30.0, 60.0] if arm == "exo" else [97.0, 99.0] if arm == "rog" else [0.0]},
        ollama_size_bytes=None if arm == "exo" else 6_000_000_000,
        ollama_size_vram_bytes=None if arm == "exo" else 6_000_000_000 if arm == "rog" else 0,
        topology_complete=dict.fromkeys(NODES, True) if arm == "exo" else {},
    )
