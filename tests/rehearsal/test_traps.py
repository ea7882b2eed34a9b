"""Each trap changes what it says it changes, and leaves a hosts file that the product takes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cluster import lay_out
from rehearsal.layout import NODES, Layout, environment
from rehearsal.processes import marked, stop_marked
from rehearsal.traps import TRAPS, page, spring
from tasks.inventory import active, load_inventory
from tests import PROJECT


def told(layout: Layout, key: str, section: str) -> dict[str, Any]:
    """Return one section of a node's settings."""
    found: dict[str, Any] = json.loads(layout.node(key).settings.read_text())[section]
    return found


def shell(layout: Layout, key: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as on a node."""
    own = environment(layout, layout.node(key))
    return subprocess.run(["/bin/bash", "-c", command], env=own, capture_output=True, text=True)


def test_the_page_is_the_gallerys_own() -> None:
    """docs/traps.md is what `python -m rehearsal.traps` prints today; `make docs` renews it."""
    assert all(trap.plan_would_say and trap.really and trap.caught_by for trap in TRAPS.values())
    assert (PROJECT / "docs" / "traps.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.parametrize("generation", [0, 1])
def test_every_trap_can_be_laid(tmp_path: Path, name: str, generation: int) -> None:
    """Laying a trap leaves a hosts file that loads and names the trap."""
    layout = lay_out(tmp_path / "r", trap=name, generation=generation)
    inventory = load_inventory(layout.hosts_file)
    assert inventory.rehearsal is not None
    assert inventory.rehearsal.trap == name


def test_traps_in_the_hosts_file(tmp_path: Path) -> None:
    """Traps of what the owner writes change just that."""

    def exo_with(trap: str) -> Any:
        return active(load_inventory(lay_out(tmp_path / "r", trap=trap).hosts_file))

    assert exo_with("yeast-package").exo.source.endswith("/yeast")
    assert exo_with("wrong-extra").exo.nodes["rog"].extras == ["amd"]
    assert exo_with("one-shot-run").exo.flags == ["run"]
    assert "--broadcast-port" in exo_with("split-ports").exo.flags
    assert exo_with("wrong-model").models.small.exo == "qwen2.5:3b"
    assert exo_with("mlx-only-model").models.small.exo == "qwen-2.5-3b"
    assert exo_with("readonly-array").exo.nodes["srv2"].overrides == ["tinygrad==0.10.3"]
    assert exo_with("amd-mask").exo.nodes["rog"].environment == {"AMD": "1"}
    assert exo_with("amd-pinned-tinygrad").exo.nodes["rog"].overrides == []
    assert exo_with("amd-without-pyrsmi").exo.nodes["rog"].extras == []


def test_yeast_is_on_the_path_too(tmp_path: Path) -> None:
    """The `exo` that srv1 finds without a path is the Yeast Epigenome Project's, and exits 0 on --version."""
    layout = lay_out(tmp_path / "r", trap="yeast-package")
    ran = shell(layout, "srv1", "exo --version && exo --help")
    assert ran.returncode == 0
    assert "Yeast Epigenome Project" in ran.stdout


def test_rocm_is_missing_on_rog(tmp_path: Path) -> None:
    """With the trap rog has neither tool nor device file; without it, it has them and they name gfx1151."""
    asked = "rocm-smi --showproductname; rocminfo; ls $EXO_PHASE1_SYSROOT/dev/kfd"
    here = shell(lay_out(tmp_path / "a"), "rog", asked)
    assert here.returncode == 0
    assert here.stdout.count("gfx1151") >= 2
    layout = lay_out(tmp_path / "b", trap="rocm-missing")
    assert not (layout.node("rog").bin / "rocm-smi").exists()
    assert shell(layout, "rog", "ls $EXO_PHASE1_SYSROOT/dev/kfd").returncode != 0


def test_rocm_smi_speaks_json_too(tmp_path: Path) -> None:
    """`rocm-smi --showproductname --json` is JSON; the name is the generic one, not the marketing name."""
    card = json.loads(shell(lay_out(tmp_path / "r"), "rog", "rocm-smi --showproductname --json").stdout)["card0"]
    assert (card["Card Series"], card["GFX Version"]) == ("AMD Radeon Graphics", "gfx1151")


def test_rocminfo_believes_the_override(tmp_path: Path) -> None:
    """HSA_OVERRIDE_GFX_VERSION makes rocminfo report another GPU, as on the real machine."""
    layout = lay_out(tmp_path / "r")
    assert "gfx1201" in shell(layout, "rog", "HSA_OVERRIDE_GFX_VERSION=12.0.1 rocminfo").stdout


@pytest.mark.parametrize(("trap", "relay"), [(None, False), ("relayed-tailnet", True)])
def test_tailscale_tells_direct_or_relayed(tmp_path: Path, trap: str | None, relay: bool) -> None:
    """`tailscale status --json` has a current address for direct peers and none for relayed ones."""
    layout = lay_out(tmp_path / "r", trap=trap)
    for key in NODES:
        status = json.loads(shell(layout, key, "tailscale status --json").stdout)
        assert [peer["CurAddr"] == "" for peer in status["Peer"].values()] == [relay, relay]
        assert shell(layout, key, "tailscale ip -4").stdout.strip() == layout.node(key).address


def test_traps_in_the_engines(tmp_path: Path) -> None:
    """Traps of what servers do are settings of those servers alone."""

    def with_trap(trap: str) -> Layout:
        return lay_out(tmp_path / "r", trap=trap)

    assert told(with_trap("silent-discovery-error"), "srv2", "exo")["discovery_fails"] is True
    assert "discovery_fails" not in told(with_trap("silent-discovery-error"), "srv1", "exo")
    assert told(with_trap("cut-stream"), "srv1", "exo")["cut_stream_at"] == 0.5
    assert told(with_trap("peer-lost"), "srv2", "exo")["dies_at_prompt"] == 3
    assert told(with_trap("unequal-length"), "srv1", "ollama")["length_share"] == 0.6
    assert told(with_trap("cold-load-in-run"), "rog", "ollama")["forgets_models"] is True


def test_recycled_pid_points_to_a_bystander(tmp_path: Path) -> None:
    """Sprung, the note of srv2's daemon names an innocent process; other steps spring nothing."""
    layout = lay_out(tmp_path / "r", trap="recycled-pid")
    note = layout.node("srv2").home / ".exo-phase1" / "run" / "daemon.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"pid": 1, "start_ticks": 5}))
    assert spring(layout.root, "bench-comparison") is None
    try:
        assert spring(layout.root, "stop-cluster") == "recycled-pid"
        noted = json.loads(note.read_text())
        assert marked(layout.root)[noted["pid"]] == "sleep 86400"
        assert noted["start_ticks"] == 5
    finally:
        stop_marked(layout.root)
