"""A dumb 1.x cluster made of recorded states, for flows to be performed against."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from tasks.machines.wire import Reply, Request
from tests.support.recorded import ok, recorded

MODEL = "mlx-community/Llama-3.2-1B-Instruct-4bit"
IDS = {
    "srv1": "12D3KooWW7GMXOL26CUP5257SSJ7RVF2HP7S3QVWKJT7SQ7VPQ5V",
    "srv2": "12D3KooWC5L7MRWCB2PZ7L5LRYDLUZDWV5NXRMMVK2AQ5MZ7F3WX",
    "rog": "12D3KooW6TI4Z2P5BPFGWDJCBE6SDAXTC2AIOC4675UTNEP56TDN",
}


class Cluster:
    """A dumb 1.x cluster: holds a recorded state and moves through recorded runner states as seconds pass."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = json.loads(recorded("exo-1.x", "state_idle.json"))
        self.instance: dict[str, Any] = json.loads(recorded("exo-1.x", "instance.json"))
        self.runners = [json.loads(line) for line in recorded("exo-1.x", "runners.jsonl").splitlines()]
        self.known = [MODEL]
        self.ignored_placings = 0
        self.placed_s: float | None = None
        self.vanishes = False
        self.add = ok("{}")
        self.hook: Callable[[float], None] = lambda _: None

    def __call__(self, node: str, request: Request, now_s: float) -> Reply:
        """Answer as the recorded cluster does."""
        path = request.path.partition("?")[0]
        if path == "/node_id":
            return ok(json.dumps(IDS[node]))
        if path == "/v1/models":
            return ok(json.dumps({"object": "list", "data": [{"id": model} for model in self.known]}))
        if path == "/models/add":
            return self.add
        if path == "/instance/previews":
            return ok(recorded("exo-1.x", "previews.json"))
        if path == "/download/start":
            return ok("{}")
        if path == "/place_instance":
            if self.ignored_placings:
                self.ignored_placings -= 1
            else:
                self.placed_s = now_s
            return ok(recorded("exo-1.x", "place_200.json"))
        if request.method == "DELETE":
            self.placed_s, self.state["instances"] = None, {}
            return ok("{}")
        assert path == "/state"
        self.hook(now_s)
        return ok(json.dumps(self._state(now_s)))

    def _state(self, now_s: float) -> dict[str, Any]:
        state = copy.deepcopy(self.state)
        if self.placed_s is not None:
            at = min(int(now_s - self.placed_s), len(self.runners) - 1)
            state["runners"] = self.runners[at]
            if not (self.vanishes and at == len(self.runners) - 1):
                state["instances"] = self.instance
        return state


def forget(cluster: Cluster, model: str = MODEL) -> None:
    """Make the recorded state one in which nobody has downloaded `model`."""
    for entries in cluster.state["downloads"].values():
        for entry in entries:
            done = entry.get("DownloadCompleted")
            if done and next(iter(done["shardMetadata"].values()))["modelCard"]["modelId"] == model:
                entry["DownloadPending"] = entry.pop("DownloadCompleted")


def progress(cluster: Cluster, name: str, **fields: object) -> None:
    """Put every node's download of MODEL into the state `name` with `fields`."""
    for entries in cluster.state["downloads"].values():
        for entry in entries:
            inner = next(iter(entry.values()))
            if next(iter(inner["shardMetadata"].values()))["modelCard"]["modelId"] == MODEL:
                entry.clear()
                entry[name] = inner | fields
