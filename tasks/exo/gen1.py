"""EXO 1.x (1.0.69 to 1.0.71, and what comes after): flags, topology, chat. Observed and read on v1.0.71.

Discovery is by mDNS, which does not cross Tailscale. Nodes that are told each other's addresses do not stand either:
each is dialled again every five seconds, and every connection starts an election. So every node but the first of
hosts.yaml, which is kept master, is given one link of ours to that one. Node ids are random at each start: nodes are
known by their addresses. A placement that was accepted (HTTP 200) may never
happen: gen1_placing waits for the runners. Later commits replaced libp2p by zenoh and have no explicit peers at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from records.facts import DeviceKind
from records.settings import Exo, exo_on, ports_of
from tasks.errors import StepError
from tasks.exo import chat
from tasks.exo.chat import request as chat_request
from tasks.exo.gen1_install import install_plan
from tasks.exo.gen1_log import elections
from tasks.exo.gen1_log import problems as log_problems
from tasks.exo.gen1_placing import make_ready, model_requests, unload
from tasks.exo.gen1_state import keys_by_id, read_state
from tasks.exo.gen1_tools import lacking, lacking_command
from tasks.exo.interface import Answer, Link, Topology
from tasks.exo.logtext import exo_said, without_escapes
from tasks.machines.daemon import Launch
from tasks.machines.network import in_tailscale_range
from tasks.machines.wire import Reply, Request, message_of, shortened

NAME = "1.x"
PYTHON = ">=3.13,<3.14"
BEST_PYTHON = PYTHON
PINS_WITHOUT_WHEEL: dict[str, tuple[str, ...]] = {}
CAN_RELOAD = True
RING_PORTS: tuple[int, ...] = (49_153,)
"""First of those to 65535, of which the MLX ring takes a random one on every node."""

_FIRST_WITH_PEERS = (1, 0, 69)
_LAST_WITH_LIBP2P = (1, 0, 71)
_APART_S = 12.0
"""An election takes 3 s, a node's change of master about as long: two joins at once ended one node in two of seven."""
_NOBODYS = "exo-phase1/asks-whether-the-api-answers"

__all__ = [
    "BEST_PYTHON",
    "CAN_RELOAD",
    "NAME",
    "PINS_WITHOUT_WHEEL",
    "PYTHON",
    "RING_PORTS",
    "about_pair",
    "chat_request",
    "device_kind",
    "elections",
    "engine",
    "holds_model",
    "hub_problem",
    "install_plan",
    "lacking",
    "lacking_command",
    "launch",
    "links",
    "log_problems",
    "make_ready",
    "model_requests",
    "parse_chat",
    "parse_topology",
    "probe_request",
    "topology_request",
    "unload",
]


def engine(exo: Exo) -> str:
    """Return `mlx`: there is no other."""
    del exo
    return "mlx"


def launch(exo: Exo, node: str, peers: Mapping[str, str], executable: str, run_folder: str, max_tokens: int) -> Launch:
    """Return how to start `node`; `max_tokens` is for each request to say. Raises StepError.

    StepError: a release without explicit peers (before 1.0.69), and one after 1.0.71 over Tailscale.
    """
    del run_folder, max_tokens
    version = tuple(int(n) for n in re.findall(r"\d+", exo.release)[:3])
    if version < _FIRST_WITH_PEERS and len(version) == 3:
        raise StepError(
            f"EXO {exo.release} has no --bootstrap-peers; it finds peers by mDNS alone",
            "EXO 1.0.69 to 1.0.71, which can be told their peers",
            "set exo.release and exo.source in hosts.yaml to 1.0.71",
        )
    head = version > _LAST_WITH_LIBP2P
    if head:
        _refuse_tailscale(exo.release, peers)
    mine = exo_on(exo, node)
    ports = mine.ports
    if head:
        network = ["--zenoh-port", str(ports.peer)]
    else:
        link = next((link for link in links(exo, peers) if link.node == node), None)
        joins = ["--bootstrap-peers", f"/ip4/127.0.0.1/tcp/{link.port}"] if link else ["--force-master"]
        network = ["--libp2p-port", str(ports.peer), *joins]
    return Launch(
        argv=[executable, "--api-port", str(ports.api), *network, *mine.flags],
        # The namespace keeps somebody else's EXO on the same network out of this cluster.
        environment={"PYTHONUNBUFFERED": "1", "EXO_LIBP2P_NAMESPACE": "exo-phase1"} | mine.environment,
        files={},
        ports=(ports.api, ports.peer),
        unwanted=(
            f"EXO's API listens on every address, port {ports.api}, and asks for no password:"
            " let only the cluster reach that port",
            f"the nodes also need TCP {ports.api}, {ports.peer} and 49153 to 65535 open between them:"
            " the MLX ring takes a random port of that range",
        ),
    )


