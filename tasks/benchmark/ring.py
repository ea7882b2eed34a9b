"""Watch EXO's ring while a run is measured, and end the run when the ring is lost, with the node named.

A lost ring answers nothing and says nothing: a request would be waited out for a quarter of an hour, and the next one
too. So every node is looked at while the script measures; where a process of ours is gone, or a topology stays
incomplete or a node out of reach, or no node of a complete ring does anything for a minute, the script is ended, and
whoever began the run can bring the ring back.
"""

from __future__ import annotations

import shlex
import threading
import time
from contextlib import suppress
from types import TracebackType

from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.exo.work import HUNG_S, Work
from tasks.machines.daemon import Daemon
from tasks.machines.node import Node, unjournaled

LOOK_S = 3.0
PATIENCE_S = 12.0
"""A topology may lack an edge for a moment; a ring that lost a node never comes back by itself."""
_NO_LOG = 2**40
"""Beyond the end of every log: only its length is asked."""


class RingWatch:
    """While entered, looks at the cluster, and ends the script whose PID is in `pid_file` of `bench` on a loss.

    Without a cluster it watches nothing.
    """

    def __init__(self, cluster: ExoCluster | None, bench: Node, pid_file: str) -> None:
        self._cluster, self._bench, self._pid_file = cluster, bench, pid_file
        self.lost: dict[str, str] = {}
        """Node -> what was seen there, once the ring is lost."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def words(self) -> str:
        """What was lost, node by node, "" where nothing was."""
        return "; ".join(f"{key}: {words}" for key, words in self.lost.items())

    def __enter__(self) -> RingWatch:
        if self._cluster is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._cluster is not None:
            self._thread.join(LOOK_S + 30)

    def _watch(self) -> None:
        since_s: float | None = None
        with unjournaled():
            nodes = self._cluster.nodes if self._cluster else {}
            processes: dict[str, Daemon | None] = {}
            work = {key: Work(time.monotonic()) for key in nodes}
            while not self._end.wait(LOOK_S):
                gone, shaken = self._look(processes, work)
                now = time.monotonic()
                since_s = (since_s or now) if shaken else None
                idle_s = now - max(one.last_s for one in work.values())
                if gone or (since_s is not None and now - since_s > PATIENCE_S):
                    self.lost = gone or shaken
                elif idle_s > HUNG_S:  # the script has a request under way at every moment
                    self.lost = dict.fromkeys(nodes, f"did nothing for {idle_s:.0f} s while EXO owed an answer")
                if self.lost:
                    self._end_script()
                    return

    def _look(
        self, processes: dict[str, Daemon | None], work: dict[str, Work]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return what is final and what may pass, by node, and note who works."""
        gone, shaken = {}, {}
        cluster = self._cluster
        for key, exo in cluster.nodes.items() if cluster else ():
            try:
                if key not in processes:  # here, for a node may be out of reach at the first look too
                    processes[key] = exo.process()
                process = processes[key]
                pulse = exo.pulse(process, _NO_LOG)[0] if process else None
                if pulse is None or not pulse.alive:
                    gone[key] = "its EXO is not running any more"
                    continue
                work[key].take(pulse, time.monotonic())
                if cluster and not cluster.is_complete(exo.read_topology()):
                    shaken[key] = "its topology is not complete any more"
            except StepError as error:
                shaken[key] = error.problem.found
        return gone, shaken

    def _end_script(self) -> None:
        file = shlex.quote(self._pid_file)
        is_ours = 'tr "\\0" " " </proc/$pid/cmdline | grep -qF -- --only'
        with suppress(StepError):  # out of reach: its own time-out ends it
            self._bench.run(f'pid=$(cat {file}) && {is_ours} && kill "$pid"', check=False)
