"""Run a program as a person does, on a terminal of its own, and keep all that it shows."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from typing import Any


def on_terminal(command: Sequence[str], *, stream: str = "stdout", **options: Any) -> bytes:
    """Run `command` with `stream` on a pseudo-terminal and its other output on pipes; return what the terminal got."""
    controller, terminal = os.openpty()
    others = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(command, **{**others, stream: terminal, **options})
    os.close(terminal)
    shown = b""
    while chunk := _read(controller):
        shown += chunk
    os.close(controller)
    child.wait(timeout=30)
    return shown


def _read(descriptor: int) -> bytes:
    with contextlib.suppress(OSError):  # Linux says EIO when the terminal's last user has gone
        return os.read(descriptor, 65536)
    return b""
