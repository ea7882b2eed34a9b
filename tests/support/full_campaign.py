"""Writes a whole campaign with every fact filled in, for the tests of the report: what a real one leaves in `logs/`.

`text` passes through every field that somebody else said (a server, a node, a model), so that a hostile one can be
thrown through all of them at once.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import msgspec

from records import plan
from records.record import SCHEMA_VERSION, Command, Deviation, Problem, Record, write_record
from records.samples import Conditions, Sample
from tests.support.full_facts import BASELINES, NODES, Text, results_of_steps


def as_it_is(text: str) -> str:
    """Leave a text alone."""
    return text


def write_campaign(
    folder: Path,
    *,
    speedup: float = 1.6,
    runs: int = 5,
    steps: range = range(1, 16),
    rehearsal: dict[str, Any] | None = None,
    text: Text = as_it_is,
    large_baselines: tuple[str, ...] = (),
    profile: str = "llama-0015",
) -> None:
    """Write records, samples and conditions of `steps` into `folder`; EXO is `speedup` times rog's Ollama."""
    results = results_of_steps(text, runs, large_baselines)
    for number in steps:
        step = plan.step_numbered(number)
        record = Record(
            schema=SCHEMA_VERSION,
            step=number,
            name=step.name,
            status="ok",
            summary=text(f"step {number} says it is done"),
            profile=profile,
            started_utc=f"2026-01-31T12:{number:02d}:00+00:00",
            elapsed_s=1.5 * number,
            tool_version="0.1.0",
            campaign="0123456789ab",
            rehearsal=rehearsal,
            settings=_settings(text),
            result=msgspec.to_builtins(results[number]),
            commands=[Command(text("ndnlinuxsrv1"), text("python3 --version"), 0, 0.1, text("Python 3.12.3"), "")],
            deviations=[Deviation(text(f"the plan of step {number}"), text("done otherwise"), text("because"))],
            warnings=[text("port 52416 answers without a password")] if number == 5 else [],
        )
        write_record(folder, record)
    rates = {"srv1": 9.0, "rog": 30.0, "exo": 30.0 * speedup}
    for number, arms in ((11, BASELINES), (12, ("exo", *BASELINES)), (13, ("exo", *large_baselines))):
        if number in steps:
            write_measurement(folder, number, arms, rates, runs, text)


def write_measurement(
    folder: Path, step: int, arms: tuple[str, ...], rates: dict[str, float], runs: int, text: Text = as_it_is
) -> None:
    """Write interleaved samples and conditions of `step`: one warm-up and three timed requests a run, CV 2 %."""
    chance = random.Random(step)
    named = plan.step_numbered(step)
    clock = 1000.0
    samples: list[bytes] = []
    conditions: list[bytes] = []
    for run in range(1, runs + 1):
        for arm in arms if run % 2 else tuple(reversed(arms)):
            noted = Conditions(
                schema=1,
                arm=arm,
                run=run,
                noted_utc="2026-01-31T12:30:00+00:00",
                reload="restart",
                load_1m={node: 0.3 + 0.1 * place for place, node in enumerate(NODES)},
                cpu_count=dict.fromkeys(NODES, 8),
                gpu_busy_percent={"rog": [20.0, 55.0, 60.0] if arm == "exo" else [97.0, 99.0]},
                ollama_size_vram_bytes=None if arm == "exo" else 6_000_000_000,
                topology_complete=dict.fromkeys(NODES, True) if arm == "exo" else {},
                notes=[text("nothing")],
            )
            conditions.append(msgspec.json.encode(noted) + b"\n")
            for request in range(4):
                rate = rates[arm] * math.exp(chance.gauss(0, 0.02)) * (0.5 if request == 0 else 1)
                sample = _sample(arm, run, request, rate, clock, text)
                clock += (sample.total_s or 0) + 0.5
                samples.append(msgspec.json.encode(sample) + b"\n")
    (folder / named.samples_name).write_bytes(b"".join(samples))
    (folder / named.conditions_name).write_bytes(b"".join(conditions))


def _sample(arm: str, run: int, request: int, rate: float, clock: float, text: Text) -> Sample:
    tokens = 32
    total_s = tokens / rate
    gap = total_s * 0.9 / tokens
    times = [total_s - gap * (tokens - number) for number in range(tokens)]
    model = "llama-3.2-3b" if arm == "exo" else "llama3.2:3b-instruct-fp16"
    return Sample(
        schema=1,
        arm=arm,
        engine="exo" if arm == "exo" else "ollama",
        run=run,
        request=request,
        warmup=request == 0,
        model_asked=model,
        model_answered=model,
        output_tokens=tokens,
        token_source="token_endpoint" if arm == "exo" else "eval_count",
        first_token_s=times[0],
        last_token_s=times[-1],
        total_s=total_s,
        error=None,
        start_utc=f"2026-01-31T12:{int(clock // 60) % 60:02d}:{clock % 60:09.6f}+00:00",
        start_monotonic_s=clock,
        prompt_sha256=f"{run:032d}{request:032d}",
        prompt_tokens=40,
        max_tokens=tokens,
        frame_times_s=times,
        first_frame_tokens=1,
        finish_reason="length",
        text_sha256=f"{run}{request}".zfill(64),
        text_head=text("def binary_search"),
    )


def fail_step(folder: Path, number: int, text: Text = as_it_is) -> None:
    """Write a failed record of step `number` as a StepError leaves it."""
    step = plan.step_numbered(number)
    write_record(
        folder,
        Record(
            schema=SCHEMA_VERSION,
            step=number,
            name=step.name,
            status="failed",
            summary=text("the GPU is not there"),
            profile=folder.name,
            started_utc=f"2026-01-31T12:{number:02d}:00+00:00",
            elapsed_s=3.25,
            tool_version="0.1.0",
            settings=_settings(text),
            commands=[
                Command(text("rog-flow-z13"), text("rocm-smi --json"), 127, 0.2, "", text("rocm-smi: not found")),
            ],
            errors=[
                Problem(
                    text("rog"),
                    text("no witness names the Radeon 8060S"),
                    text("ROCm on rog"),
                    text("install ROCm"),
                    text("RuntimeError: no GPU"),
                )
            ],
        ),
    )


def _settings(text: Text) -> dict[str, Any]:
    return {
        "limits": {"target_ratio": 1.3, "confidence": 0.95},
        "bench": {"runs": 5},
        "nodes": {node: {"host": f"ndnlinux{node}", "address": None, "gpu": None} for node in NODES},
        "ollama": {arm: {"node": arm, "url": "http://localhost:11434"} for arm in BASELINES},
        "profile": {"title": text("EXO 0.0.15 with Llama 3.2 3B at 16 bit")},
    }
