"""Whether the plan can work out at all, told before any work, for the project's own hosts.yaml and variations of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from records.facts import Feasible, NodePython
from records.settings import Inventory, NodeExo, Rehearsal
from tasks.exo import models
from tasks.feasibility.assess import Assessment, assess
from tasks.inventory import load_inventory
from tasks.machines.network import Way
from tests import PROJECT
from tests.support.recorded import recorded

TAILNET = {"srv1": "100.77.248.9", "srv2": "100.64.0.2", "rog": "100.93.122.109"}
HOSTS = PROJECT / "hosts.yaml"


def node(key: str, memory_gb: float = 64, disk_gb: float = 500) -> NodePython:
    """Return a node with this much memory and free disk."""
    return NodePython(
        key, key, key, "", "", "", 8, int(memory_gb * 1e9), int(disk_gb * 1e9), "/usr/bin/python3.12", "3.12.3"
    )


NODES = {key: node(key) for key in TAILNET}


def changed(profile: str, *, exo: dict[str, Any] | None = None, small: dict[str, Any] | None = None) -> Inventory:
    """Return the project's hosts.yaml with `profile` in force and fields of its EXO and small pair replaced."""
    inventory = load_inventory(HOSTS, profile)
    one = inventory.profiles[profile]
    pairs = msgspec.structs.replace(one.models, small=msgspec.structs.replace(one.models.small, **(small or {})))
    one = msgspec.structs.replace(one, exo=msgspec.structs.replace(one.exo, **(exo or {})), models=pairs)
    return msgspec.structs.replace(inventory, profiles=inventory.profiles | {profile: one})


def row(found: Assessment, profile: str, pair: str = "small") -> Feasible:
    """Return one row."""
    return next(r for r in found.feasible if (r.profile, r.pair) == (profile, pair))


def test_the_projects_own_profiles_can_run() -> None:
    """Every pair of hosts.yaml runs on nodes of a sensible size, each on the device its profile promises."""
    found = assess(load_inventory(HOSTS), NODES, TAILNET)
    assert len(found.feasible) == 4
    assert all(one.can_run for one in found.feasible)
    assert row(found, "llama-0015").device == "GPU on rog, CPU on srv1, srv2"
    assert row(found, "llama-0015").equal_precision is True
    assert row(found, "qwen-1x").device == "CPU on all nodes"
    assert row(found, "qwen-1x").equal_precision is False
    assert (found.go_unreachable_because, found.alternatives) == ("", [])


def test_qwen_on_0_0_x_cannot_run_and_the_alternatives_can() -> None:
    """The plan's own model on the release with the GPU: refused before any work, with what runs instead."""
    found = assess(changed("llama-0015", small={"exo": "qwen-2.5-3b", "ollama": "qwen2.5:3b"}), NODES, TAILNET)
    one = row(found, "llama-0015")
    assert one.can_run is False
    assert "Llama models only" in one.reasons[0]
    assert found.go_unreachable_because.startswith("GO cannot be reached because EXO cannot run `qwen-2.5-3b`")
    assert any(text.startswith("FABRIC_EXO_PROFILE=qwen-1x") for text in found.alternatives)
    assert any("`llama-3.2-3b` against `llama3.2:3b-instruct-fp16`" in text for text in found.alternatives)


def test_a_cpu_cluster_against_a_gpu_baseline_cannot_reach_go() -> None:
    """1.x computes on CPUs; a baseline on the Radeon is out of its reach, and that is said first."""
    found = assess(changed("qwen-1x"), NODES, TAILNET)
    assert "Ollama 'rog' on a GPU that holds the model" in found.go_unreachable_because
    assert "at most 1 where one node is the fastest at every part" in found.go_unreachable_because
    assert found.alternatives


def test_the_bound_does_not_hold_where_the_model_fits_no_gpu() -> None:
    """Where no baseline holds the model, the bound is not stated: nothing says what one node alone would do."""
    nodes = {key: node(key, memory_gb=1.9) for key in TAILNET}
    found = assess(changed("qwen-1x"), nodes, TAILNET)
    assert row(found, "qwen-1x").can_run is True
    assert found.go_unreachable_because == ""


def test_sixteen_bits_against_four_is_told_and_is_no_bound() -> None:
    """EXO 0.0.x loads 16 bits whatever the name says; against a 4-bit Ollama it reads four times the bytes.

    That is an expectation: "GO cannot be reached" rests on the one bound alone.
    """
    small = {"exo": "llama-3.2-3b-8bit", "ollama": "llama3.2:3b", "ollama_precision": "Q4_K_M", "exo_precision": "8bit"}
    found = assess(changed("llama-0015", small=small), NODES, TAILNET)
    assert found.go_unreachable_because == ""
    assert found.alternatives
    assert any("4.0 times the bytes" in reason for reason in row(found, "llama-0015").reasons)
    assert any("loads `llama-3.2-3b-8bit` at fp16" in reason for reason in row(found, "llama-0015").reasons)


