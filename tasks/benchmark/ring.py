"""Watch EXO's ring while a run is measured, and end the run when the ring is lost, with the node named.

A lost ring answers nothing and says nothing: a request would be waited out for a quarter of an hour, and the next one
too. So every node is looked at while the script measures; where a process of ours is gone, or a topology stays
incomplete or a node out of reach, the script is ended, and whoever began the run can bring the ring back.
"""

from __future__ import annotations

import shlex
import threading
import time
from contextlib import suppress
from types import TracebackType

from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.machines.node import Node, unjournaled

LOOK_S = 3.0
PATIENCE_S = 12.0
"""A topology may lack an edge for a moment; a ring that lost a node never comes back by itself."""


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
        while not self._end.wait(LOOK_S):
            with unjournaled():
                gone, shaken = self._look()
                now = time.monotonic()
                since_s = (since_s or now) if shaken else None
                if gone or (since_s is not None and now - since_s > PATIENCE_S):
                    self.lost = gone or shaken
                    self._end_script()
                    return

    def _look(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return what is final and what may pass, by node."""
        gone, shaken = {}, {}
        cluster = self._cluster
        for key, exo in cluster.nodes.items() if cluster else ():
            try:
                if exo.process() is None:
                    gone[key] = "its EXO is not running any more"
                elif cluster and not cluster.is_complete(exo.read_topology()):
                    shaken[key] = "its topology is not complete any more"
            except StepError as error:
                shaken[key] = error.problem.found
        return gone, shaken

    def _end_script(self) -> None:
        file = shlex.quote(self._pid_file)
        is_ours = 'tr "\\0" " " </proc/$pid/cmdline | grep -qF -- --only'
        with suppress(StepError):  # out of reach: its own time-out ends it
            self._bench.run(f'pid=$(cat {file}) && {is_ours} && kill "$pid"', check=False)
