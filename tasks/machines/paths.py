"""Where our things lie on a node: one folder a profile below the user's home, and nothing anywhere else."""

from __future__ import annotations

from tasks.machines.node import Node

ROOT = ".exo-phase1"
LOCK = "lock"
"""Name, in ROOT, of the file that says who is at work; whoever asks holds it, so it is no sign of anything else."""
OLLAMA_BEFORE = "ollama-before.json"
TOOL_PATH = 'export PATH="$HOME/.local/bin:$HOME/.cargo/bin:$PATH"\n'
"""Where uv and cargo live for a user; non-login shells do not look there."""


def state_folder(node: Node, profile: str) -> str:
    """Return `~/.exo-phase1/<profile>` on `node`, absolute: venv, sources, notes."""
    return f"{node.home()}/{ROOT}/{profile}"


def script_path(node: Node) -> str:
    """Return where the benchmark script lies on the bench node."""
    return f"{node.home()}/{ROOT}/scripts/benchmark_exo_vs_ollama.py"


def ollama_before_path(node: Node, profile: str) -> str:
    """Return where the state of the Ollama servers before the first step is kept, on the bench node."""
    return f"{state_folder(node, profile)}/{OLLAMA_BEFORE}"
