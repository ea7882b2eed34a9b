"""Can it work at all? Asked of every profile and model pair before any work, from facts of the nodes.

Pure: facts in, words out. A row says whether EXO can run its half of a pair on these nodes, on which device, and what
to expect. What a pipeline over these nodes may give is estimated by reports.stats.estimate once rates are known.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from records.facts import Feasible, NodePython
from records.settings import Exo, Inventory, ModelPair
from reports.text.format import size
from tasks.errors import StepError
from tasks.exo import models
from tasks.exo.catalogue import generation_of
from tasks.feasibility import layers, obstacles
from tasks.feasibility.layers import MEMORY_SHARE
from tasks.feasibility.obstacles import Findings
from tasks.machines.network import Way


class Assessment(msgspec.Struct, frozen=True):
    """What `assess` finds; its parts go into records.facts.Preflight under the same names."""

    feasible: list[Feasible]
    go_unreachable_because: str
    alternatives: list[str]


def assess(
    inventory: Inventory,
    nodes: Mapping[str, NodePython],
    addresses: Mapping[str, str],
    ways: Mapping[str, Way] | None = None,
) -> Assessment:
    """Judge every profile's pairs on `nodes`; `addresses` and `ways` may lack nodes."""
    rows = []
    for key, profile in inventory.profiles.items():
        for name, pair in profile.models.by_size.items():
            rows.append(_row(inventory, key, name, pair, nodes, addresses, ways or {}))
    mine = {row.pair: row for row in rows if row.profile == inventory.profile}
    because = _unreachable(inventory, mine["small"], inventory.profiles[inventory.profile].models.small, nodes)
    bad = bool(because) or not all(row.can_run and row.equal_precision for row in mine.values())
    return Assessment(rows, because, _alternatives(inventory, rows, nodes) if bad else [])


def _row(
    inventory: Inventory,
    key: str,
    name: str,
    pair: ModelPair,
    nodes: Mapping[str, NodePython],
    addresses: Mapping[str, str],
    ways: Mapping[str, Way],
) -> Feasible:
    exo = inventory.profiles[key].exo
    found = Findings()
    try:
        generation = generation_of(exo.release)
    except StepError as error:
        return _none(key, name, pair, f"{error.problem.found}; known are {error.problem.needed}")
    known = models.known(generation.NAME, pair.exo)
    size_bytes = size_of(exo, pair)
    obstacles.model(generation.NAME, exo, pair, found)
    obstacles.stack(generation.NAME, exo, found)
    obstacles.discovery(generation, exo, addresses, found)
    devices = obstacles.devices(inventory, generation.NAME, exo, nodes, found)
    memory = layers.memories(nodes, devices.on_amd)
    obstacles.room(size_bytes, memory, nodes, found)
    dealt = obstacles.dealing(inventory, generation.NAME, known, size_bytes, devices, nodes, found)
    if name == "large":
        obstacles.single_nodes(inventory, size_bytes, nodes, found)
    obstacles.split(generation.NAME, known, len(inventory.nodes), found)
    equal = obstacles.precision(generation.NAME, pair, known, found)
    relayed = [f"{key} ({way.words})" for key, way in ways.items() if way.kind == "relayed"]
    if relayed:
        found.telling.append(f"the way to {', '.join(relayed)} is relayed: each hop costs tens of milliseconds a token")
    return Feasible(
        profile=key,
        pair=name,
        exo_model=pair.exo,
        ollama_model=pair.ollama,
        can_run=not found.blocking,
        device=devices.words,
        equal_precision=equal,
        reasons=[*found.blocking, *found.telling],
        cpu_only=devices.cpu_only,
        layers=dealt,
    )


def _none(key: str, name: str, pair: ModelPair, reason: str) -> Feasible:
    return Feasible(key, name, pair.exo, pair.ollama, False, "none", False, [reason])


def _unreachable(inventory: Inventory, row: Feasible, pair: ModelPair, nodes: Mapping[str, NodePython]) -> str:
    """Return why GO cannot be reached with the small pair in force, "" where nothing known is in its way.

    Beside "it cannot run" there is one bound: a single stream is at most as fast as on the one node that is the fastest
    at every part, where the model fits it. A GPU is that node where all of EXO computes on CPUs. A rehearsal's engines
    run at a speed that was set for them, so only "it cannot run" counts there.
    """
    if not row.can_run:
        return f"GO cannot be reached because EXO cannot run `{pair.exo}` here: {row.reasons[0]}"
    if inventory.rehearsal is not None or pair.exo == "dummy" or not row.cpu_only:
        return ""
    size_bytes = size_of(inventory.profiles[inventory.profile].exo, pair) or 0
    gpus = [
        f"'{arm}'"
        for arm, baseline in inventory.ollama.items()
        if baseline.gpu and obstacles.baseline_holds(baseline, size_bytes, nodes) is not False
    ]
    if not gpus:
        return ""
    return (
        f"GO cannot be reached because EXO computes on the CPU of every node and Ollama {', '.join(gpus)} on a GPU that"
        " holds the model: the ratio of one stream is at most 1 where one node is the fastest at every part"
    )


def size_of(exo: Exo, pair: ModelPair) -> int | None:
    """Return the size of EXO's weights: what hosts.yaml says, else what is known. Raises StepError."""
    known = models.known(generation_of(exo.release).NAME, pair.exo)
    return pair.download_bytes or (known.size_bytes if known else None)


def _alternatives(inventory: Inventory, rows: list[Feasible], nodes: Mapping[str, NodePython]) -> list[str]:
    """Name what can run instead: other profiles, and pairs of equal precision that fit the nodes."""
    alternatives = [
        f"FABRIC_EXO_PROFILE={row.profile}: `{row.exo_model}` against `{row.ollama_model}`, {row.device}"
        + ("" if row.equal_precision else " (the weights differ in precision)")
        for row in rows
        if row.profile != inventory.profile and row.pair == "small" and row.can_run
    ]
    exo = inventory.profiles[inventory.profile].exo
    try:
        table = models.TABLES[generation_of(exo.release).NAME]
    except (StepError, KeyError):
        return alternatives
    memory = sum(max(node.memory_bytes, node.amd.memory_bytes if node.amd else 0) for node in nodes.values())
    used = {row.exo_model for row in rows if row.profile == inventory.profile and row.can_run and row.equal_precision}
    for model, known in table.items():
        fits = not memory or known.size_bytes <= MEMORY_SHARE * memory
        if known.ollama and not known.other_weights and fits and model not in used:
            alternatives.append(
                f"in this profile: `{model}` against `{known.ollama}`, both 16 bit, {size(known.size_bytes)}"
            )
    return alternatives
