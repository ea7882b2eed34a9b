"""What stands in the way of one model pair, check by check; tasks.feasibility.assess puts the answers together.

Each check adds sentences to `Findings`: to `blocking` only what surely prevents a run, to `telling` what to expect.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from records.facts import NodePython
from records.settings import Exo, Inventory, ModelPair, exo_on, override_name
from reports.text.format import size
from tasks.errors import StepError
from tasks.exo import models
from tasks.exo.interface import Generation
from tasks.exo.sources import kind_of
from tasks.feasibility import tinygrads
from tasks.machines.network import in_tailscale_range

MEMORY_SHARE = 0.85
"""Of all nodes' memory together that weights may take: the rest is for the system, the KV cache and buffers."""
_DISK_RESERVE = 1.05


class Findings:
    """Reasons of one row: what prevents a run, and what is merely good to know."""

    def __init__(self) -> None:
        self.blocking: list[str] = []
        self.telling: list[str] = []


class Devices(msgspec.Struct, frozen=True):
    """On what the nodes will compute."""

    words: str
    cpu_only: bool = False
    """Every node computes on its CPU."""


CPU_ONLY = Devices("CPU on all nodes", cpu_only=True)


def model(generation: str, exo: Exo, pair: ModelPair, found: Findings) -> None:
    """Tell whether EXO's engine on Linux has this model at all."""
    engine = engine_of(exo)
    if generation == "0.0.x":
        if engine == "dummy":
            if pair.exo != "dummy":
                found.blocking.append(f"the dummy engine runs `dummy` only, not `{pair.exo}`")
            return
        if engine == "mlx":
            found.blocking.append("--inference-engine mlx needs Apple's MLX, which EXO 0.0.x has for Macs only")
        elif models.known(generation, pair.exo) is None:
            found.blocking.append(
                f"`{pair.exo}` does not run on EXO 0.0.x under Linux, which has Llama models only:"
                f" {', '.join(models.LINUX_0)}"
            )
        return
    if "/" not in pair.exo:
        found.blocking.append(f"`{pair.exo}` is no id of EXO 1.x: those are `owner/name` on the model hub")
    elif "qwen2.5" in pair.exo.lower():
        found.telling.append("EXO 1.x has no card for Qwen2.5: it is added from the model hub, which must be reachable")
    if "gemma-4" in pair.exo.lower():
        found.blocking.append("EXO 1.x refuses Gemma 4 in a pipeline")


def stack(generation: str, exo: Exo, found: Findings) -> None:
    """Name the pins that are known not to work."""
    replaced = {override_name(text) for text in exo.overrides}
    if generation == "1.x" and kind_of(exo.source) != "file" and exo.release == "1.0.71" and "mlx" not in replaced:
        found.blocking.append(
            "as locked, EXO 1.0.71 cannot run a model on Linux (exo#2043): override mlx and mlx-cpu with 0.31.2"
        )


def discovery(generation: Generation, exo: Exo, addresses: Mapping[str, str], found: Findings) -> None:
    """Ask the generation whether it can form a cluster over these addresses."""
    if not addresses:
        return
    try:
        generation.launch(exo, next(iter(addresses)), addresses, "exo", "/run", 1)
    except StepError as error:
        found.blocking.append(error.problem.found)
        return
    if any(in_tailscale_range(address) for address in addresses.values()):
        means = "a manual discovery file" if generation.NAME == "0.0.x" else "--bootstrap-peers"
        found.telling.append(f"these are Tailscale addresses, which carry no discovery: the peers are told by {means}")


def devices(inventory: Inventory, generation: str, exo: Exo, found: Findings) -> Devices:
    """Tell on which device each node will compute, and what is missing for its GPU."""
    if generation == "1.x":
        cuda = any(extra.startswith("cuda") for extra in exo.extras)
        if not cuda and any(node.gpu for node in inventory.nodes.values()):
            found.telling.append("EXO 1.x has no code for AMD GPUs: under Linux it computes on the CPU")
        return Devices("CUDA where there is one") if cuda else CPU_ONLY
    if engine_of(exo) == "dummy":
        return Devices("none (dummy engine)")
    nodes = {key: exo_on(exo, key) for key in inventory.nodes}
    on_gpu = [key for key, spec in inventory.nodes.items() if spec.gpu and _on(nodes[key].environment.get("AMD"))]
    on_cpu = [key for key in nodes if key not in on_gpu]
    # A rehearsal's tinygrad is a stand-in: nothing prevents it from "computing".
    prevents = found.telling if inventory.rehearsal else found.blocking
    for key in on_gpu:
        prevents += tinygrads.on_amd(key, nodes[key])
        if "amd-gpu" not in nodes[key].extras:
            prevents.append(
                f"{key}: AMD=1 without pyrsmi makes EXO crash at its start: set nodes.{key}.extras: [amd-gpu]"
            )
        found.telling += tinygrads.needs_on_amd(key, nodes[key])
    for key in on_cpu:
        prevents += tinygrads.on_cpu(key, nodes[key])
        gpu = inventory.nodes[key].gpu
        if gpu is not None:
            found.telling.append(f"{key} has a {gpu.name}, but its environment does not set AMD=1: CPU")
    if on_cpu:
        found.telling.append(f"on the CPU tinygrad compiles with clang: {', '.join(on_cpu)} must have it")
    if not on_gpu:
        return CPU_ONLY
    return Devices(f"GPU on {', '.join(on_gpu)}" + (f", CPU on {', '.join(on_cpu)}" if on_cpu else ""))


