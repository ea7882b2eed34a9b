"""Bringing a rehearsal up and taking it down: side by side, again on the same folder, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rehearsal import cluster
from rehearsal.layout import Layout, read_layout
from rehearsal.processes import MARK, marked, start_detached, stop_marked
from rehearsal.speeds import OLLAMA, settings
from tasks.inventory import active, load_inventory

PROJECT = Path(cluster.__file__).parent.parent


def test_hosts_file_is_one_the_product_takes(nodes: Layout) -> None:
    """hosts.yaml passes the product's checks, marks itself as a rehearsal, and names ports no real server has."""
    inventory = load_inventory(nodes.hosts_file)
    assert inventory.rehearsal is not None
    assert inventory.rehearsal.speedup == 1.5
    assert len({node.host for node in inventory.nodes.values()}) == 3
    assert inventory.nodes["rog"].port != inventory.nodes["srv1"].port
    assert inventory.nodes["rog"].gpu is not None
    ports = {nodes.ssh_port, nodes.rog_ssh_port, nodes.ollama_port, nodes.api_port, nodes.peer_port}
    assert len(ports) == 5
    assert not ports & {22, 2222, 11434, 52415, 52416}
    assert Path(active(inventory).exo.source).is_dir()


def test_models_are_those_of_the_owners_file(nodes: Layout) -> None:
    """The rehearsal runs the very model pairs of the project's own hosts.yaml."""
    real = load_inventory(PROJECT / "hosts.yaml")
    ours = load_inventory(nodes.hosts_file)
    for size in ("small", "large"):
        theirs, own = getattr(real.profiles[ours.profile].models, size), getattr(active(ours).models, size)
        assert (own.exo, own.ollama, own.ollama_precision) == (theirs.exo, theirs.ollama, theirs.ollama_precision)


def test_two_rehearsals_do_not_meet(nodes: Layout, tmp_path: Path) -> None:
    """A second rehearsal has another network; taking it down leaves the first alone."""
    second = cluster.up(tmp_path)
    try:
        assert second.network != nodes.network
    finally:
        stopped = cluster.down(tmp_path)
    assert len(stopped) == 5
    assert len(marked(nodes.root)) >= 5
    assert marked(tmp_path) == {}


def test_up_again_ends_what_was_there(tmp_path: Path) -> None:
    """`up` on the folder of a rehearsal that still runs ends that first; logs and reports in it stay."""
    cluster.up(tmp_path)
    before = set(marked(tmp_path))
    (tmp_path / "logs").mkdir()
    try:
        cluster.up(tmp_path, speedup=1.2)
        assert not before & set(marked(tmp_path))
        assert (tmp_path / "logs").is_dir()
        assert read_layout(tmp_path).speedup == 1.2
    finally:
        cluster.down(tmp_path)


def test_folder_gone_ends_everything(tmp_path: Path) -> None:
    """When somebody removes the folder, servers and whatever ran on the nodes end by themselves."""
    root = tmp_path / "gone"
    layout = cluster.up(root)
    start_detached(["sleep", "600"], root, {"PATH": "/usr/bin:/bin"}, layout.node("srv1").home, root / "sleep.log")
    shutil.rmtree(root)
    deadline = time.monotonic() + 20
    while marked(root):
        assert time.monotonic() < deadline, marked(root)
        time.sleep(0.1)


def test_the_mark_must_fit_exactly(tmp_path: Path) -> None:
    """A process of `/a/b1` is none of `/a/b`; a process that ignores SIGTERM is killed."""
    inner, longer = tmp_path / "b", tmp_path / "b1"
    for root in (inner, longer):
        root.mkdir()
        trap = "trap '' TERM;" if root == inner else ""
        start_detached(
            ["/bin/sh", "-c", f"{trap} sleep 600 & wait; sleep 600"],
            root,
            {"PATH": "/usr/bin:/bin"},
            root,
            root / "log",
        )
    wait = time.monotonic() + 5
    while len(marked(inner)) < 2 or len(marked(longer)) < 2:
        assert time.monotonic() < wait
        time.sleep(0.02)
    assert all(str(text).startswith("PID ") for text in stop_marked(inner))
    assert marked(inner) == {}
    assert len(marked(longer)) == 2
    stop_marked(longer)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speedup": 0.0}, "speedup 0.0"),
        ({"noise": 2.0}, "noise 2.0"),
        ({"trap": "no-such"}, "trap no-such"),
        ({"generation": 3}, "generation 3"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, options: dict[str, object], words: str) -> None:
    """A bad argument is refused with its value, before anything is written."""
    with pytest.raises(ValueError, match=words):
        cluster.lay_out(tmp_path / "new", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    """A folder with other things in it is refused, and they stay."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not a rehearsal's folder"):
        cluster.up(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_command_line(tmp_path: Path) -> None:
    """`python -m rehearsal up` and `down` say what they did; a bad folder is exit code 2 and one line."""
    (tmp_path / "x").write_text("")
    run = [sys.executable, "-m", "rehearsal"]
    refused = subprocess.run([*run, "up", "--root", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    nothing = subprocess.run([*run, "down", "--root", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True)
    assert (nothing.returncode, nothing.stdout) == (0, "nothing of it runs\n")


def test_speed_up_is_exact_by_construction(nodes: Layout) -> None:
    """EXO's schedule is the faster Ollama's, each of its two numbers better by the speed-up."""
    told = settings(nodes, "srv1")["exo"]
    best = OLLAMA["rog"]
    assert told["tokens_per_s"] / best["tokens_per_s"] == pytest.approx(1.5)
    assert best["first_token_s"] / told["first_token_s"] == pytest.approx(1.5)
    assert OLLAMA["rog"]["tokens_per_s"] > OLLAMA["srv1"]["tokens_per_s"]


def test_marked_environment_reaches_the_nodes(nodes: Layout) -> None:
    """What runs on a node is marked, and its pip is told to look at the rehearsal's wheels alone."""
    told = json.loads((nodes.node("rog").folder / "node.json").read_text())["environment"]
    assert told[MARK] == str(nodes.root)
    assert (told["PIP_NO_INDEX"], told["PIP_FIND_LINKS"]) == ("1", str(nodes.wheels))
