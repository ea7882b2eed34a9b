"""Who gets which layers, and where a model fits, told before anything is started."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.facts import NodePython
from records.settings import NodeExo
from tasks.exo.dealing import empty_share
from tasks.feasibility.assess import assess
from tasks.feasibility.layers import Memory, deal
from tasks.inventory import load_inventory
from tests.support.amd import amd_node
from tests.support.recorded import recorded
from tests.tasks.feasibility.test_feasibility import HOSTS, NODES, TAILNET, changed, node, row

GIB, MIB = 2**30, 2**20


def with_gpu(key: str, memory_gib: float, vram_gib: float, gtt_gib: float = 0.0) -> NodePython:
    """Return a node with everything that EXO needs on an AMD GPU, and this much memory."""
    amd = amd_node(vram_bytes=int(vram_gib * GIB), gtt_bytes=int(gtt_gib * GIB))
    return msgspec.structs.replace(node(key), memory_bytes=int(memory_gib * GIB), amd=amd)


def cluster(rog: NodePython, others_gib: float = 32) -> dict[str, NodePython]:
    """Return `rog` and two nodes of this much memory."""
    small = {key: msgspec.structs.replace(NODES[key], memory_bytes=int(others_gib * GIB)) for key in ("srv1", "srv2")}
    return small | {"rog": rog}


@pytest.mark.parametrize("case", json.loads(recorded("exo-0.0.x", "dealt_layers.json")))
def test_layers_are_dealt_as_exo_deals_them(case: dict[str, Any]) -> None:
    """EXO 0.0.15's own partitioning, run on 68 clusters, gave the same ring and the same shards, the empty left out."""
    dealt = deal({key: Memory(mib * 2**20, 0) for key, mib in case["memory_mib"].items()}, case["layers"])
    assert list(dealt) == case["ring"]
    assert [count for count in dealt.values() if count] == [last - first + 1 for first, last in case["shards"]]


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=6), st.integers(1, 126))
def test_every_layer_is_dealt_once(memory_mib: list[int], layers: int) -> None:
    """Whatever the memory, the shares add up to the model."""
    assert sum(deal({f"n{i}": Memory(m * 2**20, 0) for i, m in enumerate(memory_mib)}, layers).values()) == layers


def test_a_node_without_a_layer_is_named_by_what_exo_itself_tells() -> None:
    """Of 33 GB a node with 512 MiB before the ring's last one gets none of 28 layers, and some of 80: both are told."""
    seen = {"srv1": 32 * GIB, "rog": 600 * MIB, "srv2": 500 * MIB}
    error = empty_share(seen, "llama-3.2-3b", 28)
    assert error is not None
    assert [problem.what for problem in error.problems] == ["rog"]
    assert "none of the 28 layers of `llama-3.2-3b`" in error.problems[0].found
    assert empty_share(seen, "llama-3.1-70b", 80) is None
    untold = empty_share(seen | {"rog": -MIB}, "llama-3.2-3b", 28)
    assert untold is not None
    assert untold.problems[0].found == "does not tell EXO how much memory it has"
    assert empty_share({}, "llama-3.2-3b", 28) is None


def test_unknown_memory_deals_nothing() -> None:
    """Where one node's memory is not known, nothing is claimed of any share."""
    assert deal({"a": Memory(0, 0), "b": Memory(GIB, GIB)}, 16) == {}
    assert deal({}, 16) == {}
    one = row(assess(load_inventory(HOSTS), NODES, TAILNET), "llama-0015")
    assert (one.can_run, one.layers) == (True, {})


def test_who_gets_which_layers_is_told() -> None:
    """The row holds the layers in the ring's order, by VRAM on the AMD node and by all memory on the others."""
    one = row(assess(load_inventory(HOSTS), cluster(with_gpu("rog", 31, 96)), TAILNET), "llama-0015")
    assert one.can_run is True
    assert one.layers == {"rog": 16, "srv2": 6, "srv1": 6}
    said = next(
        reason for reason in one.reasons if reason.startswith("EXO deals its 28 layers by the memory it sees: ")
    )
    assert re.fullmatch(r"16 for [\d.]+ GB \(rog\), 6 for [\d.]+ GB \(srv2, srv1\)", said.partition(": ")[2])


