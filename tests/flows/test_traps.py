"""The trap gallery, start to cleanup: each trap is caught by the right step or the right check, by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from records.campaign import load_campaign
from records.facts import Cleaned
from rehearsal import cluster
from rehearsal.layout import Layout
from tasks.benchmark.models import download_model
from tasks.benchmark.steps import bench_comparison
from tasks.cleanup import stop_cluster
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.install import install_group, verify_rocm
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.ollama.servers import ask_servers
from tasks.preflight import verify_python
from tasks.start import start_group, start_srv1, start_srv2
from tasks.steps import StepNotes
from tests.support.gallery import check_named, decided, laid


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up a rehearsal with EXO installed on all three nodes."""
    layout = cluster.up(tmp_path_factory.mktemp("gallery"))
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    install_group(lab)
    lab.close()
    yield layout
    cluster.down(layout.root)


def test_one_shot_run(nodes: Layout) -> None:
    """one-shot-run: the process ends by itself, and its own last word is told instead of a PID file."""
    with laid(nodes, "one-shot-run") as lab, pytest.raises(StepError, match="ended by itself") as caught:
        start_srv1(lab)
    assert "Model name is required" in caught.value.problem.found


def test_split_ports(nodes: Layout) -> None:
    """split-ports: three processes serve, and verify-cluster says that each sees only itself."""
    with laid(nodes, "split-ports") as lab, pytest.raises(StepError) as caught:
        start_group(lab)
    sees = {problem.what: problem.found for problem in caught.value.problems}
    assert sees == {key: f"sees {key} (0 edges)" for key in ("srv1", "srv2", "rog")}


def test_silent_discovery_error(nodes: Layout) -> None:
    """silent-discovery-error: srv2 is an island that no log mentions; its own topology gives it away."""
    with laid(nodes, "silent-discovery-error") as lab, pytest.raises(StepError, match=r"srv2: sees srv2 \(0 edges\)"):
        start_group(lab)


def test_second_start(nodes: Layout) -> None:
    """second-start: a port held by another EXO is named with its holder before ours would live without an API."""
    with laid(nodes, "second-start") as lab, pytest.raises(StepError, match=r"port \d+ is taken by") as caught:
        start_srv2(lab)
    assert "stays alive without an API" in caught.value.problem.needed


def test_logout_kills(nodes: Layout) -> None:
    """logout-kills: an EXO that ends with its login is told at the start, and the advised command helps."""
    with laid(nodes, "logout-kills") as lab:
        with pytest.raises(StepError, match="ended together with the SSH connection") as caught:
            start_srv2(lab)
        assert "loginctl enable-linger" in caught.value.problem.do
        lab.nodes["srv2"].run("loginctl enable-linger")
        started = start_srv2(lab)
        assert ExoCluster(lab).nodes["srv2"].process() is not None
    assert started.node == "srv2"


def test_rocm_missing(nodes: Layout) -> None:
    """rocm-missing: without tools and /dev/kfd the GPU is said to be unusable, and no grep in the CPU's name counts."""
    with laid(nodes, "rocm-missing") as lab:
        notes = StepNotes(4)
        truth = verify_rocm(ExoCluster(lab).nodes["rog"], notes)
    assert truth is not None
    assert truth.usable is not True
    assert not any(w.agrees for w in truth.witnesses if "rocm" in w.name)
    for lacking in ("/dev/kfd", "librocm_smi64", "libamd_comgr"):
        assert any(lacking in warning for warning in notes.warnings)


def test_relayed_tailnet(nodes: Layout) -> None:
    """relayed-tailnet: preflight says which ways are relayed and through which region."""
    with laid(nodes, "relayed-tailnet") as lab:
        result = verify_python(lab)
    assert result.relayed
    assert all(result.network[way].startswith("relayed (fra)") for way in result.relayed)


@pytest.mark.long
@pytest.mark.parametrize(
    ("trap", "words"),
    [
        ("always-ready-models", ["llama-3.2-3b"]),
        (
            "hub-unreachable",
            ["srv2 cannot fetch model.safetensors.index.json of ", "huggingface.co:443", "HF_ENDPOINT"],
        ),
        ("wrong-model", ["qwen2.5:3b"]),
        ("mlx-only-model", ["qwen-2.5-3b", "llama-3.2-3b"]),
    ],
)
def test_models(nodes: Layout, trap: str, words: list[str]) -> None:
    """A download without a trace, a hub out of reach, another model's answer, an MLX-only card: each fails by name."""
    with laid(nodes, trap) as lab:
        start_group(lab)
        with pytest.raises(StepError) as caught:
            download_model(lab)
    text = " ".join(msgspec.structs.astuple(caught.value.problem))
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("trap", "node", "words"),
    [
        ("readonly-ring", "srv1", ["start_layer=0, end_layer=8", "underlying buffer is not writable", "0.10.2"]),
        ("empty-shard", "srv2", ["IndexError: list index out of range", "layers by memory"]),
    ],
)
def test_rings_that_stand_still(nodes: Layout, trap: str, node: str, words: list[str]) -> None:
    """A complete ring whose cause stands in one log alone ends step 9 in seconds: line, node and cause."""
    with laid(nodes, trap) as lab:
        start_group(lab)
        with pytest.raises(StepError) as caught:
            download_model(lab)
        record = load_campaign(lab.logs).records[9]
    (problem,) = caught.value.problems
    assert problem.what == node
    text = " ".join(msgspec.structs.astuple(problem))
    assert all(word in text for word in words), text
    assert record.elapsed_s < 40


