"""Bring a rehearsal up and take it down: three SSH nodes, two Ollama stand-ins, what EXO is installed from.

Nothing here needs root, git or a network, and everything it starts carries the rehearsal's mark (rehearsal.processes).
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rehearsal.hosts import PROFILES, hosts, write_hosts
from rehearsal.keys import write_keys
from rehearsal.layout import SYSTEM_PATH, Layout, NodeLayout, environment, new_layout
from rehearsal.processes import start_detached, stop_marked
from rehearsal.shims import lay_programs, lay_sysroot
from rehearsal.sources import lay_source, lay_venv, lay_wheels
from rehearsal.speeds import OLLAMA, settings
from rehearsal.traps import TRAPS

NOTE = "rehearsal.json"
OURS = (
    "nodes",
    "source",
    "wheels",
    "hosts.yaml",
    NOTE,
    "id_ed25519",
    "id_ed25519.pub",
    "known_hosts",
    "ollama.log",
    "uv.py",
)
UP_TIMEOUT_S = 90.0
"""Python takes half a minute to begin on a machine with twenty others at work."""


def up(
    root: Path,
    *,
    speedup: float = 1.5,
    noise: float = 0.02,
    trap: str | None = None,
    seed: int = 0,
    generation: int = 0,
    nodes: int = 3,
    drift: float = 0.0,
) -> Layout:
    """Bring a rehearsal up below `root` and return where everything is, once every server answers.

    `speedup` is the true ratio of EXO to the faster Ollama; `noise` the standard deviation of a run's log rate;
    `generation` 0 is EXO 0.0.15, 1 is 1.0.71; `drift` the relative change of all engines' rates over four minutes from
    now on. An earlier rehearsal in `root` ends first; its logs and reports stay.
    Raises ValueError for a bad argument or a folder of something else, RuntimeError where a server does not start.
    """
    layout = lay_out(
        root, speedup=speedup, noise=noise, trap=trap, seed=seed, generation=generation, nodes=nodes, drift=drift
    )
    if generation == 0:  # uv makes the other one's
        for node in layout.nodes():
            lay_venv(node.home / ".exo-phase1" / PROFILES[0] / "venv")
    try:
        start(layout)
        if trap and (starts := TRAPS[trap].starts):
            starts(layout)
    except RuntimeError:
        down(root)
        raise
    return layout


def lay_out(
    root: Path,
    *,
    speedup: float = 1.5,
    noise: float = 0.02,
    trap: str | None = None,
    seed: int = 0,
    generation: int = 0,
    nodes: int = 3,
    drift: float = 0.0,
) -> Layout:
    """Write every file of a rehearsal below `root` and start nothing; arguments and ValueError as of `up`."""
    root = root.resolve()
    check(root, speedup, noise, trap, generation, nodes, drift)
    down(root)
    _clear(root)
    layout = new_layout(root, generation, speedup, noise, seed, trap, nodes, drift)
    lay_files(layout)
    write_keys(layout)
    content = hosts(layout)
    if trap:
        TRAPS[trap].lay(layout, content)
    write_hosts(layout, content)
    return layout


def lay_files(layout: Layout) -> None:
    """Write what the nodes of `layout` are made of and what they install from, wherever these nodes then are."""
    layout.write()
    lay_wheels(layout.wheels)
    lay_source(layout.generation, layout.source)
    for node in layout.nodes():
        _lay_node(layout, node)


def down(root: Path) -> list[str]:
    """Stop every process of the rehearsal in `root` and return what was stopped, one line each. Files stay."""
    return stop_marked(root.resolve())


def check(
    root: Path, speedup: float, noise: float, trap: str | None, generation: int, nodes: int = 3, drift: float = 0.0
) -> None:
    """Raise ValueError for an argument that `up` cannot follow, or a folder of something else."""
    if not 0.05 <= speedup <= 20:
        raise ValueError(f"speedup {speedup}: must be from 0.05 to 20")
    if not 0 <= noise <= 0.5:
        raise ValueError(f"noise {noise}: must be from 0 to 0.5")
    if not -0.9 <= drift <= 9:
        raise ValueError(f"drift {drift}: must be from -0.9 to 9")
    if generation not in (0, 1):
        raise ValueError(f"generation {generation}: must be 0 (EXO 0.0.15) or 1 (1.0.71)")
    if not 2 <= nodes <= 99:
        raise ValueError(f"nodes {nodes}: must be from 2 to 99")
    if trap and nodes != 3:
        raise ValueError(f"trap {trap}: is laid among the plan's three nodes")
    if trap and trap not in TRAPS:
        raise ValueError(f"trap {trap}: is none of {', '.join(sorted(TRAPS))}")
    if root.exists() and any(root.iterdir()) and not (root / NOTE).is_file():
        raise ValueError(f"{root}: is not a rehearsal's folder (no {NOTE}); give another one")


def _clear(root: Path) -> None:
    """Remove what an earlier rehearsal laid out; its logs and reports are not ours to remove."""
    for name in OURS:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    root.mkdir(parents=True, exist_ok=True)


def _lay_node(layout: Layout, node: NodeLayout) -> None:
    for folder in (node.home, node.folder / "tmp"):
        folder.mkdir(parents=True)
    lay_programs(layout, node.key)
    lay_sysroot(layout, node.key)
    told = settings(layout, node.key)
    if "gpu" in told:
        told["gpu"]["busy_file"] = str(node.sysroot / "sys/class/drm/card1/device/gpu_busy_percent")
    node.settings.write_text(json.dumps(told, indent=2) + "\n")


def start(layout: Layout, changes: Mapping[str, str | None] | None = None) -> None:
    """Start what `lay_out` wrote; `changes` are made to every node's environment, None takes a variable away.

    Raises RuntimeError where a server does not answer in time.
    """
    here = Path(__file__).parent.parent
    own = {"PATH": SYSTEM_PATH, "PYTHONPATH": str(here), "LANG": "C.UTF-8"}
    for node in layout.nodes():
        found = {**environment(layout, node), **(changes or {})}
        config = {
            "root": str(layout.root),
            "address": node.address,
            "port": node.ssh_port,
            "home": str(node.home),
            "host_key": str(node.folder / "ssh_host_ed25519_key"),
            "authorized_keys": str(layout.root / "id_ed25519.pub"),
            "environment": {name: value for name, value in found.items() if value is not None},
        }
        told = node.folder / "node.json"
        told.write_text(json.dumps(config, indent=2) + "\n")
        argv = [sys.executable, "-m", "rehearsal.node_server", str(told)]
        start_detached(argv, layout.root, own | {"HOME": str(node.home)}, layout.root, node.log)
    for key in OLLAMA:
        node = layout.node(key)
        argv = [sys.executable, "-m", "rehearsal.ollama", node.address, str(layout.ollama_port), str(node.home)]
        start_detached(argv, layout.root, own | {"HOME": str(node.home)}, layout.root, layout.root / "ollama.log")
    deadline = time.monotonic() + UP_TIMEOUT_S
    for node in layout.nodes():
        _wait_for(node.address, node.ssh_port, deadline, node.log, b"SSH-2.0-")
    for key in OLLAMA:
        _wait_for(layout.node(key).address, layout.ollama_port, deadline, layout.root / "ollama.log", b"")


def _wait_for(address: str, port: int, deadline: float, log: Path, greeting: bytes) -> None:
    """Wait until a server answers; RuntimeError with the end of its log where it does not."""
    while True:
        try:
            with socket.create_connection((address, port), 2.0) as sock:
                sock.settimeout(5.0)
                if not greeting or sock.recv(len(greeting)) == greeting:
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"
            raise RuntimeError(f"nothing answers on {address}:{port}; {log} says: {said}")
        time.sleep(0.03)
