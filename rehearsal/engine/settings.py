"""What a stand-in is told beside its command line: `~/.rehearsal.json` of its node, read again whenever it changes.

Traps and tests rewrite this file while the stand-ins run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = ".rehearsal.json"


class Settings:
    """One section of the file; every value has a default, so that a stand-in runs without the file too."""

    def __init__(self, section: str, home: Path | None = None) -> None:
        self._path = (home or Path.home()) / NAME
        self._section = section
        self._read_at_ns = -1
        self._values: dict[str, Any] = {}

    def get(self, key: str, default: Any) -> Any:
        """Return the value of `key` as the file says now."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._read_at_ns:
                self._values = json.loads(self._path.read_text(encoding="utf-8"))[self._section]
                self._read_at_ns = changed_ns
        except (OSError, ValueError, KeyError):
            pass  # not there, or in the middle of being written: what was read last stands
        return self._values.get(key, default)

    def __contains__(self, key: str) -> bool:
        """Tell whether the file says anything under `key` now."""
        return self.get(key, None) is not None

    def changed_ns(self) -> int:
        """Return when the file was last changed; 0 where there is none."""
        return self._path.stat().st_mtime_ns if self._path.exists() else 0

    def number(self, key: str, default: float) -> float:
        """Return the number under `key`."""
        return float(self.get(key, default))
