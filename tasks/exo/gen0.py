"""EXO 0.0.x (0.0.15 and its neighbours): flags, discovery, topology, chat. Observed on v0.0.15-alpha.

Three things shape this module. Discovery is manual, because UDP never crosses Tailscale, and its file must list every
node, the own one too, or the node stays alone without a word. Nothing a node says at start proves that it serves.
And a chat with a name EXO does not know is answered, HTTP 200, by its default model: only `model` in the answer tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec

from records.facts import DeviceKind
from records.settings import Exo, exo_on, ports_of
from tasks.errors import StepError
from tasks.exo import chat
from tasks.exo.chat import request as chat_request
from tasks.exo.gen0_download import about_pair, does_not_run, hub_problem, make_ready, model_requests, unload
from tasks.exo.gen0_install import install_plan
from tasks.exo.interface import Answer, Lacking, Link, Topology
from tasks.exo.logtext import exo_said
from tasks.exo.logtext import start_problems as log_problems
from tasks.exo.models import LINUX_0
from tasks.machines.daemon import Launch
from tasks.machines.wire import Reply, Request, message_of, read_json, shortened

NAME = "0.0.x"
PYTHON = ">=3.12,<3.14"
"""Its pins (grpcio 1.68.0, aiohttp 3.10.11) have no wheels for 3.14 and later."""
BEST_PYTHON = "<3.13"
PINS_WITHOUT_WHEEL: dict[str, tuple[str, ...]] = {">=3.13": ("numpy==2.1.3",)}
"""numpy 2.0.0 has none for 3.13: a source build took over 9 minutes, with 2.1.3 EXO installed in 57 s and ran."""
CAN_RELOAD = False
RING_PORTS: tuple[int, ...] = ()

RESPONSE_TIMEOUT_S = 900
"""EXO's own limit for one answer; a stream cut by it looks like a clean end."""

# Where EXO 0.0.x says what it computes on: `Device: X` is tinygrad's name. `CL` may be a GPU or the CPU behind OpenCL.
_CPU_DEVICES = {"CLANG", "CPU", "LLVM", "X86", "PYTHON", "NPY"}
_GPU_DEVICES = {"AMD", "HIP", "HSA", "KFD", "CUDA", "NV", "GPU", "METAL"}
_GPU_NAMES = re.compile(r"\b(AMD|RADEON|INSTINCT|GFX\d+|NVIDIA|GEFORCE|RTX|TESLA|QUADRO)\b", re.IGNORECASE)
_CPU_NAMES = re.compile(r"\b(RYZEN|EPYC|XEON|CORE|THREADRIPPER)\b", re.IGNORECASE)

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
    """Return the inference engine that the start flags choose, `tinygrad` where they choose none (Linux)."""
    chosen = "tinygrad"
    for flags in (exo.flags, *(node.flags for node in exo.nodes.values())):
        for flag, value in zip(flags, [*flags[1:], ""], strict=False):
            name, given, inline = flag.partition("=")
            if name == "--inference-engine":
                chosen = inline if given else value
    return chosen


def lacking_command() -> str:
    """Return "": pip brings what 0.0.x needs, and `install` asks for git and clang."""
    return ""


def lacking(told: str, exo: Exo) -> list[Lacking]:
    """Return []: nothing was asked."""
    del told, exo
    return []


def launch(exo: Exo, node: str, peers: Mapping[str, str], executable: str, run_folder: str, max_tokens: int) -> Launch:
    """Return how to start `node` as a daemon with manual discovery; `max_tokens` is fixed from here on.

    EXO ignores `max_tokens` of a request: the length of every answer is `--max-generate-tokens`.
    """
    discovery, mine = f"{run_folder}/discovery.json", exo_on(exo, node)
    ports = mine.ports
    argv = [
        *(executable, "--node-id", node, "--node-port", str(ports.peer)),
        *("--discovery-module", "manual", "--discovery-config-path", discovery),
        *("--chatgpt-api-port", str(ports.api), "--chatgpt-api-response-timeout", str(RESPONSE_TIMEOUT_S)),
        *("--max-generate-tokens", str(max_tokens), "--disable-tui"),
        *mine.flags,
    ]
    return Launch(
        argv=argv,
        # Without it stdout is block-buffered into the file, and the log says nothing until the process ends.
        environment={"PYTHONUNBUFFERED": "1"} | mine.environment,
        files={discovery: discovery_file(peers, {key: ports_of(exo, key).peer for key in peers})},
        ports=(ports.api, ports.peer),
        unwanted=(
            f"EXO's API listens on every address, port {ports.api}, asks for no password, and `POST /quit` stops the"
            " node: let only the cluster reach that port",
        ),
    )


def discovery_file(peers: Mapping[str, str], ports: Mapping[str, int]) -> str:
    """Return the manual discovery file: all nodes, the own one included, with every field EXO's schema demands.

    A missing field or an absent own id makes a silent one-node island. The capabilities are placeholders: each node
    tells its real ones once it is connected.
    """
    blank = {"model": "Linux Box", "chip": "Unknown Chip", "memory": 8192, "flops": {"fp32": 0, "fp16": 0, "int8": 0}}
    nodes = {key: {"address": peers[key], "port": ports[key], "device_capabilities": blank} for key in sorted(peers)}
    return json.dumps({"peers": nodes}, indent=2) + "\n"


