"""What surrounds a run, asked of the node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tasks.benchmark.arms import CONDITIONS, orphans


def test_an_engine_whose_ollama_was_killed_is_named(tmp_path: Path) -> None:
    """A `llama-server` that is no child of an `ollama` computes unseen: its PID is told, and what has ended is not."""
    program = tmp_path / "llama-server"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as left:
        said = subprocess.run(["bash", "-c", CONDITIONS], capture_output=True, text=True, check=True).stdout
        assert f"srv1: llama-server (PID {left.pid}), which no Ollama lists," in orphans("srv1", said)
        left.kill()
    again = subprocess.run(["bash", "-c", CONDITIONS], capture_output=True, text=True, check=True).stdout
    assert f"(PID {left.pid})" not in " ".join(orphans("srv1", again))
