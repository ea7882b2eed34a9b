"""What surrounds a run, asked of the node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tasks.benchmark.arms import ENGINES, orphans


def test_an_engine_whose_ollama_was_killed_is_named(tmp_path: Path) -> None:
    """An engine that is no child of an `ollama` computes unseen: its PID is told; a server's, or what ended, is not."""
    sleep = shutil.copy("/bin/sleep", tmp_path / "llama-server")
    shell = shutil.copy("/bin/sh", tmp_path / "ollama")
    with (
        subprocess.Popen([sleep, "60"]) as since_030,
        subprocess.Popen([shell, "-c", "read -r _", "runner", "--model"], stdin=subprocess.PIPE) as before,
        subprocess.Popen([shell, "-c", "read -r _", "serve"], stdin=subprocess.PIPE) as server,
    ):
        found = " ".join(orphans("srv1", asked()))
        assert f"srv1: an engine whose Ollama is gone (end it: kill {since_030.pid})" in found
        assert f"kill {before.pid})" in found
        assert f"kill {server.pid})" not in found
        for process in (since_030, before, server):
            process.kill()
    assert f"kill {since_030.pid})" not in " ".join(orphans("srv1", asked()))


def asked() -> str:
    """Return what a node tells before a run."""
    return subprocess.run(["bash", "-c", ENGINES], capture_output=True, text=True, check=True).stdout
