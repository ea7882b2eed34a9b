"""The one-connection links that let EXO 1.0.71 stand without multicast: started, found and stopped as EXO itself is.

Why they are needed, and what was measured: docs/decisions/0011-links-for-1x.md.
"""

from __future__ import annotations

from pathlib import Path

from tasks.exo.interface import Link
from tasks.exo.node import ExoNode
from tasks.machines import daemon
from tasks.machines.daemon import Daemon, Launch

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "peer_link.py"


def open_link(exo: ExoNode, link: Link) -> Daemon:
    """Start the program that carries `link` on the node, in place of one that runs. Raises StepError."""
    program = f"{exo.folder}/{SCRIPT.name}"
    exo.node.put(SCRIPT.read_bytes(), program)
    argv = [exo.installed.python, program, str(link.port), link.target, *link.answer_first]
    daemon.stop(exo.node, exo.link_folder)
    launch = Launch([*argv, "--again-after", f"{link.again_after_s:g}"], {}, {}, (link.port,))
    return daemon.start(exo.node, exo.link_folder, launch)


def is_open(exo: ExoNode) -> bool:
    """Tell whether the program that carries the node's link runs."""
    return daemon.find(exo.node, exo.link_folder) is not None
