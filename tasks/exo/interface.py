"""What a generation of EXO must tell the steps, as pure functions over strings.

A generation is a module (`gen0`, `gen1`) that offers the names of the protocol `Generation`. Nothing here opens a
connection: commands are returned to be run, requests to be sent, texts are given to be parsed. A conversation with
several turns (download, place, wait) is a `Flow`: a generator that yields what to ask or how long to wait, is sent the
replies, and returns its finding; `machines.http.drive` is the one place that performs it. So a recorded transcript
drives the very code that drives a cluster. Adding a generation is one new file and one line in `tasks.exo.catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from records.facts import DeviceKind
from records.settings import Exo, ModelPair
from tasks.errors import StepError
from tasks.machines.daemon import Launch
from tasks.machines.wire import Flow, Reply, Request


class StuckPlacementError(StepError):
    """A placed model does not get on; its instance is deleted, and what still runs of it is not."""


class ShellStep(msgspec.Struct, frozen=True):
    """One command of an installation. It converges: run twice, it leaves the same state."""

    title: str
    """Shown as progress: "clone EXO at v1.0.71"."""
    command: str
    """For /bin/bash; everything from hosts.yaml in it is already quoted."""
    timeout_s: float
    log: str = ""
    """Where on the node all of its output lies."""


class InstallPlan(msgspec.Struct, frozen=True):
    """How to put one release on a node, below the folder `home` (absolute, on the node)."""

    steps: list[ShellStep]
    exo: str
    """Absolute path of the executable afterwards."""
    python: str
    """Absolute path of its venv's interpreter."""
    tools: tuple[str, ...]
    """Programs that must be on the node's PATH before: `git`, `uv`, ..."""
    revision: str
    """Shell command that prints one word: the commit, or a digest of what was installed."""


class Topology(msgspec.Struct, frozen=True):
    """A cluster as one node tells it, with the generation's own ids mapped to the keys of hosts.yaml."""

    nodes: dict[str, str]
    """Node key (or the foreign id, where it is none of ours) -> device text."""
    edges: frozenset[tuple[str, str]]
    memory_bytes: Mapping[str, int] = {}
    """Node key -> the memory by which the layers are dealt (0.0.x); empty where the release does not tell."""


class Lacking(msgspec.Struct, frozen=True):
    """One thing that a node lacks: what was found, what is needed, what brings it."""

    found: str
    needed: str
    do: str
    stops: bool = True
    """Without it there is no EXO; otherwise it is a warning."""


class Link(msgspec.Struct, frozen=True):
    """One connection that is carried from a node to a peer by a program of ours (scripts/peer_link.py)."""

    node: str
    peer: str
    port: int
    """Where the node's EXO finds it, on the loopback."""
    target: str
    """HOST:PORT of the peer's EXO."""
    answer_first: tuple[str, ...]
    """URLs of both ends that must answer before anything is carried."""
    again_after_s: float
    """Pause before a lost connection is replaced; differs, so that two links do not come back at once."""


class Prepared(msgspec.Struct, frozen=True):
    """A model is where the cluster needs it."""

    downloaded: dict[str, str]
    """Node -> what is there, in words."""
    silent: list[str] = []
    """Nodes that showed no download: there was nothing to fetch, or they cannot reach the hub."""
    instance: str = ""
    """1.x: id of the placed instance."""


class Answer(msgspec.Struct, frozen=True):
    """What a chat request came back with."""

    model: str
    text: str
    output_tokens: int | None
    finish_reason: str | None


class Generation(Protocol):
    """The names a generation module offers. `peers` maps every node key to its IPv4 address, own node included."""

    NAME: str
    """`0.0.x` or `1.x`."""
    PYTHON: str
    """Versions its releases run on, `>=3.12`."""
    BEST_PYTHON: str
    """Those among them for which every pin has a wheel."""
    PINS_WITHOUT_WHEEL: dict[str, tuple[str, ...]]
    """Versions of Python -> overrides that stand in there for pins without a wheel, whose build takes minutes."""
    RING_PORTS: tuple[int, ...]
    """Ports beside those of hosts.yaml that the nodes need open between them; one stands for a range."""
    CAN_RELOAD: bool
    """Whether a model can be unloaded and loaded again without a restart."""

    def engine(self, exo: Exo) -> str:
        """Return the inference engine that `exo`, as one node gets it, starts: `tinygrad`, `mlx`, `dummy`."""

    def install_plan(self, exo: Exo, node: str, home: str, base_python: str) -> InstallPlan:
        """Return how to install `exo` on `node` below `home`, with `base_python` (absolute) to make the venv."""

    def lacking_command(self) -> str:
        """Return a command that prints what a node has of what an install needs; "" where there is nothing to ask."""

    def lacking(self, told: str, exo: Exo) -> list[Lacking]:
        """Read its output; returns what the node lacks for `exo`."""

    def launch(
        self, exo: Exo, node: str, peers: Mapping[str, str], executable: str, run_folder: str, max_tokens: int
    ) -> Launch:
        """Return how to start `node`. Raises StepError where this release forms no cluster over these addresses."""

    def links(self, exo: Exo, peers: Mapping[str, str]) -> list[Link]:
        """Return the links by which the nodes join one after the other; [] where EXO connects them by itself."""

    def holds_model(self, command: str) -> bool:
        """Tell by its command line whether a process of EXO's holds a model, and so ends when it is unloaded."""

    def elections(self, log: str) -> int:
        """Return how many elections a node's log tells of, in which the cluster forms anew; 0 where there are none."""

    def probe_request(self) -> Request | None:
        """Return a POST that is refused promptly by a healthy API and changes nothing; None where there is none."""

    def topology_request(self) -> Request:
        """Return the request whose 200 also proves that the API of this very node serves."""

    def parse_topology(self, text: str, peers: Mapping[str, str]) -> Topology:
        """Read the answer; raises StepError where it is none."""

    def device_kind(self, device_text: str) -> DeviceKind:
        """Return `gpu`, `cpu` or `unknown` for a device text of the topology."""

    def log_problems(self, log: str) -> list[str]:
        """Return the lines of a node's log that mean a failed or half-dead start (a bound port, a missing module)."""

    def about_pair(self, log: str, model: str) -> str:
        """Return a node's log without what it says of other models than `model`."""

    def hub_problem(self, log: str) -> str:
        """Return why this node cannot reach the model hub, where its log says so; "" where it does not."""

    def make_ready(self, pair: ModelPair, peers: Sequence[str], entry: str, timeout_s: float) -> Flow[Prepared]:
        """Download (and on 1.x place) the EXO model of `pair`, asking `entry`; returns Prepared."""

    def model_requests(self, model: str, nodes: int) -> list[Request]:
        """Return the requests that `make_ready` may send, in its order, for people; ids are not known before."""

    def unload(self, pair: ModelPair, peers: Sequence[str], entry: str, timeout_s: float) -> Flow[Prepared]:
        """Take the model out of memory where the generation can (CAN_RELOAD); returns Prepared."""

    def chat_request(self, model: str, prompt: str, max_tokens: int, timeout_s: float) -> Request:
        """Return a non-streaming chat request."""

    def parse_chat(self, reply: Reply, model: str) -> Answer:
        """Read the answer to `chat_request`; StepError where it is an error or another model than `model` answered."""
