"""The trap gallery, start to cleanup: each trap is caught by the right step, by name; and no trap is without a test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from records.facts import Cleaned
from rehearsal import cluster
from rehearsal.layout import Layout
from tasks.cleanup import stop_cluster
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.install import verify_rocm
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.ollama.servers import ask_servers
from tasks.preflight import verify_python
from tasks.start import start_group, start_srv1, start_srv2
from tasks.steps import StepNotes
from tests.support.gallery import laid


def test_one_shot_run(installed: Layout) -> None:
    """one-shot-run: the process ends by itself, and its own last word is told instead of a PID file."""
    with laid(installed, "one-shot-run") as lab, pytest.raises(StepError, match="ended by itself") as caught:
        start_srv1(lab)
    assert "Model name is required" in caught.value.problem.found


def test_split_ports(installed: Layout) -> None:
    """split-ports: three processes serve, and verify-cluster says that each sees only itself."""
    with laid(installed, "split-ports") as lab, pytest.raises(StepError) as caught:
        start_group(lab)
    sees = {problem.what: problem.found for problem in caught.value.problems}
    assert sees == {key: f"sees {key} (0 edges)" for key in ("srv1", "srv2", "rog")}


def test_silent_discovery_error(installed: Layout) -> None:
    """silent-discovery-error: srv2 is an island that no log mentions; its own topology gives it away."""
    with (
        laid(installed, "silent-discovery-error") as lab,
        pytest.raises(StepError, match=r"srv2: sees srv2 \(0 edges\)"),
    ):
        start_group(lab)


def test_second_start(installed: Layout) -> None:
    """second-start: a port held by another EXO is named with its holder before ours would live without an API."""
    with laid(installed, "second-start") as lab, pytest.raises(StepError, match=r"port \d+ is taken by") as caught:
        start_srv2(lab)
    assert "stays alive without an API" in caught.value.problem.needed


def test_logout_kills(installed: Layout) -> None:
    """logout-kills: an EXO that ends with its login is told at the start, and the advised command helps."""
    with laid(installed, "logout-kills") as lab:
        with pytest.raises(StepError, match="ended together with the SSH connection") as caught:
            start_srv2(lab)
        assert "loginctl enable-linger" in caught.value.problem.do
        lab.nodes["srv2"].run("loginctl enable-linger")
        started = start_srv2(lab)
        assert ExoCluster(lab).nodes["srv2"].process() is not None
    assert started.node == "srv2"


def test_rocm_missing(installed: Layout) -> None:
    """rocm-missing: without tools and /dev/kfd the GPU is said to be unusable, and no grep in the CPU's name counts."""
    with laid(installed, "rocm-missing") as lab:
        notes = StepNotes(4)
        truth = verify_rocm(ExoCluster(lab).nodes["rog"], notes)
    assert truth is not None
    assert truth.usable is not True
    assert not any(w.agrees for w in truth.witnesses if "rocm" in w.name)
    for lacking in ("/dev/kfd", "librocm_smi64", "libamd_comgr"):
        assert any(lacking in warning for warning in notes.warnings)


def test_relayed_tailnet(installed: Layout) -> None:
    """relayed-tailnet: preflight says which ways are relayed and through which region."""
    with laid(installed, "relayed-tailnet") as lab:
        result = verify_python(lab)
    assert result.relayed
    assert all(result.network[way].startswith("relayed (fra)") for way in result.relayed)


def test_recycled_pid(installed: Layout) -> None:
    """recycled-pid: the process that has srv2's noted PID today is left alone."""
    from rehearsal.trap_acts import recycle_pid

    with laid(installed, "recycled-pid") as lab:
        start_group(lab)
        recycle_pid(installed, "srv2")
        bystander = int((installed.node("srv2").folder / "bystander.pid").read_text(encoding="utf-8"))
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


def test_every_trap_of_the_gallery_has_a_test() -> None:
    """No trap is without a test that catches it."""
    from rehearsal.traps import TRAPS

    tested = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_traps*.py"))
    assert [name for name in TRAPS if f'"{name}"' not in tested] == []
