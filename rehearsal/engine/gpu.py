"""The GPU as sysfs would tell it: gpu_busy_percent and the power are high while something computes."""

from __future__ import annotations

import threading
from pathlib import Path

from .settings import Settings

BUSY, IDLE = ("97\n", "85000000\n"), ("0\n", "9000000\n")
POWER = "hwmon/hwmon3/power1_average"
"""Beside the file of the percentage, in microwatts."""


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
            percent, microwatts = BUSY if self._users else IDLE
            Path(path).write_text(percent)
            (Path(path).parent / POWER).write_text(microwatts)