def test_a_node_without_a_layer_prevents_a_run() -> None:
    """A large carve-out beside small nodes leaves one without a layer, and what to write in hosts.yaml is computed."""
    nodes = cluster(with_gpu("rog", 31, 96), 4) | {"srv2": msgspec.structs.replace(NODES["srv2"], memory_bytes=2 * GIB)}
    small = {"exo": "llama-3.2-1b", "ollama": "llama3.2:1b-instruct-fp16", "download_bytes": 2471600000}
    found = assess(changed("llama-0015", small=small), nodes, TAILNET)
    one = row(found, "llama-0015")
    assert one.can_run is False
    assert one.layers == {"rog": 15, "srv1": 0, "srv2": 1}
    assert "leaves none for srv1 4.29 GB of 110 GB" in one.reasons[0]
    assert "have rog compute on its CPU" in one.reasons[0]
    assert found.go_unreachable_because.startswith("GO cannot be reached because EXO cannot run")
    on_cpu = changed("llama-0015", small=small, exo={"nodes": {"rog": NodeExo(overrides=["tinygrad==0.10.2"])}})
    assert row(assess(on_cpu, nodes, TAILNET), "llama-0015").can_run is True
    larger = next(name for name in ("llama-3.2-3b", "llama-3.1-8b") if name in one.reasons[0])
    other = changed("llama-0015", small={"exo": larger, "download_bytes": None})
    assert row(assess(other, nodes, TAILNET), "llama-0015").can_run is True


def test_a_share_that_the_node_cannot_hold() -> None:
    """A node is dealt by its VRAM alone: a small carve-out sends the weights to nodes that have no room for them."""
    nodes = cluster(with_gpu("rog", 120, 0.5, 60), 6)
    large = row(assess(load_inventory(HOSTS), nodes, TAILNET), "llama-0015", "large")
    assert large.can_run is False
    assert any(reason.startswith("srv2 is dealt 15 of 32 layers, 7.53 GB, and has 6.44 GB") for reason in large.reasons)


@pytest.mark.parametrize("name", ["strix_halo_96", "z13_32_with_24_for_the_gpu"])
def test_memory_carved_out_for_the_gpu_counts(name: str) -> None:
    """Linux' MemTotal is what is left: VRAM and GTT hold the model on a node that computes on its GPU."""
    case = json.loads(recorded("gpu", "memory-carve-out.json"))[name]
    rog = with_gpu("rog", case["MemTotal_GiB"], case["mem_info_vram_total_GiB"], case["mem_info_gtt_total_GiB"])
    nodes = cluster(rog, 8)
    found = row(assess(load_inventory(HOSTS), nodes, TAILNET), "llama-0015", "large")
    assert not any("there will be no ratio" in reason for reason in found.reasons)
    assert found.can_run is True
    without = {key: msgspec.structs.replace(one, amd=None) for key, one in nodes.items()}
    expected = name == "z13_32_with_24_for_the_gpu"
    alone = row(assess(load_inventory(HOSTS), without, TAILNET), "llama-0015", "large")
    assert any("there will be no ratio" in reason for reason in alone.reasons) is expected


def test_what_an_amd_node_lacks_prevents_a_run() -> None:
    """What the node said before the start is blocking where EXO is to compute on its GPU, and nowhere else."""
    rog = msgspec.structs.replace(with_gpu("rog", 31, 96), amd=amd_node(rocm_smi="", rocm="10.1.0"))
    one = row(assess(load_inventory(HOSTS), cluster(rog), TAILNET), "llama-0015")
    assert one.can_run is False
    assert "ROCm 10.1.0 does not bring librocm_smi64 any more" in one.reasons[0]
    assert row(assess(load_inventory(HOSTS), cluster(rog), TAILNET), "qwen-1x").can_run is True


def test_rocm_path_in_hosts_yaml_prevents_a_run() -> None:
    """What hosts.yaml itself sets is told without asking the node."""
    nodes = load_inventory(HOSTS).profiles["llama-0015"].exo.nodes
    rog = msgspec.structs.replace(nodes["rog"], environment=nodes["rog"].environment | {"ROCM_PATH": "/opt/rocm-6"})
    one = row(assess(changed("llama-0015", exo={"nodes": nodes | {"rog": rog}}), NODES, TAILNET), "llama-0015")
    assert "take it out of its environment" in one.reasons[0]
