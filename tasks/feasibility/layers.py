"""Which node gets which layers, computed before the start from the memory that EXO 0.0.15 will see.

EXO deals the layers by memory (`tasks.exo.dealing`), and each node tells its own: pyrsmi's VRAM where it computes on an
AMD GPU, all of Linux' memory otherwise; what the discovery file says is replaced by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from records.facts import NodePython
from reports.text.format import alike, size
from tasks.exo import dealing
from tasks.exo.models import LINUX_0, Known

MEMORY_SHARE = 0.85
"""Of all nodes' memory together that weights may take: the rest is for the system, the KV cache and buffers."""


class Memory(msgspec.Struct, frozen=True):
    """The memory of one node for EXO."""

    seen_bytes: int
    """By which EXO deals the layers."""
    holds_bytes: int
    """In which weights can lie: on an APU's GPU its own and what it may borrow of the RAM."""


def memories(nodes: Mapping[str, NodePython], on_amd: Collection[str]) -> dict[str, Memory]:
    """Return each node's memory, given which nodes compute on a GPU of AMD's; 0 where EXO's view is not known."""
    found = {}
    for key, node in nodes.items():
        if key not in on_amd:
            found[key] = Memory(node.memory_bytes, node.memory_bytes)
        else:
            vram_bytes, both_bytes = (node.amd.vram_bytes, node.amd.memory_bytes) if node.amd else (0, 0)
            found[key] = Memory(vram_bytes, both_bytes or node.memory_bytes)
    return found


def deal(memory: Mapping[str, Memory], layers: int) -> dict[str, int]:
    """Return how many layers EXO 0.0.15 deals to each node, in the ring's order; empty where a memory is not known."""
    return dealing.deal({key: node.seen_bytes for key, node in memory.items()}, layers)


def words(dealt: Mapping[str, int], memory: Mapping[str, Memory]) -> str:
    """Say who gets how many layers, and why."""
    shares = alike({key: f"{count} for {size(memory[key].seen_bytes)}" for key, count in dealt.items()})
    return f"EXO deals its {sum(dealt.values())} layers by the memory it sees: {shares}"


def empty(
    dealt: Mapping[str, int], nodes: Mapping[str, NodePython], on_amd: Collection[str], model: Known
) -> list[str]:
    """Say which nodes would get no layer, which hangs the ring, and what to write in hosts.yaml."""
    none = [key for key, count in dealt.items() if not count]
    if not none:
        return []
    layers, memory = model.layers, memories(nodes, on_amd)
    total = sum(node.seen_bytes for node in memory.values())
    seen = ", ".join(f"{key} {size(memory[key].seen_bytes)}" for key in none)
    return [
        f"EXO deals the {layers} layers by memory and leaves none for {seen} of {size(total)} (a layer takes about"
        f" {size(total // layers)}): the topology is complete and every chat hangs: {_remedy(nodes, on_amd, layers)}"
    ]


def too_heavy(dealt: Mapping[str, int], memory: Mapping[str, Memory], size_bytes: int) -> list[str]:
    """Say which nodes cannot hold the layers that they will be dealt."""
    layers = sum(dealt.values())
    heavy = [key for key, count in dealt.items() if count * size_bytes / layers > memory[key].holds_bytes]
    return [
        f"{key} is dealt {dealt[key]} of {layers} layers, {size(round(dealt[key] * size_bytes / layers))}, and has"
        f" {size(memory[key].holds_bytes)}"
        for key in heavy
    ]


def _remedy(nodes: Mapping[str, NodePython], on_amd: Collection[str], layers: int) -> str:
    """Try what hosts.yaml can change, and name what leaves no node without a layer."""
    ways = []
    for key in on_amd:
        if _all_served(nodes, [other for other in on_amd if other != key], layers):
            ways.append(
                f'have {key} compute on its CPU (nodes.{key}: overrides ["tinygrad==0.10.2"], environment {{CPU: "1"}})'
            )
    fits = MEMORY_SHARE * sum(node.holds_bytes for node in memories(nodes, on_amd).values())
    models = [
        name for name, model in LINUX_0.items() if model.size_bytes <= fits and _all_served(nodes, on_amd, model.layers)
    ]
    if models:
        ways.append(f"take a model of more layers in models: {', '.join(models)}")
    ways += [f"give {key}'s GPU another share of the RAM in its firmware" for key in on_amd]
    return ", or ".join(ways) or "give the node more memory: no model that EXO knows has layers enough"


def _all_served(nodes: Mapping[str, NodePython], on_amd: Collection[str], layers: int) -> bool:
    dealt = deal(memories(nodes, on_amd), layers)
    return bool(dealt) and all(dealt.values())
