"""Writes a whole campaign with every fact filled in, for the tests of the report: what a real one leaves in `logs/`.

`text` passes through every field that somebody else said (a server, a node, a model), so that a hostile one can be
thrown through all of them at once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from reports import facts, plan
from reports.record import Command, Deviation, Problem, Record, write_record
from reports.samples import Conditions, Sample

Text = Callable[[str], str]
NODES = ("srv1", "srv2", "rog")
BASELINES = ("rog", "srv1")


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
    results = _results(text, runs, large_baselines)
    for number in steps:
        step = plan.step_numbered(number)
        record = Record(
            schema=1,
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
        side="exo" if arm == "exo" else "ollama",
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
            schema=1,
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
            error=Problem(
                text("rog"), text("no witness names the Radeon 8060S"), text("ROCm on rog"), text("install ROCm")
            ),
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


def _results(text: Text, runs: int, large_baselines: tuple[str, ...]) -> dict[int, msgspec.Struct]:
    results: dict[int, msgspec.Struct] = {
        1: facts.Preflight(
            {node: _machine(node, text) for node in NODES},
            {arm: _ollama(arm, text) for arm in BASELINES},
            network={"srv1": text("direct"), "srv2": text("direct"), "rog": text("relayed (fra)")},
        ),
        8: facts.Cluster(
            {n: facts.NodeView(n, [text(m) for m in NODES], 6, True, 3.2, {n: text("CLANG")}) for n in NODES},
            list(NODES),
            6,
            True,
        ),
        9: facts.ModelReady(
            "small", text("llama-3.2-3b"), text("llama-3.2-3b"), text("fp16"), 31.0,
            {node: text("6.4 GB, 9 of 9 files") for node in NODES}, _models(text),
        ),
        10: facts.ScriptReady(
            "srv1", text("/home/x/benchmark.py"), "ab" * 32, text("3.12.3"),
            [facts.Calibration(50, 1, 30, 0.0004, 0.0009, 0.00001, 0.0003, 0.0004, 0.001)],
        ),
        13: _benchmark(("exo", *large_baselines), runs, text),
        14: facts.Documented("GO", ["exo-phase1-results.md"]),
        15: facts.Cleaned(
            {n: facts.Stopped(n, True, "TERM", 1.2, {"52416": True}, [text("the venv, 1.2 GB")]) for n in NODES},
            {arm: _ollama(arm, text) for arm in BASELINES},
            {arm: _ollama(arm, text) for arm in BASELINES},
            True,
            [],
        ),
        11: _benchmark(BASELINES, runs, text),
        12: _benchmark(("exo", *BASELINES), runs, text),
    }  # fmt: skip
    for step, node in ((2, "srv1"), (3, "srv2"), (4, "rog")):
        results[step] = _installed(node, text)
        results[step + 3] = facts.Started(
            node, node, 4000 + step, 99, text(f"exo --node-id {node} --node-port 50051"), 52416,
            text("/home/x/exo.log"), 2.4, text("AMD" if node == "rog" else "CLANG"),
            "gpu" if node == "rog" else "cpu", node == "rog",
        )  # fmt: skip
    return results


def _machine(node: str, text: Text) -> facts.NodePython:
    return facts.NodePython(
        node, text(f"ndnlinux{node}"), text(node), text("Debian GNU/Linux 12"), text("6.1.0"), text("AMD Ryzen"),
        8, 32_000_000_000, 200_000_000_000, text("/usr/bin/python3.12"), text("3.12.3"), 0.0021,
    )  # fmt: skip


def _ollama(arm: str, text: Text) -> facts.OllamaState:
    return facts.OllamaState(arm, text("http://localhost:11434"), text("0.5.13"), {"llama3.2:3b": "sha256:12ab"})


def _models(text: Text) -> dict[str, facts.OllamaModel]:
    return {
        arm: facts.OllamaModel(
            arm, text("llama3.2:3b-instruct-fp16"), text("sha256:" + "1" * 64), text("F16"), text("3.2B"),
            6_400_000_000, 6_000_000_000 if arm == "rog" else 0,
        )
        for arm in BASELINES
    }  # fmt: skip


def _installed(node: str, text: Text) -> facts.Installed:
    witnesses = list(_witnesses(text)) if node == "rog" else []
    return facts.Installed(
        node, text("0.0.15"), text("0.0.x"), text("git+https://example.org/exo@v0.0.15"), text("c0ffee" * 6),
        text("/home/x/venv"), text("/home/x/venv/bin/exo"), text("3.12.3"), {"tinygrad": text("0.11")},
        facts.GpuTruth(node, text("Radeon 8060S"), True, True, witnesses) if witnesses else None,
    )  # fmt: skip


def _witnesses(text: Text) -> Iterator[facts.Witness]:
    yield facts.Witness("rocm-smi", text("AMD Radeon Graphics"), None)
    yield facts.Witness("sysfs", text("0x1002:0x1586"), True)


def _benchmark(arms: tuple[str, ...], runs: int, text: Text) -> facts.Benchmark:
    return facts.Benchmark(
        "small", text("llama-3.2-3b") if "exo" in arms else None, text("llama3.2:3b-instruct-fp16"), list(arms), runs,
        3, 1, 32, 7, [f"{arm}:{run}" for run in range(1, runs + 1) for arm in arms], dict.fromkeys(arms, "restart"),
        {arm: text("AMD") for arm in arms}, {"rog": True, "exo": True}, {"rog": "gpu", "exo": "gpu"},
        dict.fromkeys(NODES, True), dict.fromkeys(NODES, True), _models(text), text("fp16"),
    )  # fmt: skip
