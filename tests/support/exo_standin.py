"""Start the stand-in `exo` of a rehearsal on its nodes, straight from its source tree, for tests of its behaviour."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rehearsal.layout import NODES, Layout, environment
from tests.support.wire import Answer, ask, documents

QUICK = {"download_s": 0.2, "cold_s": 0.0, "first_token_s": 0.01, "tokens_per_s": 500.0, "stale_s": 1.5, "stop_s": 0.05}
"""Settings that keep tests short."""
Process = subprocess.Popen[bytes]
RUN = "from exo.main import run; run()"


def start(layout: Layout, key: str, flags: list[str], **more: str) -> Process:
    """Start `exo FLAGS` on a node; its output goes to `exo.log` in the node's folder."""
    node = layout.node(key)
    own = environment(layout, node) | {"PYTHONPATH": str(layout.source), "PYTHONUNBUFFERED": "1"} | more
    with (node.folder / "exo.log").open("w") as log:
        return subprocess.Popen([sys.executable, "-c", RUN, *flags], env=own, cwd=node.home, stdout=log, stderr=log)


def daemon_flags(layout: Layout, key: str, tokens: int = 6) -> list[str]:
    """Return the flags that form a cluster by manual discovery; the file is written to the rehearsal's folder."""
    device = {"model": "Linux Box", "chip": "Unknown Chip", "memory": 8192, "flops": {"fp32": 0, "fp16": 0, "int8": 0}}
    peers = {
        n.key: {"address": n.address, "port": layout.peer_port, "device_capabilities": device} for n in layout.nodes()
    }
    file = layout.root / "discovery.json"
    file.write_text(json.dumps({"peers": peers}))
    return [
        *("--node-id", key, "--node-port", str(layout.peer_port), "--chatgpt-api-port", str(layout.api_port)),
        *("--discovery-module", "manual", "--discovery-config-path", str(file), "--disable-tui"),
        *("--max-generate-tokens", str(tokens)),
    ]


def start_all(layout: Layout, tokens: int = 6) -> dict[str, Process]:
    """Start a cluster and wait until every node sees all three and all six edges."""
    running = {key: start(layout, key, daemon_flags(layout, key, tokens)) for key in NODES}
    for key in NODES:
        wait_until(lambda key=key: edges_seen_by(layout, key) == 6)  # type: ignore[misc]
    return running


def seen_by(layout: Layout, key: str) -> list[str]:
    """Return the nodes in a node's own topology; [] while it does not answer."""
    try:
        found: dict[str, Any] = documents(to(layout, key, "GET /v1/topology").body)[0]
    except (OSError, ValueError):
        return []
    return sorted(found["nodes"])


def edges_seen_by(layout: Layout, key: str) -> int:
    """Return how many edges a node's own topology has; 0 while it does not answer."""
    try:
        graph: dict[str, list[Any]] = documents(to(layout, key, "GET /v1/topology").body)[0]["peer_graph"]
    except (OSError, ValueError):
        return 0
    return sum(len(edges) for edges in graph.values())


def to(layout: Layout, key: str, request: str, body: object = "", timeout_s: float = 20.0) -> Answer:
    """Ask a node's EXO API."""
    text = body if isinstance(body, str) else json.dumps(body)
    return ask(layout.node(key).address, layout.api_port, request, text, timeout_s)


def stop(running: dict[str, Process]) -> dict[str, int]:
    """Send SIGTERM to all and return their exit codes; what does not end is killed, or it would serve the next test."""
    for process in running.values():
        process.terminate()
    try:
        return {key: process.wait(60) for key, process in running.items()}
    finally:
        for process in running.values():
            process.kill()


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `true` says so; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def log_of(layout: Layout, key: str) -> str:
    """Return what a node's exo has printed so far."""
    return Path(layout.node(key).folder / "exo.log").read_text(encoding="utf-8")
