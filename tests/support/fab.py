"""Type `fab` as a person does: the real program in a process of its own, with nothing on its standard input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import PROJECT
from tests.support import processes

FAB = Path(sys.executable).with_name("fab")


TIMEOUT_S = 560
"""Four times what the longest rehearsal takes on two quiet cores: what reaches it hangs."""


def fab(
    *words: str, hosts: Path | None = None, project: Path = PROJECT, timeout_s: float = TIMEOUT_S, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `fab WORDS` from the folder `project`, against `hosts` where given; stdout and stderr are kept apart."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FABRIC_")} | variables
    if hosts is not None:
        environment["FABRIC_EXO_INVENTORY"] = str(hosts)
    return subprocess.run(
        [FAB, *words],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def marked(root: Path) -> list[str]:
    """Return the command lines of the processes that belong to the rehearsal in `root`."""
    mark = f"EXO_PHASE1_REHEARSAL={root.resolve()}".encode()
    ours = {pid for pid, environment in processes.files("environ") if mark in environment.split(b"\0")}
    lines = {pid: line.replace(b"\0", b" ").decode("utf-8", "replace") for pid, line in processes.files("cmdline")}
    return [f"{pid} {lines[pid]}" for pid in sorted(ours) if lines.get(pid, "").strip()]
