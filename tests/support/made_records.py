"""Made-up records of the fifteen steps, each with every fact a step leaves, for `tests.support.campaigns`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from records import facts, plan
from records.record import SCHEMA_VERSION, Record
from records.settings import Limits

NODES = ("srv1", "srv2", "rog")
RATES = {"rog": 30.0, "srv1": 9.0}
"""Tokens per second of each baseline; EXO's is the fastest one's times the speed-up."""
BEGIN = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
EXO_MODEL, OLLAMA_MODEL = "llama-3.2-3b", "llama3.2:3b-instruct-fp16"
TOKENS = 64
REQUESTS, WARMUPS = 3, 1


def utc(clock: float) -> str:
    """Return the time stamp `clock` seconds after BEGIN."""
    return (BEGIN + timedelta(seconds=clock)).isoformat(timespec="milliseconds")


def record(
    number: int,
    result: msgspec.Struct | None,
    *,
    rehearsal: dict[str, Any] | None = None,
    limits: Limits | None = None,
    baselines: Sequence[str] = ("rog", "srv1"),
) -> Record:
    """Return the record of an ended step, or of a skipped one."""
    return Record(
        schema=SCHEMA_VERSION,
        step=number,
        name=plan.step_numbered(number).name,
        status="skipped" if isinstance(result, facts.Skipped) else "ok",
        summary="done",
        profile="llama-0015",
        started_utc=utc(600.0 * number),
        elapsed_s=10.0,
        tool_version="0.1.0",
        campaign="0123456789ab",
        rehearsal=rehearsal,
        settings={
            "limits": msgspec.to_builtins(limits or Limits()),
            "bench": {"node": "srv1", "runs": 6, "requests": REQUESTS, "warmups": WARMUPS},
            "profile": {"exo": {"release": "0.0.15"}},
            "nodes": {node: {"host": node} for node in NODES},
            "ollama": {arm: {"node": arm, "url": f"http://{arm}:11434", "gpu": arm == "rog"} for arm in baselines},
        },
        result=msgspec.to_builtins(result) if result is not None else {},
    )


def results(arms: dict[int, tuple[str, ...]], runs: int, until_decided: bool) -> dict[int, msgspec.Struct]:
    """Return the result of every step; `arms` are those that steps 11 and 12 measured."""
    state = {arm: facts.OllamaState(arm, f"http://{arm}:11434", "0.5.13", {OLLAMA_MODEL: "12ab"}) for arm in arms[11]}
    models = {
        arm: facts.OllamaModel(arm, OLLAMA_MODEL, "12ab", "F16", "3.2B", 6_400_000_000, 6_400_000_000)
        for arm in arms[11]
    }
    whole = dict.fromkeys(NODES, True)
    steps: dict[int, msgspec.Struct] = {
        1: facts.Preflight({node: _machine(node) for node in NODES}, state),
        8: facts.Cluster(
            {n: facts.NodeView(n, list(NODES), 6, True, 3.0, {}) for n in NODES}, list(NODES), 6, True
        ),
        9: facts.ModelReady("small", EXO_MODEL, EXO_MODEL, "fp16", 31.0, dict.fromkeys(NODES, "6.4 GB"), models),
        10: facts.ScriptReady("srv1", "/home/x/benchmark.py", "ab" * 32, "3.12.3", [
            facts.Calibration(speed, frame, 20, 3e-4, 9e-4, 1e-5, 3e-4, 2e-4, 8e-4)
            for speed in (20.0, 50.0, 100.0, 500.0) for frame in (1, 4)
        ]),
        13: facts.Skipped("step 12 did not end in GO"),
        14: facts.Documented("GO", ["exo-phase1-results.md"]),
        15: facts.Cleaned(
            {n: facts.Stopped(n, True, "TERM", 1.0, {"52416": True}, []) for n in NODES}, state, state, True, []
        ),
    }  # fmt: skip
    for step in (11, 12):
        gpu = {arm: arm in ("rog", "exo") for arm in arms[step]}
        steps[step] = facts.Benchmark(
            "small", EXO_MODEL if step == 12 else None, OLLAMA_MODEL, list(arms[step]), runs, REQUESTS, WARMUPS,
            TOKENS, 7, [], {arm: "restart" if arm == "exo" else "reload" for arm in arms[step]},
            {arm: "AMD Radeon" if gpu[arm] else "CPU" for arm in gpu}, gpu,
            {arm: "gpu" if claimed else "cpu" for arm, claimed in gpu.items()}, whole if step == 12 else {},
            whole if step == 12 else {}, models, "fp16" if step == 12 else "", 0, until_decided and step == 12,
        )  # fmt: skip
    for step, node in ((2, "srv1"), (3, "srv2"), (4, "rog")):
        steps[step] = facts.Installed(
            node,
            "0.0.15",
            "0.0.x",
            "git+https://example.org/exo@v0.0.15",
            "c0ffee",
            "/venv",
            "/venv/bin/exo",
            "3.12",
            probe=_probe(node),
        )
        steps[step + 3] = facts.Started(
            node, node, 4000 + step, 99, "exo --node-id " + node, 52416, "/log", 2.4,
            "AMD" if node == "rog" else "CLANG", "gpu" if node == "rog" else "cpu", node == "rog",
        )  # fmt: skip
    return dict(sorted(steps.items()))


def _probe(node: str) -> facts.ComputeProbe:
    device, version = ("AMD", "0.11.0") if node == "rog" else ("CPU", "0.10.2")
    return facts.ComputeProbe(node, "tinygrad", device, True, 3.2, {"import": 0.4}, {"tinygrad": version})


def _machine(node: str) -> facts.NodePython:
    memory = {"srv1": 32, "srv2": 16, "rog": 64}[node] * 1_000_000_000
    trip_s = {"srv1": 0.0, "srv2": 0.001, "rog": 0.004}[node]
    return facts.NodePython(
        node, node, node, "Debian 12", "6.1.0", "Ryzen", 8, memory, 10**11, "/usr/bin/python3", "3.12.3", trip_s
    )
