"""What the baselines' servers were like at preflight, kept on the bench node: the benchmark and cleanup compare."""

from __future__ import annotations

import shlex

import msgspec

from records.facts import OllamaState
from tasks.decode import decode
from tasks.machines.node import Node
from tasks.machines.paths import ollama_before_path


def ollama_before(bench_node: Node, profile: str) -> dict[str, OllamaState]:
    """Return the Ollama servers as the last preflight without a running EXO found them; {} where that is not known.

    It is kept after a cleanup, so that typing `fab cleanup` twice does not forget what the first one proved.
    """
    ran = bench_node.run(before_command(bench_node, profile), check=False)
    try:
        return decode(ran.stdout, dict[str, OllamaState])
    except msgspec.DecodeError:
        return {}


def before_command(bench_node: Node, profile: str) -> str:
    """Return the command that prints the servers' earlier state."""
    return f"cat {shlex.quote(ollama_before_path(bench_node, profile))} 2>/dev/null"
