"""A machine's own load average: `python -m tests.real.loadavg FILE` keeps FILE as Linux keeps /proc/loadavg.

The kernel has one load average for all namespaces, so three machines on one would each show the work of all three, and
of whatever else runs there, as their own. lxcfs gives containers theirs in this way: tasks that run or wait for a disk,
counted among the processes that this namespace sees, averaged over 1, 5 and 15 minutes.
"""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

EVERY_S = 1.0
MINUTES = (1, 5, 15)
BUSY = ("R", "D")


def keep(file: Path) -> None:
    """Write the averages into `file`, in place, for as long as this process lives."""
    averages = [0.0] * len(MINUTES)
    with file.open("r+b", buffering=0) as written:
        while True:
            busy, every = counted()
            faded = [math.exp(-EVERY_S / (60 * minutes)) for minutes in MINUTES]
            averages = [average * f + busy * (1 - f) for average, f in zip(averages, faded, strict=True)]
            line = " ".join(f"{average:.2f}" for average in averages) + f" {busy}/{every} {os.getpid()}"
            os.pwrite(written.fileno(), f"{line:<59}\n".encode(), 0)
            time.sleep(EVERY_S)


def counted() -> tuple[int, int]:
    """Return how many tasks are at work, this one left out, and how many there are."""
    busy = every = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with suppress(OSError, IndexError):  # it has just ended
            for task in (process / "task").glob("*/stat"):
                state = task.read_text().rpartition(")")[2].split()[0]
                every += 1
                busy += state in BUSY
    return busy, every


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