def holds_model(command: str) -> bool:
    """Tell runners from the main process and the resource tracker; multiprocessing names its children."""
    return "multiprocessing.spawn" in command


def links(exo: Exo, peers: Mapping[str, str]) -> list[Link]:
    """Return one link from every other node to the first of `peers`, in their order; [] for releases without them."""
    version = tuple(int(n) for n in re.findall(r"\d+", exo.release)[:3])
    if version > _LAST_WITH_LIBP2P:
        return []
    centre, *joining = peers
    at = ports_of(exo, centre)
    return [
        Link(
            node=key,
            peer=centre,
            port=ports_of(exo, key).peer + place,
            target=f"{peers[centre]}:{at.peer}",
            answer_first=tuple(f"http://{peers[end]}:{ports_of(exo, end).api}/node_id" for end in (key, centre)),
            again_after_s=2.0 + _APART_S * (place - 1),
        )
        for place, key in enumerate(joining, start=1)
    ]


def probe_request() -> Request:
    """Return a chat with a model that no instance has: 404 at once."""
    body = {"model": _NOBODYS, "messages": [{"role": "user", "content": "?"}], "max_tokens": 1, "stream": False}
    return Request("POST", "/v1/chat/completions", body, timeout_s=5)


def topology_request() -> Request:
    """Return the request for the whole state: `/state/topology` alone tells neither addresses nor devices."""
    return Request("GET", "/state", timeout_s=10)


def parse_topology(text: str, peers: Mapping[str, str]) -> Topology:
    """Read `GET /state`; ids become the keys of hosts.yaml by address. Raises StepError where it is none.

    A node that none of the addresses in `peers` belongs to keeps EXO's own id.
    """
    state = read_state(text)
    keys = keys_by_id(state, peers)
    nodes = {}
    for node in state.topology.nodes:
        identity = state.node_identities.get(node)
        words = [identity.model_id, identity.chip_id, identity.os_version] if identity else []
        nodes[keys.get(node, node)] = ", ".join(word for word in words if word)
    edges = {
        (keys.get(source, source), keys.get(sink, sink))
        for source, sinks in state.topology.connections.items()
        for sink, tries in sinks.items()
        if tries and source != sink
    }
    return Topology(nodes, frozenset(edges))


def device_kind(device_text: str) -> DeviceKind:
    """Return `gpu`, `cpu` or `unknown`: under Linux 1.x computes on the CPU (it has no code for AMD's GPUs).

    A CUDA build says "Linux" too and would be called `cpu`; none of the plan's nodes has such a GPU.
    """
    if re.search(r"\bApple\b|\bM[1-9]\b", device_text):
        return "gpu"
    return "cpu" if "Linux" in device_text else "unknown"


def about_pair(log: str, model: str) -> str:
    """Return the log as it is: 1.x names no model in it."""
    del model
    return without_escapes(log)


def hub_problem(log: str) -> str:
    """Return "": 1.x tells a failed download in /state, where gen1_download sees it."""
    del log
    return ""


def parse_chat(reply: Reply, model: str) -> Answer:
    """Read a non-streaming chat answer. Raises StepError for every error and where another model answered."""
    if reply.status == 200:
        return chat.read_answer(reply, model, "put the id that EXO uses into hosts.yaml, then: fab download-model")
    message = message_of(reply.text)
    if reply.status == 404 and "No instance found" in message:
        raise StepError(
            f"no instance of '{model}' is placed: {shortened(message)}",
            "a placed instance whose runners are all ready (losing a node deletes it)",
            "fab verify-cluster download-model",
        )
    raise StepError(
        f"the chat with `{model}` failed: {reply.words}",
        "HTTP 200",
        "look at the EXO logs of all nodes",
        exo_said=exo_said(message),
    )


def _refuse_tailscale(release: str, peers: Mapping[str, str]) -> None:
    inside = {key: address for key, address in peers.items() if in_tailscale_range(address)}
    if inside:
        addresses = ", ".join(f"{key} {address}" for key, address in sorted(inside.items()))
        raise StepError(
            f"EXO {release} finds its peers by IPv6 multicast only (--bootstrap-peers does nothing there), and these"
            f" addresses are Tailscale's, which carries no multicast: {addresses}",
            "EXO 1.0.69 to 1.0.71, or addresses of one local network",
            "set exo.release and exo.source in hosts.yaml to 1.0.71, or nodes.*.address to the nodes' LAN addresses",
        )
