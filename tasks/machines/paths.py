"""Where our things lie on a node: one folder a profile below the user's home, and nothing anywhere else."""

from __future__ import annotations

from tasks.machines.lab import Lab
from tasks.machines.node import Node

ROOT = ".exo-phase1"


def state_folder(lab: Lab, node: Node) -> str:
    """Return `~/.exo-phase1/<profile>` on `node`, absolute: venv, sources, notes."""
    return f"{node.home()}/{ROOT}/{lab.inventory.profile}"


def run_folder(lab: Lab, node: Node) -> str:
    """Return the folder of the running EXO: its note, log and discovery file."""
    return f"{state_folder(lab, node)}/run"


def script_path(node: Node) -> str:
    """Return where the benchmark script lies on the bench node."""
    return f"{node.home()}/{ROOT}/scripts/benchmark_exo_vs_ollama.py"


def ollama_before_path(lab: Lab) -> str:
    """Return where the state of the Ollama servers before the first step is kept, on the bench node."""
    return f"{state_folder(lab, lab.bench_node)}/ollama-before.json"
