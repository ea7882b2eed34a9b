"""What `GET /state` of EXO 1.x holds, as far as it is needed here. Read from v1.0.71 and its recorded answers.

Tagged values are objects of one key: `{"RunnerReady": {}}`, `{"MlxRingInstance": {...}}`, `{"DownloadOngoing": {...}}`.
Node ids are random at every start, so a node is found by its address: first by the address under which another node
reached it and got its id back (`topology.connections`), else by one of its interfaces, where only one node has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tasks.machines.wire import read_json

Tagged = dict[str, Any]


class Camel(msgspec.Struct, frozen=True, rename="camel"):
    """Base: fields are spelled `shardAssignments` on the wire."""


class Bytes(Camel, frozen=True):
    """A number of bytes."""

    in_bytes: float = 0


class Interface(Camel, frozen=True):
    """A network interface of a node."""

    ip_address: str = ""


class Network(Camel, frozen=True):
    """The interfaces of a node."""

    interfaces: list[Interface] = []


class Identity(Camel, frozen=True):
    """What a node says it is; under Linux mostly "Unknown"."""

    model_id: str = ""
    chip_id: str = ""
    os_version: str = ""


class Graph(Camel, frozen=True):
    """Nodes and, per source and sink, the connections that were tried and answered."""

    nodes: list[str] = []
    connections: dict[str, dict[str, list[Tagged]]] = {}


class Progress(Camel, frozen=True):
    """How far a download is."""

    total: Bytes = Bytes()
    downloaded: Bytes = Bytes()


class Download(Camel, frozen=True):
    """One model on one node, whatever its state."""

    shard_metadata: Tagged = {}
    total: Bytes = Bytes()
    download_progress: Progress = Progress()
    error_message: str = ""

    def model(self) -> str:
        """Return the model's id, "" where it is not told."""
        card = _inner(self.shard_metadata).get("modelCard")
        return str(card.get("modelId", "")) if isinstance(card, dict) else ""


class Assignments(Camel, frozen=True):
    """Which runner has which layers, and which node has which runner."""

    model_id: str = ""
    runner_to_shard: dict[str, Any] = {}
    node_to_runner: dict[str, str] = {}


class Instance(Camel, frozen=True):
    """A model placed on nodes."""

    shard_assignments: Assignments = Assignments()


class Runner(Camel, frozen=True):
    """What a runner tells beside the name of its state."""

    error_message: str = ""
    layers_loaded: int = 0
    total_layers: int = 0


class State(Camel, frozen=True):
    """The part of the cluster's state that is read here."""

    topology: Graph = Graph()
    node_network: dict[str, Network] = {}
    node_identities: dict[str, Identity] = {}
    instances: dict[str, dict[str, Instance]] = {}
    runners: dict[str, dict[str, Runner]] = {}
    downloads: dict[str, list[dict[str, Download]]] = {}


def read_state(text: str) -> State:
    """Read the answer to `GET /state`. Raises StepError."""
    return read_json(text, State, "EXO's state")


def keys_by_id(state: State, peers: Mapping[str, str]) -> dict[str, str]:
    """Return EXO's id -> key in hosts.yaml, for the nodes whose address tells who they are."""
    reached: dict[str, set[str]] = {}
    for sinks in state.topology.connections.values():
        for sink, tries in sinks.items():
            reached.setdefault(sink, set()).update(_address(attempt) for attempt in tries)
    owned = {node: {i.ip_address for i in network.interfaces} for node, network in state.node_network.items()}
    keys: dict[str, str] = {}
    for key, address in peers.items():
        for claims in (reached, owned):
            holders = [node for node in state.topology.nodes if address in claims.get(node, ())]
            if len(holders) == 1:
                keys.setdefault(holders[0], key)
                break
    return keys


def instances_of(state: State, model: str) -> dict[str, Assignments]:
    """Return the placed instances of `model` by id."""
    instances = {}
    for identity, tagged in state.instances.items():
        for instance in tagged.values():
            if instance.shard_assignments.model_id == model:
                instances[identity] = instance.shard_assignments
    return instances


def runner_state(state: State, runner: str) -> tuple[str, Runner]:
    """Return a runner's state by name (`RunnerReady`) with what it tells; `not started` where it has none yet."""
    return next(iter(state.runners.get(runner, {}).items()), ("not started", Runner()))


def download_of(state: State, node: str, model: str) -> tuple[str, Download]:
    """Return the state of `model` on the node with EXO's id `node`: `DownloadOngoing`, ...; `unknown` where none."""
    for tagged in state.downloads.get(node, []):
        for name, download in tagged.items():
            if download.model() == model:
                return name, download
    return "unknown", Download()


def shard_of(state: State, model: str) -> Tagged | None:
    """Return the metadata that `POST /download/start` wants for `model`, None where no node lists it."""
    for node in state.downloads:
        name, download = download_of(state, node, model)
        if name != "unknown":
            return download.shard_metadata
    return None


def _inner(tagged: Tagged) -> dict[str, Any]:
    inner: Any = next(iter(tagged.values()), {})
    return inner if isinstance(inner, dict) else {}


def _address(connection: Tagged) -> str:
    sink = connection.get("sinkMultiaddr")
    return str(sink.get("ip_address") or sink.get("ipAddress") or "") if isinstance(sink, dict) else ""