def test_a_rehearsal_has_no_physics() -> None:
    """Where the engines' speed is set, only "it cannot run" is in the way of GO."""
    inventory = msgspec.structs.replace(changed("qwen-1x"), rehearsal=Rehearsal(1.5))
    assert assess(inventory, NODES, TAILNET).go_unreachable_because == ""


@pytest.mark.parametrize(
    ("release", "addresses", "can_run"),
    [
        ("1.0.71", TAILNET, True),
        ("1.0.72", TAILNET, False),
        ("1.0.72", {"srv1": "10.0.0.1", "srv2": "10.0.0.2", "rog": "10.0.0.3"}, True),
        ("1.0.68", TAILNET, False),
        ("0.1.2", TAILNET, False),
    ],
)
def test_discovery_across_the_network(release: str, addresses: dict[str, str], can_run: bool) -> None:
    """A release that cannot find its peers over these addresses cannot run; the yeast tool's version neither."""
    found = assess(changed("qwen-1x", exo={"release": release}), NODES, addresses)
    assert row(found, "qwen-1x").can_run is can_run


def test_the_locked_mlx_is_named() -> None:
    """Without its override 1.0.71 installs and then runs nothing."""
    one = row(assess(changed("qwen-1x", exo={"overrides": []}), NODES, TAILNET), "qwen-1x")
    assert one.can_run is False
    assert "exo#2043" in one.reasons[0]


AMD = {"AMD": "1", "AMD_LLVM": "0"}


def with_rog(**own: Any) -> Feasible:
    """Return the row of the project's own profile with rog's part replaced."""
    nodes = load_inventory(HOSTS).profiles["llama-0015"].exo.nodes | {"rog": NodeExo(**own)}
    return row(assess(changed("llama-0015", exo={"nodes": nodes}), NODES, TAILNET), "llama-0015")


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"environment": AMD}, "the tinygrad that EXO pins lacks its AMD part"),
        ({"overrides": ["tinygrad==0.10.2"], "environment": AMD}, "tinygrad 0.10.2 lacks its AMD part"),
        ({"overrides": ["tinygrad==0.11.0"], "environment": {"AMD": "1"}}, "compiles with LLVM, which refuses"),
        ({"overrides": ["tinygrad==0.12.0"], "environment": {"AMD": "1", "AMD_LLVM": "1"}}, "compiles with LLVM"),
        ({"overrides": ["tinygrad==0.10.3"], "environment": {"AMD": "1", "AMD_LLVM": "1"}}, "compiles with LLVM"),
        ({"overrides": ["tinygrad==0.13.0"], "environment": AMD}, "tinygrad 0.13.0 ends EXO at its start"),
        ({"overrides": ["tinygrad>=0.11"], "environment": AMD}, "the newest tinygrad ends EXO at its start"),
        (
            {"overrides": ["tinygrad==0.11.0"], "environment": AMD},
            "crash at its start: set nodes.rog.extras: [amd-gpu]",
        ),
    ],
)
def test_what_an_amd_gpu_cannot_do_without(own: dict[str, Any], words: str) -> None:
    """Whatever is missing prevents a run, because with AMD=1 nothing falls back to the CPU."""
    one = with_rog(**own)
    assert one.can_run is False
    assert any(words in reason for reason in one.reasons)


@pytest.mark.parametrize(
    ("override", "environment", "words"),
    [
        ("tinygrad==0.11.0", AMD, "downloads Linux headers from gitlab.com"),
        ("tinygrad==0.10.3", {"AMD": "1"}, "of ROCm before 6.4 only"),
        ("tinygrad @ git+https://h/t@x", AMD, "libamd_comgr"),
    ],
)
def test_what_computes_on_an_amd_gpu(override: str, environment: dict[str, str], words: str) -> None:
    """It can run, and what the node must have for it is told; of a source nothing more is claimed."""
    one = with_rog(overrides=[override], extras=["amd-gpu"], environment=environment)
    assert one.can_run is True
    assert any(words in reason for reason in one.reasons)


@pytest.mark.parametrize(
    ("override", "can_run"),
    [
        ("tinygrad==0.10.2", True),
        ("tinygrad==0.10.3", False),
        ("tinygrad==0.11.0", False),
        ("tinygrad>=0.11", False),
        ("tinygrad @ file:///wheels/tinygrad.whl", True),
        ("tinygrad==0.10.2; python_version < '3.13'", True),
        ("tinygrad==0.10.*", True),
        ("tinygrad===0.11.0", False),
        ("/wheels/tinygrad-0.11.0-py3-none-any.whl", False),
        ("~/tinygrad-0.10.2.tar.gz", True),
    ],
)
def test_a_cpu_needs_a_tinygrad_that_takes_read_only_arrays(override: str, can_run: bool) -> None:
    """From 0.10.3 on a ring fails at its first token on a CPU node; its clang is asked for in any case."""
    nodes = load_inventory(HOSTS).profiles["llama-0015"].exo.nodes | {"srv2": NodeExo(overrides=[override])}
    one = row(assess(changed("llama-0015", exo={"nodes": nodes}), NODES, TAILNET), "llama-0015")
    assert one.can_run is can_run
    assert any('set nodes.srv2.overrides: ["tinygrad==0.10.2"]' in reason for reason in one.reasons) is not can_run
    assert any("must have it" in reason for reason in one.reasons)


