"""What traps do beyond changing a setting: other sources, other programs, other processes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import Any

from rehearsal.layout import NODES, Layout, environment
from rehearsal.processes import marked, start_detached
from rehearsal.shims import put, tailscale
from rehearsal.sources import lay_yeast
from rehearsal.wheels import REVISION_NOTE


def yeast(layout: Layout, exo: dict[str, Any]) -> None:
    """Have the nodes install the yeast tool, as `pip install exo` would, and put it on srv1's PATH too."""
    exo.update(source=str(lay_yeast(layout.root / "source" / "yeast")), nodes={}, overrides=[])
    program = layout.root / "source" / "yeast" / "exo" / "__init__.py"
    put(layout.node("srv1").bin / "exo", f'exec python3 {shlex.quote(str(program))} "$@"')


def remove_rocm(layout: Layout) -> None:
    """Take ROCm's tools and libraries and its device file from rog."""
    rog = layout.node("rog")
    libraries = [rog.sysroot / "opt/rocm/lib" / name for name in ("librocm_smi64.so", "libamd_comgr.so")]
    for path in (rog.bin / "rocm-smi", rog.bin / "rocminfo", rog.sysroot / "dev" / "kfd", *libraries):
        path.unlink()


def other_revision(layout: Layout, key: str) -> None:
    """Have a node build another revision from the same source."""
    (layout.node(key).home / REVISION_NOTE).write_text("a node that was installed from a branch the other day\n")


def relay(layout: Layout, region: str) -> None:
    """Have Tailscale say on every node that its peers are reached through a relay."""
    for key in NODES:
        put(layout.node(key).bin / "tailscale", tailscale(layout, key, region))


def lay_logind(layout: Layout) -> None:
    """Have logind tell on every node that it ends what a login leaves, and let `loginctl` enable lingering."""
    for node in layout.nodes():
        folder = shlex.quote(str(node.sysroot / "var/lib/systemd/linger"))
        put(node.bin / "busctl", "echo b true")
        put(
            node.bin / "loginctl",
            f'note={folder}/"${{2:-$USER}}"; case $1 in\n'
            f'enable-linger) mkdir -p {folder} && : >"$note" ;;\n'
            'show-user) [ -e "$note" ] && echo Linger=yes || echo Linger=no ;;\nesac',
        )


def redial(layout: Layout, key: str, exo: dict[str, Any]) -> None:
    """Have a node dial another's own address beside its link, as a list of all peers does."""
    peers = f"/ip4/{layout.node('srv1').address}/tcp/{layout.peer_port}"
    exo.setdefault("nodes", {}).setdefault(key, {}).update(flags=["--bootstrap-peers", peers])


def start_stale_exo(layout: Layout) -> None:
    """Start an EXO that nobody remembers on srv2; it holds the API port."""
    node = layout.node("srv2")
    own = environment(layout, node) | {"PYTHONPATH": str(layout.source)}
    flags = ["--node-id", "forgotten", "--chatgpt-api-port", str(layout.api_port), "--disable-tui"]
    if layout.generation:
        flags = ["--api-port", str(layout.api_port)]
    argv = [sys.executable, "-c", "from exo.main import run; run()", *flags]
    start_detached(argv, layout.root, own, node.home, node.folder / "forgotten.log")
    _wait_until_taken(node.address, layout.api_port)


def leave_engine(layout: Layout, key: str) -> None:
    """Have a node's /proc show an engine of Ollama's (PID 4242) that has been given to the first process."""
    processes = layout.node(key).sysroot / "proc"
    for pid, name, parent in ((1, "systemd", 0), (4242, "llama-server", 1)):
        (processes / str(pid)).mkdir()
        (processes / str(pid) / "comm").write_text(f"{name}\n")
        (processes / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent}{' 0' * 17} 90210\n")


def kill_leader(layout: Layout, key: str) -> None:
    """Kill the main process of a node's EXO behind everybody's back; its runners live on."""
    node = layout.node(key)
    for pid, command in marked(layout.root).items():
        if str(node.home) in command and "/venv/bin/exo" in command:
            os.kill(pid, signal.SIGKILL)


def recycle_pid(layout: Layout, key: str) -> None:
    """Kill the EXO of a node behind everybody's back, and let its noted PID be that of an innocent process.

    The innocent process is a `sleep` with the rehearsal's mark; its PID stands in `bystander.pid` of the node's folder.
    """
    kill_leader(layout, key)
    node = layout.node(key)
    start_detached(["sleep", "86400"], layout.root, {"PATH": os.environ["PATH"]}, node.home, node.folder / "sleep.log")
    deadline = time.monotonic() + 5
    bystanders: list[int] = []
    while not bystanders and time.monotonic() < deadline:
        bystanders = [pid for pid, command in marked(layout.root).items() if command == "sleep 86400"]
        time.sleep(0.02)
    (node.folder / "bystander.pid").write_text(f"{bystanders[0]}\n")
    for note in node.home.rglob("daemon.json"):
        noted = json.loads(note.read_text())
        note.write_text(json.dumps(noted | {"pid": bystanders[0]}))


def _wait_until_taken(address: str, port: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        answered = subprocess.run(
            ["/bin/bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"], capture_output=True, check=False
        )
        if answered.returncode == 0:
            return
        time.sleep(0.05)
    raise RuntimeError(f"the forgotten EXO does not hold {address}:{port}")
