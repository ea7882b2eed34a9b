"""Tell a node that does something from one that stands still, by what its EXO has done from one look to the next.

One that computes, loads or downloads uses a processor or a disk, or writes its log; an idle EXO uses a thousandth of a
core (0.0.15, 10 ms in 10 s).
"""

from __future__ import annotations

from tasks.machines.daemon import Pulse

HUNG_S = 60.0
"""A ring in which no node did anything for this long hangs; the slowest stage seen took 1.4 s a token on a CPU."""
WORKING_CORES = 0.1
WANTED_CORES = 0.8
"""Of processor used or waited for: one that computes wants a whole one, and gets little of it on an overloaded node."""
MOVED_BYTES = 1_000_000


class Work:
    """When one node's EXO was last seen doing something."""

    def __init__(self, now_s: float) -> None:
        self.last_s = now_s
        self._before: tuple[float, Pulse] | None = None
        self._disk_bytes: int | None = None
        """What it had read and written when that last counted as work: a slow download is work too."""

    def take(self, pulse: Pulse, now_s: float) -> None:
        """Compare one more look with the one before."""
        since_s, before = self._before or (now_s, pulse)
        used_s = pulse.cpu_s - before.cpu_s
        wanted_s = used_s + pulse.waited_s - before.waited_s
        used = used_s > WORKING_CORES * (now_s - since_s) or wanted_s > WANTED_CORES * (now_s - since_s)
        if self._disk_bytes is None:
            self._disk_bytes = pulse.disk_bytes
        moved = pulse.disk_bytes - self._disk_bytes > MOVED_BYTES
        if moved:
            self._disk_bytes = pulse.disk_bytes
        if used or moved or pulse.log_bytes != before.log_bytes:
            self.last_s = now_s
        self._before = now_s, pulse
