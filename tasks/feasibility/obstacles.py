"""What stands in the way of one model pair, check by check; tasks.feasibility.assess puts the answers together.

Each check adds sentences to `Findings`: to `blocking` only what surely prevents a run, to `telling` what to expect.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from records.facts import NodePython
from records.settings import Baseline, Exo, Inventory, ModelPair, exo_on, override_name
from reports.text.format import few, size
from tasks.errors import StepError
from tasks.exo import gen0, models
from tasks.exo.interface import Generation
from tasks.exo.sources import kind_of
from tasks.feasibility import layers, tinygrads
from tasks.feasibility.layers import MEMORY_SHARE, Memory
from tasks.gpu import amd
from tasks.machines.network import in_tailscale_range

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
    on_amd: tuple[str, ...] = ()
    """The nodes that compute on a GPU of AMD's."""


CPU_ONLY = Devices("CPU on all nodes", cpu_only=True)


def model(generation: str, exo: Exo, pair: ModelPair, found: Findings) -> None:
    """Tell whether EXO's engine on Linux has this model at all."""
    engine = gen0.engine(exo)
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
        means = "a manual discovery file" if generation.NAME == "0.0.x" else "a link each to the first node"
        found.telling.append(f"these are Tailscale addresses, which carry no discovery: the peers are told by {means}")


def devices(
    inventory: Inventory, generation: str, exo: Exo, facts: Mapping[str, NodePython], found: Findings
) -> Devices:
    """Tell on which device each node will compute, and what is missing for its GPU."""
    if generation == "1.x":
        cuda = any(extra.startswith("cuda") for extra in exo.extras)
        if not cuda and any(node.gpu for node in inventory.nodes.values()):
            found.telling.append("EXO 1.x has no code for AMD GPUs: under Linux it computes on the CPU")
        return Devices("CUDA where there is one") if cuda else CPU_ONLY
    if gen0.engine(exo) == "dummy":
        return Devices("none (dummy engine)")
    nodes = {key: exo_on(exo, key) for key in inventory.nodes}
    on_gpu = [key for key, spec in inventory.nodes.items() if spec.gpu and _on(nodes[key].environment.get("AMD"))]
    on_cpu = [key for key in nodes if key not in on_gpu]
    # In a rehearsal this is told only: that the node's own compute probe refuses it is what a trap is to show.
    prevents = found.telling if inventory.rehearsal else found.blocking
    for key in on_gpu:
        prevents += tinygrads.on_amd(key, nodes[key])
        if "amd-gpu" not in nodes[key].extras:
            prevents.append(
                f"{key}: AMD=1 without pyrsmi makes EXO crash at its start: set nodes.{key}.extras: [amd-gpu]"
            )
        if nodes[key].environment.get("ROCM_PATH"):
            prevents.append(
                f"{key}: tinygrad loads ROCm's runtime from ROCM_PATH alone: take it out of its environment"
            )
        if key in facts and (told := facts[key].amd) is not None:
            prevents += amd.lacking(key, told, comgr=tinygrads.needs_comgr(nodes[key]))
        found.telling += tinygrads.needs_on_amd(key, nodes[key])
    for key in on_cpu:
        prevents += tinygrads.on_cpu(key, nodes[key])
        gpu = inventory.nodes[key].gpu
        if gpu is None and _on(nodes[key].environment.get("AMD")):
            prevents.append(
                f"{key}: its environment sets AMD=1, and hosts.yaml names no GPU there: EXO crashes at its start where"
                f' none is; set AMD: "0" in nodes.{key}.environment'
            )
        if gpu is not None:
            found.telling.append(f"{key} has a {gpu.name}, but its environment does not set AMD=1: CPU")
    if on_cpu:
        found.telling.append(f"on the CPU tinygrad compiles with clang: {few(on_cpu)} must have it")
    if not on_gpu:
        return CPU_ONLY
    words = f"GPU on {few(on_gpu)}" + (f", CPU on {few(on_cpu)}" if on_cpu else "")
    return Devices(words, on_amd=tuple(on_gpu))


def _on(switch: str | None) -> bool:
    return switch not in (None, "", "0")


def room(
    size_bytes: int | None, memory: Mapping[str, Memory], nodes: Mapping[str, NodePython], found: Findings
) -> None:
    """Compare the model with the nodes' memory together and with each node's disk, which gets a full copy."""
    if size_bytes is None:
        found.telling.append("its size is not known: set download_bytes in hosts.yaml to have memory and disk checked")
        return
    total = sum(node.holds_bytes for node in memory.values())
    if total and size_bytes > MEMORY_SHARE * total:
        found.blocking.append(f"{size(size_bytes)} of weights do not fit into {size(total)} of all nodes' memory")
    short = {key: n for key, n in nodes.items() if n.disk_free_bytes < _DISK_RESERVE * size_bytes}
    if short:
        disks = ", ".join(f"{key} has {size(node.disk_free_bytes)} free" for key, node in short.items())
        found.telling.append(
            f"every node gets a full copy of {size(size_bytes)}: {disks} (enough if it is there already)"
        )


def dealing(
    inventory: Inventory,
    generation: str,
    known: models.Known | None,
    size_bytes: int | None,
    devices: Devices,
    nodes: Mapping[str, NodePython],
    found: Findings,
) -> dict[str, int]:
    """Tell who gets which layers; a node without any hangs the ring. Returns them, nothing where it is not known."""
    if generation != "0.0.x" or known is None:
        return {}
    memory = layers.memories(nodes, devices.on_amd)
    dealt = layers.deal(memory, known.layers)
    if not dealt:
        silent = [key for key, one in memory.items() if not one.seen_bytes]
        if silent and nodes:
            found.telling.append(
                f"who gets which layers is not known: {', '.join(silent)} did not tell the memory of its"
                " device, by which EXO deals them"
            )
        return {}
    # A rehearsal's nodes hold no weights, and share this machine's memory.
    prevents = found.telling if inventory.rehearsal else found.blocking
    prevents += layers.empty(dealt, nodes, devices.on_amd, known)
    prevents += layers.too_heavy(dealt, memory, size_bytes) if size_bytes else []
    found.telling.append(layers.words(dealt, memory))
    return dealt


def baseline_holds(baseline: Baseline, size_bytes: int, nodes: Mapping[str, NodePython]) -> bool | None:
    """Tell whether one node alone has the memory for a model, in its RAM or its GPU's; None where that is not known."""
    node = nodes.get(baseline.node)
    if node is None or not node.memory_bytes:
        return None
    on_gpu = node.amd.memory_bytes if baseline.gpu and node.amd else 0
    return size_bytes <= MEMORY_SHARE * max(node.memory_bytes, on_gpu)


def single_nodes(
    inventory: Inventory, size_bytes: int | None, nodes: Mapping[str, NodePython], found: Findings
) -> None:
    """Note where no baseline can hold the model: then there is nothing to compare with."""
    held = [baseline_holds(b, size_bytes, nodes) for b in inventory.ollama.values()] if size_bytes else []
    if False in held and True not in held:
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
    found.telling.append(f"a pipeline over {count} nodes, {reason}: one stream passes all nodes in turn")


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
    exo_bits, ollama_bits = models.bits(loads), models.bits(pair.ollama_precision)
    if exo_bits and ollama_bits and exo_bits > 1.5 * ollama_bits:
        found.telling.append(
            f"a token reads {exo_bits / ollama_bits:.1f} times the bytes with EXO's weights: expect a ratio far below 1"
        )
    return equal