def _on(switch: str | None) -> bool:
    return switch not in (None, "", "0")


def room(size_bytes: int | None, nodes: Mapping[str, NodePython], found: Findings) -> None:
    """Compare the model with the nodes' memory together and with each node's disk, which gets a full copy."""
    if size_bytes is None:
        found.telling.append("its size is not known: set download_bytes in hosts.yaml to have memory and disk checked")
        return
    memory = sum(node.memory_bytes for node in nodes.values())
    if memory and size_bytes > MEMORY_SHARE * memory:
        found.blocking.append(f"{size(size_bytes)} of weights do not fit into {size(memory)} of all nodes' memory")
    short = {key: n for key, n in nodes.items() if n.disk_free_bytes < _DISK_RESERVE * size_bytes}
    if short:
        disks = ", ".join(f"{key} has {size(node.disk_free_bytes)} free" for key, node in short.items())
        found.telling.append(
            f"every node gets a full copy of {size(size_bytes)}: {disks} (enough if it is there already)"
        )


def single_nodes(
    inventory: Inventory, size_bytes: int | None, nodes: Mapping[str, NodePython], found: Findings
) -> None:
    """Note where no baseline can hold the model: then there is nothing to compare with."""
    held = [nodes[b.node] for b in inventory.ollama.values() if b.node in nodes]
    if size_bytes and held and all(size_bytes > MEMORY_SHARE * node.memory_bytes for node in held):
        found.telling.append(
            "no single node has the memory for it: there will be no ratio, only what EXO makes possible"
        )


def split(generation: str, known: models.Known | None, count: int, found: Findings) -> None:
    """Note how the layers are spread: only tensor sharding could speed up one stream, and it must divide evenly."""
    if generation == "1.x" and known and known.hidden % count == 0 and known.kv_heads % count == 0:
        found.telling.append(
            f"its layers could be split over {count} nodes (tensor sharding); the plan's pipeline is used"
        )
        return
    shape = f" (hidden size {known.hidden} and {known.kv_heads} KV heads do not divide by {count})" if known else ""
    reason = "EXO 0.0.x knows pipelines only" if generation == "0.0.x" else f"no tensor sharding{shape}"
    found.telling.append(
        f"a pipeline over {count} nodes, {reason}: one stream is no faster than on the fastest node alone"
    )


def precision(generation: str, pair: ModelPair, known: models.Known | None, found: Findings) -> bool:
    """Compare what EXO really loads with what hosts.yaml says, and with Ollama's."""
    loads = models.loaded_precision(generation, pair.exo) if known or generation == "1.x" else ""
    loads = loads or pair.exo_precision
    if known and known.note:
        found.telling.append(known.note)
    if pair.exo != "dummy" and models.bits(loads) != models.bits(pair.exo_precision):
        found.telling.append(f"EXO loads `{pair.exo}` at {loads}, hosts.yaml says {pair.exo_precision}")
    equal = models.equal_precision(loads, pair.ollama_precision)
    if not equal:
        found.telling.append(f"the weights differ: EXO's are {loads}, Ollama's {pair.ollama_precision}")
    return equal


def engine_of(exo: Exo) -> str:
    """Return the inference engine that the start flags choose, `tinygrad` where they choose none (Linux)."""
    chosen = "tinygrad"
    for flags in (exo.flags, *(node.flags for node in exo.nodes.values())):
        for flag, value in zip(flags, [*flags[1:], ""], strict=False):
            name, given, inline = flag.partition("=")
            if name == "--inference-engine":
                chosen = inline if given else value
    return chosen
