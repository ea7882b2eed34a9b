"""What the kernel tells about the processes of this machine, read while they come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def files(name: str) -> Iterator[tuple[int, bytes]]:
    """Yield PID and content of /proc/PID/`name` (its parts end in NUL) of every process that has not just ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / name).read_bytes()
        except OSError:
            continue
