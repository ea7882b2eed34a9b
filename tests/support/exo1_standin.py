"""Start the stand-in for EXO 1.0.71 on three laid-out nodes and read what they say; used by its tests."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rehearsal.layout import NODES, Layout
from rehearsal.processes import marked
from tests import DATA
from tests.support.exo_standin import QUICK, Process, start, to, wait_until
from tests.support.wire import documents, shape

TOPIC = "wire-exo-1.0.71"
MODEL = "mlx-community/Llama-3.2-1B-Instruct-4bit"
QWEN = "mlx-community/Qwen2.5-3B-Instruct-4bit"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello"}]}
CHAT, BENCH = "POST /v1/chat/completions", "POST /bench/chat/completions"
FAST = QUICK | {"load_s": 0.2, "edges_after_s": 0.3, "look_every_s": 0.1, "redial_s": 1000, "election_s": 0.05}
PLACING = {"model_id": MODEL, "sharding": "Pipeline", "instance_meta": "MlxRing", "min_nodes": 3}
ID = re.compile(r"12D3KooW\w+|[0-9a-f]{8}-[0-9a-f-]{27}")


def start_three(nodes: Layout, mlx: str) -> dict[str, Process]:
    """Start three nodes and wait until each one's state has all six edges."""
    packages = nodes.root / f"mlx-{mlx}"
    if not packages.exists():
        with zipfile.ZipFile(nodes.wheels / f"mlx-{mlx}-py3-none-any.whl") as wheel:
            wheel.extractall(packages)
    running = {}
    for key in NODES:
        others = ",".join(f"/ip4/{n.address}/tcp/{nodes.peer_port}" for n in nodes.nodes() if n.key != key)
        flags = ["--api-port", str(nodes.api_port), "--libp2p-port", str(nodes.peer_port), "--bootstrap-peers", others]
        running[key] = start(nodes, key, flags, PYTHONPATH=f"{nodes.source}:{packages}")
    for key in NODES:
        wait_until(lambda key=key: edges(nodes, key) == 6)  # type: ignore[misc]
    return running


def state(nodes: Layout, key: str = "srv1", path: str = "") -> Any:
    """Return the state that a node tells, or a part of it."""
    return documents(to(nodes, key, f"GET /state{path}").body)[0]


def edges(nodes: Layout, key: str) -> int:
    """Return how many edges a node knows; 0 while it does not answer."""
    try:
        return sum(len(sinks) for sinks in state(nodes, key, "/topology")["connections"].values())
    except OSError:
        return 0


def ready(nodes: Layout, model: str = MODEL) -> str:
    """Place a model over three nodes and wait for its runners; returns the instance."""
    to(nodes, "srv1", "POST /place_instance", PLACING | {"model_id": model})
    wait_until(lambda: [*state(nodes)["runners"].values()].count({"RunnerReady": {}}) == 3)
    found: str = next(iter(state(nodes)["instances"]))
    return found


def form(value: Any) -> Any:
    """Return the shape of a value, ids as keys counting as one key."""
    if isinstance(value, dict) and value and all(ID.fullmatch(key) for key in value):
        return {"an id": form(next(iter(value.values())))}
    if isinstance(value, dict):
        return [(key, form(inner)) for key, inner in value.items()]
    return [form(value[0])] if isinstance(value, list) and value else shape(value)


def body_of(name: str) -> Any:
    """Return a recorded body as JSON."""
    return json.loads((DATA / TOPIC / f"body_{name}.txt").read_text(encoding="utf-8"))


def download_of(nodes: Layout, key: str, model: str = MODEL) -> dict[str, Any]:
    """Return the body that starts a node's download of `model`, its shard taken from a preview."""
    target = documents(to(nodes, key, "GET /node_id").body)[0]
    previews = documents(to(nodes, "srv1", f"GET /instance/previews?model_id={quote(model, safe='')}").body)[0]
    placed = next(iter(previews["previews"][0]["instance"].values()))
    return {"targetNodeId": target, "shardMetadata": next(iter(placed["shardAssignments"]["runnerToShard"].values()))}


def kinds_of(body: str) -> list[str]:
    """Return what each line of an SSE body is: a comment's name, `data`, or `done`."""
    lines = [line for line in body.splitlines() if line.strip()]
    plain = {"data: [DONE]": "done"}
    return [line.split()[1] if line.startswith(":") else plain.get(line, "data") for line in lines]


def pids_of(nodes: Layout, key: str) -> list[int]:
    """Return the PIDs of one node's EXO, its runners included."""
    address = nodes.node(key).address
    found = []
    for pid, command in marked(nodes.root).items():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        if f"EXO_PHASE1_NODE_ADDRESS={address}\0".encode() in environment and "--libp2p-port" in command:
            found.append(pid)
    return found
