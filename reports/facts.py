"""What each step found, as frozen structs: the step fills one in, the report reads it back. Steps 9 to 14: bench_facts.

They live on this side of the fence because both sides need them and `reports` may not import `tasks`
(docs/decisions/0001-facts-live-in-reports.md). Nodes are named by their key in hosts.yaml (`srv1`), arms of the
benchmark by `exo` or the name of an Ollama baseline. Every field that a node may fail to tell is None then.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class NodePython(msgspec.Struct, frozen=True):
    """One node as it answered over SSH."""

    node: str
    host: str
    hostname: str
    os: str
    kernel: str
    cpu: str
    cpu_count: int
    memory_bytes: int
    disk_free_bytes: int
    python: str
    """Absolute path of the interpreter that fits the EXO release."""
    python_version: str
    round_trip_s: float | None = None
    """Median round trip from the bench node to this node; None where it could not be measured."""


class OllamaState(msgspec.Struct, frozen=True):
    """One Ollama server as it stood at one moment."""

    arm: str
    url: str
    version: str | None
    models: dict[str, str]
    """Model name -> digest."""
    loaded: list[str] = []
    error: str | None = None


class Feasible(msgspec.Struct, frozen=True):
    """Whether one model pair can run on these nodes under one profile's EXO, and on which device."""

    profile: str
    pair: str
    exo_model: str
    ollama_model: str
    can_run: bool
    device: str
    equal_precision: bool
    reasons: list[str]
    """Why it cannot run, or what to expect; one sentence each."""


class Preflight(msgspec.Struct, frozen=True):
    """Step 1."""

    nodes: dict[str, NodePython]
    ollama: dict[str, OllamaState]
    feasible: list[Feasible] = []
    go_unreachable_because: str = ""
    alternatives: list[str] = []
    ceiling: dict[str, Any] = {}
    network: dict[str, str] = {}
    """Per node: `direct`, `relayed (fra)`, or why it is not known."""


class Witness(msgspec.Struct, frozen=True):
    """One source's word about a GPU. `agrees` is None where it says nothing either way."""

    name: str
    said: str
    agrees: bool | None


class GpuTruth(msgspec.Struct, frozen=True):
    """What the witnesses on one node say about the GPU that hosts.yaml names."""

    node: str
    expected: str
    present: bool
    usable: bool | None
    """/dev/kfd is there and the user may write to it."""
    witnesses: list[Witness]


class Installed(msgspec.Struct, frozen=True):
    """Steps 2, 3 and 4: the EXO of one node."""

    node: str
    release: str
    generation: str
    """`0.0.x` or `1.x`, as the node's own `exo --help` tells."""
    source: str
    revision: str
    """Commit of the source where it is git, else the SHA-256 of the installed files."""
    venv: str
    exo: str
    """Absolute path of the executable."""
    python_version: str
    packages: dict[str, str] = {}
    """Versions that decide speed and device: tinygrad, mlx, numpy, ..."""
    gpu: GpuTruth | None = None


class Started(msgspec.Struct, frozen=True):
    """Steps 5, 6 and 7: the EXO process of one node."""

    node: str
    node_id: str
    pid: int
    start_ticks: int
    """Field 22 of /proc/PID/stat: with the PID it names one process for good."""
    command: str
    api_port: int
    log: str
    ready_s: float
    device: str
    """EXO's own words about where it computes."""
    device_kind: Literal["gpu", "cpu", "unknown"]
    gpu_expected: bool = False


class NodeView(msgspec.Struct, frozen=True):
    """The cluster as one node sees it."""

    node: str
    sees: list[str]
    edges: int
    complete: bool
    formed_s: float | None
    devices: dict[str, str] = {}


class Cluster(msgspec.Struct, frozen=True):
    """Step 8. Complete = every node's own topology has all nodes and N(N-1) edges."""

    nodes: dict[str, NodeView]
    expected_nodes: list[str]
    expected_edges: int
    complete: bool


class Stopped(msgspec.Struct, frozen=True):
    """What cleanup did on one node."""

    node: str
    was_running: bool
    how: str
    """`TERM`, `KILL`, or `not running`."""
    stopped_s: float
    ports_free: dict[str, bool]
    left: list[str]
    """What stays on the node on purpose (the venv, downloaded models), with its size."""


class Cleaned(msgspec.Struct, frozen=True):
    """Step 15."""

    nodes: dict[str, Stopped]
    ollama_before: dict[str, OllamaState]
    ollama_after: dict[str, OllamaState]
    ollama_unchanged: bool
    ollama_changes: list[str]
