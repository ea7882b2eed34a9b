"""The benchmark script as a process, for its tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from records.samples import Sample
from scripts import benchmark_exo_vs_ollama as script

SCRIPT = Path(script.__file__)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the script with pipes."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, str(SCRIPT), *arguments], **{**pipes, **options})


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script to its end, with these variables in its environment."""
    command = [sys.executable, str(SCRIPT), *arguments]
    environment = os.environ | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=300)


def lines(output: str) -> list[Sample]:
    """Read JSON lines as samples, refusing keys that a Sample does not have."""
    known = set(script.SAMPLE_KEYS)
    for line in output.splitlines():
        assert set(json.loads(line)) == known
    return [msgspec.json.decode(line, type=Sample) for line in output.splitlines()]