def holds_model(command: str) -> bool:
    """Return False: 0.0.x has its model in the one process that does everything."""
    del command
    return False


def links(exo: Exo, peers: Mapping[str, str]) -> list[Link]:
    """Return []: 0.0.x connects the nodes of its discovery file by itself."""
    del exo, peers
    return []


def elections(log: str) -> int:
    """Return 0: 0.0.x elects nobody."""
    del log
    return 0


def probe_request() -> None:
    """Return None: a 0.0.x that answers a GET answers a POST."""


def topology_request() -> Request:
    """Return the request for the topology as this node sees it."""
    return Request("GET", "/v1/topology", timeout_s=5)


class _Capabilities(msgspec.Struct, frozen=True):
    model: str = ""
    chip: str = ""
    memory: int = 0
    """In MiB; -1 where pyrsmi did not tell."""


class _Edge(msgspec.Struct, frozen=True):
    from_id: str
    to_id: str


class _Topology(msgspec.Struct, frozen=True):
    nodes: dict[str, _Capabilities] = {}
    peer_graph: dict[str, list[_Edge]] = {}


def parse_topology(text: str, peers: Mapping[str, str]) -> Topology:
    """Read `GET /v1/topology`; node ids are the keys of hosts.yaml already. Raises StepError where it is none."""
    del peers  # ids need no mapping here: `--node-id` set them
    raw = read_json(text, _Topology, "the topology")
    edges = {(e.from_id, e.to_id) for found in raw.peer_graph.values() for e in found if e.from_id != e.to_id}
    memory = {key: found.memory * 2**20 for key, found in raw.nodes.items()}
    return Topology({key: _device_text(found) for key, found in raw.nodes.items()}, frozenset(edges), memory)


def device_kind(device_text: str) -> DeviceKind:
    """Return `gpu`, `cpu` or `unknown` for a device text of `parse_topology`.

    A processor's name decides nothing: that of the Ryzen AI Max ends in "w/ Radeon 8060S".
    """
    named = re.search(r"Device: ?(\w+)", device_text)
    if named:
        device = named.group(1).upper()
        return "cpu" if device in _CPU_DEVICES else "gpu" if device in _GPU_DEVICES else "unknown"
    if _CPU_NAMES.search(device_text):
        return "unknown"
    return "gpu" if _GPU_NAMES.search(device_text) else "unknown"


def parse_chat(reply: Reply, model: str) -> Answer:
    """Read a non-streaming chat answer. Raises StepError for every error and where another model answered."""
    if reply.status != 200:
        raise _chat_refused(reply, model)
    advice = (
        "EXO 0.0.x answers a name it does not know with its default model; put the id EXO uses into hosts.yaml"
        f" (models that run on Linux: {', '.join(LINUX_0)})"
    )
    return chat.read_answer(reply, model, advice)


def _chat_refused(reply: Reply, model: str) -> StepError:
    message = message_of(reply.text)
    if reply.status == 0:
        return StepError(
            f"the chat got {reply.words}",
            "an answer; a peer that was lost a moment ago makes EXO hang in silence",
            "fab verify-cluster; where that is complete, the EXO log of the entry node says more",
        )
    unsupported = re.match(r"Unsupported model: (\S+) with inference engine (\w+)\. Supported.*?: \[(.*)\]", message)
    if unsupported:
        tried, engine, known = unsupported.groups()
        fallback = "" if tried == model else f" (EXO does not know '{model}' and fell back to '{tried}')"
        return does_not_run(model, f"{engine} cannot run '{tried}'{fallback}", known.replace("'", ""), message)
    if "failed to connect to all addresses" in message or "UNAVAILABLE" in message:
        return StepError(
            f"a peer of the entry node is gone: {shortened(message)}",
            "all nodes of the cluster up",
            "fab start verify-cluster",
        )
    if reply.status == 408:
        return StepError(
            f"EXO gave up after its own {RESPONSE_TIMEOUT_S} s: {shortened(message)}",
            "an answer within that time",
            "look at the EXO logs of all nodes for a download or a device that hangs, then type it again",
            exo_said=message,
        )
    return StepError(
        f"the chat with `{model}` failed: {reply.words}",
        "HTTP 200",
        "look at the EXO log of the entry node: a tokenizer that cannot be fetched, a missing compiler (clang) and a"
        " full memory are the usual causes",
        exo_said=exo_said(message),
    )


def _device_text(found: _Capabilities) -> str:
    """Return what EXO names the device by, once; on an AMD GPU only `chip` does, a bug of 0.0.15.

    There, `model` is literally `Linux Box ({gpu_name})`; elsewhere `chip` says again what `model` says.
    """
    model = found.model.replace("{gpu_name}", found.chip)
    said = found.chip in model or found.chip.startswith("Unknown Chip")
    return ", ".join(text for text in (model, "" if said and model else found.chip) if text)
