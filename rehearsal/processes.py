"""Start processes that carry this rehearsal's mark, and find and stop every process that does.

The mark is an environment variable with the root folder as its value. Whatever a marked process starts inherits it,
be it ever so detached; so `down` finds what a crashed test left behind, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

MARK = "EXO_PHASE1_REHEARSAL"
TERM_GRACE_S = 3.0
KILL_GRACE_S = 4.0


def start_detached(argv: Sequence[str], root: Path, environment: dict[str, str], cwd: Path, log: Path) -> None:
    """Start a marked process in a session of its own, as nobody's child; its output goes to `log`."""
    # Its environment is its own, but for what a measurement of coverage hands down (`make coverage`).
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    with log.open("ab") as out:
        # The shell ends at once, so that the process is never a zombie of the program that called `up`.
        subprocess.run(
            ["/bin/sh", "-c", '"$@" </dev/null &', "sh", *argv],
            env=environment | measured | {MARK: str(root)},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            check=True,
        )


def marked(root: Path) -> dict[int, str]:
    """Return the processes marked with exactly `root`, PID -> command line; never this process itself."""
    wanted = f"{MARK}={root}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                found[int(entry.name)] = command
        except OSError:
            continue  # it has ended, or is another user's
    return found


def stop_marked(root: Path, spare: str | None = None) -> list[str]:
    """Stop every process marked with `root`, TERM, wait, KILL, and return what was stopped.

    Processes with `spare` in their command line are left alone.
    Raises RuntimeError where a process survives even SIGKILL.
    """
    stopped: dict[int, str] = {}
    deadline = time.monotonic() + TERM_GRACE_S
    while left := _left(root, spare):
        for pid in left.keys() - stopped.keys():
            _signal(pid, signal.SIGTERM)
        stopped |= left
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    deadline = time.monotonic() + KILL_GRACE_S
    while left := _left(root, spare):
        for pid in left:
            _signal(pid, signal.SIGKILL)
        stopped |= left
        if time.monotonic() > deadline:
            raise RuntimeError(f"these processes of {root} survive SIGKILL: {left}")
        time.sleep(0.05)
    return [f"PID {pid}: {command}" for pid, command in sorted(stopped.items())]


def _left(root: Path, spare: str | None) -> dict[int, str]:
    return {pid: command for pid, command in marked(root).items() if spare is None or spare not in command}


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
