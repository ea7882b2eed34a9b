"""Every step's findings, filled in completely; `text` passes through each word that somebody else said."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from records import facts

Text = Callable[[str], str]
NODES = ("srv1", "srv2", "rog")
BASELINES = ("rog", "srv1")


def results_of_steps(text: Text, runs: int, large_baselines: tuple[str, ...]) -> dict[int, msgspec.Struct]:
    """Return the result of every step, by number."""
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
        facts.AmdNode(
            text("live"), text("writable"), False, [text("render")], text("6.4.1"), text("/opt/rocm/lib/x.so"),
            text("/opt/rocm/lib/y.so"), text(""), 96 * 2**30, 15 * 2**30,
        ) if node == "rog" else None,
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
        facts.ComputeProbe(
            node, "tinygrad", text("AMD" if node == "rog" else "CPU"), True, 3.2, {"import": 0.4},
            {"tinygrad": text("0.11.0")},
        ),
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