def test_amd_for_all_nodes_ends_those_without_a_gpu() -> None:
    """A switch that every node inherits makes EXO ask pyrsmi where no AMD GPU is, and end."""
    one = row(assess(changed("llama-0015", exo={"environment": {"AMD": "1"}}), NODES, TAILNET), "llama-0015")
    assert one.can_run is False
    assert [reason.partition(":")[0] for reason in one.reasons if "crashes at its start" in reason] == ["srv1", "srv2"]


def test_the_device_without_amd_is_the_cpu() -> None:
    """A GPU that the environment does not choose is not used."""
    one = with_rog(overrides=["tinygrad==0.10.2"])
    assert one.device == "CPU on all nodes"
    assert any("does not set AMD=1" in reason for reason in one.reasons)


def test_memory_prevents_and_disk_warns() -> None:
    """Weights beyond all nodes' memory cannot run; a full disk may already hold the model."""
    small = {key: node(key, memory_gb=2, disk_gb=1) for key in TAILNET}
    one = row(assess(load_inventory(HOSTS), small, TAILNET), "llama-0015")
    assert one.can_run is False
    assert "do not fit into 6.00 GB" in one.reasons[0]
    full = row(assess(load_inventory(HOSTS), NODES | {"srv2": node("srv2", disk_gb=5)}, TAILNET), "llama-0015")
    assert full.can_run is True
    assert any("srv2 has 5.00 GB free" in reason for reason in full.reasons)


def test_a_model_that_no_single_node_holds() -> None:
    """Where no baseline has the memory there is no ratio, only what EXO makes possible."""
    nodes = {key: node(key, memory_gb=16) for key in TAILNET}
    large = row(assess(load_inventory(HOSTS), nodes, TAILNET), "qwen-1x", "large")
    assert large.can_run is True
    assert any("there will be no ratio" in reason for reason in large.reasons)


def test_no_model_of_the_plan_divides_by_three() -> None:
    """Three nodes can only be a pipeline; two could split llama's layers."""
    for table in (models.LINUX_0, models.LINUX_1):
        assert not any(m.hidden % 3 == 0 and m.kv_heads % 3 == 0 for m in table.values())
    reasons = row(assess(load_inventory(HOSTS), NODES, TAILNET), "qwen-1x").reasons
    assert any("do not divide by 3" in reason for reason in reasons)


def test_a_relayed_way_is_told() -> None:
    """A hop through a relay is paid for at every token."""
    ways = {"srv1": Way("srv1", "", None, "own"), "rog": Way("rog", "", 0.041, "relayed", "fra")}
    found = assess(load_inventory(HOSTS), NODES, TAILNET, ways)
    assert any("rog (relayed (fra), 41.0 ms)" in reason for reason in row(found, "llama-0015").reasons)


def test_the_dummy_engine_runs_its_one_model() -> None:
    """The real 0.0.15 with --inference-engine dummy serves `dummy` and nothing else."""
    flags = {"flags": ["--inference-engine", "dummy"]}
    found = assess(changed("llama-0015", exo=flags, small={"exo": "dummy"}), NODES, TAILNET)
    assert row(found, "llama-0015").can_run is True
    assert found.go_unreachable_because == ""
    other = assess(
        changed("llama-0015", exo={"nodes": {"srv1": NodeExo(flags=["--inference-engine=dummy"])}}), NODES, TAILNET
    )
    assert row(other, "llama-0015").can_run is False


def test_without_facts_nothing_is_claimed() -> None:
    """No nodes, no addresses: the rows still say what the release alone tells."""
    found = assess(load_inventory(HOSTS), {}, {})
    assert all(one.can_run for one in found.feasible)


@pytest.mark.parametrize(
    ("text", "found"),
    [("F16", 16), ("bf16", 16), ("MLX 4-bit", 4), ("4bit", 4), ("Q4_K_M", 4), ("Q8_0", 8), ("IQ3_XS", 3), ("", None)],
)
def test_bits_of_a_precision(text: str, found: float | None) -> None:
    """The names of both engines say how many bits a weight has."""
    assert models.bits(text) == found


def test_known_models_are_those_of_the_recorded_engines() -> None:
    """Each 0.0.x id of the table is one that the recorded tinygrad engine offers, and is 16 bits in any case."""
    said = recorded("exo-0.0.x", "chat_unsupported_tinygrad.json")
    assert all(f"'{model}'" in said for model in models.LINUX_0)
    assert models.known("0.0.x", "llama-3.2-3b-8bit") == models.LINUX_0["llama-3.2-3b"]
    assert models.known("0.0.x", "qwen-2.5-3b") is None
    assert models.loaded_precision("1.x", "mlx-community/Meta-Llama-3.1-8B-Instruct-bf16") == "bf16"