@pytest.mark.long
def test_a_mirror_of_the_hub_helps(nodes: Layout) -> None:
    """The advice about a hub works: with HF_ENDPOINT in hosts.yaml `start` starts EXO again, and it answers."""
    with laid(nodes, "hub-unreachable") as lab:
        start_group(lab)
        with pytest.raises(StepError, match="cannot fetch"):
            download_model(lab)
        exo = lab.profile.exo
        mended = msgspec.structs.replace(exo, environment={"HF_ENDPOINT": "http://mirror.example"})
        profile = msgspec.structs.replace(lab.profile, exo=mended)
        lab.inventory = msgspec.structs.replace(lab.inventory, profiles={lab.inventory.profile: profile})
        start_group(lab)
        assert "another variable HF_ENDPOINT" in load_campaign(lab.logs).records[6].summary
        assert download_model(lab).exo_answered == profile.models.small.exo


@pytest.mark.parametrize(
    ("trap", "check", "words"),
    [
        ("cut-stream", "errors", "finish_reason"),
        ("cold-load-in-run", "warm", "rog"),
        ("neighbour-loaded", "no neighbour", "qwen2.5-coder:32b"),
        ("busy-machine", "no neighbour", "per CPU on srv2"),
        ("unequal-length", "same work", "tokens"),
    ],
)
def test_measurements(nodes: Layout, trap: str, check: str, words: str) -> None:
    """A trap that only falsifies numbers makes its own validity check fatal and the verdict INVALID, never GO."""
    with laid(nodes, trap) as lab:
        start_group(lab)
        _compare(lab)
        decision = decided(lab)
    found = check_named(decision, check)
    assert found.status == "fatal", found
    assert words in found.evidence
    assert decision.verdict in {"INVALID", "NO-GO (blocked)"}


def test_peer_lost(nodes: Layout) -> None:
    """peer-lost: a node that dies in a run is never a slower EXO, though a restart would hide it from the next run."""
    with laid(nodes, "peer-lost") as lab:
        start_group(lab)
        bench_comparison(lab, runs="1")
        decision = decided(lab)
    found = check_named(decision, "whole cluster")
    assert found.status == "fatal"
    assert "after EXO run 1: not on srv2" in found.evidence
    assert decision.verdict == "INVALID"


def test_stale_prompt_cache(nodes: Layout) -> None:
    """stale-prompt-cache: prompts that take a fraction of the first one's time after the load are pointed out."""
    with laid(nodes, "stale-prompt-cache") as lab:
        start_group(lab)
        bench_comparison(lab, runs="1")
        found = check_named(decided(lab), "no cache")
    assert found.status == "warn", found
    assert "timed prompts took" in found.evidence


def test_recycled_pid(nodes: Layout) -> None:
    """recycled-pid: the process that has srv2's noted PID today is left alone."""
    from rehearsal.trap_acts import recycle_pid

    with laid(nodes, "recycled-pid") as lab:
        start_group(lab)
        recycle_pid(nodes, "srv2")
        bystander = int((nodes.node("srv2").folder / "bystander.pid").read_text(encoding="utf-8"))
        cleaned = stop_cluster(lab)
        os.kill(bystander, 0)
    assert isinstance(cleaned, Cleaned)
    assert cleaned.nodes["srv2"].how == "not running"
    assert cleaned.nodes["srv1"].how == "TERM"


def test_ollama_changed(tmp_path: Path) -> None:
    """ollama-changed: cleanup says what is different at which server, and the record does not claim `unchanged`."""
    layout = cluster.up(tmp_path, trap="ollama-changed")
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    try:
        verify_python(lab)
        for _ in range(6):
            _generate(lab)
        cleaned = stop_cluster(lab)
    finally:
        lab.close()
        cluster.down(tmp_path)
    assert isinstance(cleaned, Cleaned)
    assert not cleaned.ollama_unchanged
    assert any("rog" in change and "0.5.14" in change for change in cleaned.ollama_changes)


def _compare(lab: Lab) -> None:
    """Measure one run an arm; a trap may also make the step itself fail, which is told by the caller's checks."""
    try:
        bench_comparison(lab, runs="1")
    except StepError as error:
        assert any(words in error.problem.found for words in ("no good sample", "can only be INVALID"))


def _generate(lab: Lab) -> None:
    """Have rog's Ollama generate once, as a benchmark would."""
    from tasks.machines.http import call_url
    from tasks.machines.wire import Request

    model = lab.profile.models.small.ollama
    body = {"model": model, "prompt": "hi", "stream": False, "options": {"num_predict": 1}}
    assert (
        call_url(lab.bench_node, lab.inventory.ollama["rog"].url, Request("POST", "/api/generate", body)).status == 200
    )
    assert ask_servers(lab)


FILES = ("test_traps.py", "test_traps_1x.py", "test_traps_install.py", "test_traps_ollama.py")


def test_every_trap_of_the_gallery_has_a_test() -> None:
    """No trap is without a test that catches it."""
    from rehearsal.traps import TRAPS

    folder = Path(__file__).parent
    tested = "".join((folder / name).read_text(encoding="utf-8") for name in FILES)
    assert [name for name in TRAPS if f'"{name}"' not in tested] == []
