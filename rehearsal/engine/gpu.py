"""The GPU's load as sysfs would tell it: gpu_busy_percent is high while something computes."""

from __future__ import annotations

import threading
from pathlib import Path

from .settings import Settings

BUSY, IDLE = "97\n", "0\n"


class Gpu:
    """Counts who computes on the node's GPU; does nothing on a node without one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._users = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Begin to compute."""
        self._count(1)

    def leave(self) -> None:
        """Stop computing."""
        self._count(-1)

    def _count(self, change: int) -> None:
        path = self._settings.get("busy_file", "")
        if not path:
            return
        with self._lock:
            self._users += change
            Path(path).write_text(BUSY if self._users else IDLE)
