"""The EXO cluster of one Lab: its nodes side by side, brought to stand and proven to, and its model.

A cluster stands when, for a stated time, every node is complete together with all others, all our processes live, no
log tells of an election or a crash, and no connection is new (`standing`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from records.facts import Cluster, NodeView
from records.settings import ModelPair
from tasks import console
from tasks.errors import StepError, one_each
from tasks.exo import models
from tasks.exo.catalogue import generation_of
from tasks.exo.dealing import empty_share
from tasks.exo.forming import form
from tasks.exo.interface import Generation, Prepared, StuckPlacementError, Topology
from tasks.exo.logtext import likely_cause
from tasks.exo.node import ExoNode
from tasks.exo.serving import POLL_S, serve
from tasks.exo.standing import watch
from tasks.machines.http import drive
from tasks.machines.lab import Lab
from tasks.machines.node import unjournaled
from tasks.machines.wire import Flow

T = TypeVar("T")
APART_S = 40.0
"""A link that comes anew brings a node back in about a quarter of a minute, where it comes back at all."""
PLACINGS = 20
"""On two busy processors two of three got stuck, eleven in a row at most, each for less than half a minute."""
GONE_LOOK_S = 10.0
"""How often a long flow is interrupted by the question whether all our processes live."""


class ExoCluster:
    """EXO on every node of a Lab, under the profile in force."""

    def __init__(self, lab: Lab) -> None:
        inventory, self.exo = lab.inventory, lab.profile.exo
        self.lab = lab
        self.nodes = {
            key: ExoNode(node, inventory.profile, self.exo, lab.addresses, inventory.bench.max_tokens)
            for key, node in lab.nodes.items()
        }
        self.entry = self.nodes[inventory.bench.node]
        """The node that is asked on behalf of the cluster."""

    @property
    def generation(self) -> Generation:
        """The module that knows this release. Raises StepError where none does."""
        return generation_of(self.exo.release)

    def each(self, work: Callable[[ExoNode], T], keys: Iterable[str] | None = None) -> dict[str, T]:
        """Do `work` on the nodes side by side; see Lab.each."""
        return self.lab.each(lambda node: work(self.nodes[node.key]), keys)

    def is_complete(self, topology: Topology | None) -> bool:
        """Tell whether a node's topology has every node and an edge from each to each other."""
        keys = self.nodes
        wanted = {(a, b) for a in keys for b in keys if a != b}
        return topology is not None and set(topology.nodes) == set(keys) and wanted <= topology.edges

    def complete_now(self) -> dict[str, bool]:
        """Return, for every node, whether its own topology is complete at this moment and its process lives."""
        return self.each(lambda exo: self.is_complete(exo.topology()) and exo.process() is not None)

    def stand(self, timeout_s: float, tell: Callable[[str, str], None] = console.doing) -> Cluster:
        """Bring the nodes together where their EXO does not by itself, and watch them until they stand.

        Raises StepError with what each node sees, or with what stirs, once `timeout_s` has passed since they joined.
        """
        links = self.generation.links(self.exo, self.lab.addresses())
        starts = {link.node: 1 for link in links}
        joined = form(self.nodes, links, starts, tell)
        begin = time.monotonic()  # what joining took is bounded there
        while True:
            try:
                cluster = self._complete_together(begin, timeout_s, tell)
            except StepError:
                if not set(self.gone()) & set(starts) or time.monotonic() - begin > timeout_s:
                    raise
                joined |= form(self.nodes, links, starts, tell)
                continue
            with unjournaled():  # a record need not hold three looks a second
                quiet = self.each(lambda exo: watch(exo, self.exo.stands_s, self.is_complete, steady=bool(links)))
            stirred = {key: seen.stirred for key, seen in quiet.items() if seen.stirred}
            if not stirred:
                return msgspec.structs.replace(
                    cluster,
                    stood_s=self.exo.stands_s,
                    joined_by=joined,
                    joins=starts,
                    elections={key: seen.elections for key, seen in quiet.items()} if links else {},
                    connections={key: len(seen.connections) for key, seen in quiet.items()},
                )
            if time.monotonic() - begin > timeout_s:
                raise one_each(
                    {key: f"does not stand: {words}" for key, words in stirred.items()},
                    f"all nodes complete together for {self.exo.stands_s:g} s, without an election, a crash or a new"
                    " connection",
                    "fab cleanup start; the EXO logs of the nodes say more",
                )
            for key, words in stirred.items():
                tell(key, f"does not stand yet: {words}")

    def restart(self) -> None:
        """Restart EXO on every node, see it serve there, and wait until the cluster stands. Raises StepError."""
        self.each(serve)
        self.stand(self.exo.cluster_timeout_s)

    def gone(self) -> list[str]:
        """Return the nodes on which our EXO does not run."""
        return [key for key, alive in self.each(lambda exo: exo.process() is not None).items() if not alive]

    def make_ready(self, pair: ModelPair) -> Prepared:
        """Download (and on 1.x place) the model of `pair`, again where it gets stuck. Raises StepError."""
        self._refuse_empty_share(pair.exo)
        placings = 1
        while True:
            try:
                return self._drive(self.generation.make_ready(pair, *self._whole()))
            except StuckPlacementError as error:
                ended = [key for key, pids in self.each(ExoNode.end_runners).items() if pids]
                if placings == PLACINGS:
                    raise
                on = f"; its runner on {', '.join(ended)} outlives it and is ended" if ended else ""
                console.note("exo", f"{error}{on}; it is placed again")
                placings += 1

    def unload(self, pair: ModelPair) -> Prepared:
        """Take the model of `pair` out of memory, where the generation can. Raises StepError."""
        return self._drive(self.generation.unload(pair, *self._whole()))

    def _refuse_empty_share(self, model: str) -> None:
        """See, by the memory that EXO itself tells, that every node is dealt a layer. Raises StepError."""
        topology, known = self.entry.topology(), models.known(self.generation.NAME, model)
        if topology and known and (error := empty_share(topology.memory_bytes, model, known.layers)):
            raise error

    def _whole(self) -> tuple[list[str], str, float]:
        return list(self.nodes), self.entry.key, self.exo.download_timeout_s

    def _drive(self, flow: Flow[T]) -> T:
        """Perform a flow; where it fails or takes its time, which of our processes is gone is asked first.

        Runners that wait for a node which has lost its peers wait in silence, so each node's topology is asked too.
        """
        looked_s = time.monotonic()
        apart: dict[str, float] = {}

        def tell(progress: str) -> None:
            nonlocal looked_s, apart
            console.doing("exo", progress)
            if time.monotonic() - looked_s > GONE_LOOK_S:
                self._refuse_gone()
                apart = self._refuse_apart(apart)
                looked_s = time.monotonic()

        try:
            return drive(lambda key, request: self.nodes[key].ask(request), flow, tell)
        except StepError:
            self._refuse_gone()
            raise

    def _refuse_gone(self) -> None:
        with unjournaled():
            gone = self.gone()
            causes = {key: likely_cause(self.nodes[key].log_tail()) for key in gone}
        if gone:
            raise one_each(
                {key: f"its EXO is not running any more: {cause}" for key, cause in causes.items()},
                "EXO alive on every node",
                "fab cleanup start download-model; what ended it stands at the end of its log and in `dmesg`",
            )

    def _refuse_apart(self, since: dict[str, float]) -> dict[str, float]:
        """Return which nodes do not see all others, and since when; raise StepError where that lasts."""
        if not self.generation.CAN_RELOAD:
            return {}  # 0.0.x's placing is its first chat, and `first_answer` watches that
        with unjournaled():
            apart = [key for key, complete in self.complete_now().items() if not complete]
        now = time.monotonic()
        since = {key: since.get(key, now) for key in apart}
        if lasting := [key for key, begun in since.items() if now - begun > APART_S]:
            raise one_each(
                dict.fromkeys(lasting, "its topology is not complete any more"),
                "nodes that see each other while a model is placed over them",
                "fab verify-cluster download-model",
            )
        return since

    def _complete_together(self, begin: float, timeout_s: float, tell: Callable[[str, str], None]) -> Cluster:
        """Poll every node's own topology, side by side, until all are complete; returns what each sees.

        It ends early where one of our processes is gone: none comes back by itself. Complete topologies are believed
        only while all our processes live: after a loss they stay stale for 9 to 12 s.
        Raises StepError with what each node sees once `timeout_s` has passed.
        """
        fallen = threading.Event()
        looks = self.each(lambda exo: self._watch(exo, begin, timeout_s, fallen, tell))
        views = {key: view for key, (view, _) in looks.items()}
        dead = self.gone()
        keys = list(self.nodes)
        complete = all(view.complete for view in views.values()) and not dead
        cluster = Cluster(views, keys, len(keys) * (len(keys) - 1), complete)
        if not complete:
            raise self._not_formed(cluster, dead, {key: unread for key, (_, unread) in looks.items()}, timeout_s)
        return cluster

    def _watch(
        self, exo: ExoNode, begin: float, timeout_s: float, fallen: threading.Event, tell: Callable[[str, str], None]
    ) -> tuple[NodeView, str]:
        """Return what a node sees, and why that could not be read at the last look, "" where it could."""
        seen_before = ""
        while True:
            topology, unread = None, ""
            try:
                topology = exo.read_topology()
            except StepError as error:
                unread = error.problem.found
            elapsed_s = time.monotonic() - begin
            complete = self.is_complete(topology)
            nodes = topology.nodes if topology else {}
            if exo.process() is None:
                fallen.set()
            if complete or elapsed_s > timeout_s or fallen.is_set():
                edges = len(topology.edges) if topology else 0
                formed_s = round(elapsed_s, 2) if complete else None
                return NodeView(exo.key, sorted(nodes), edges, complete, formed_s, nodes), unread
            if elapsed_s > 2 and (seen := unread or f"sees {', '.join(sorted(nodes)) or 'nothing'}") != seen_before:
                tell(exo.key, seen)
                seen_before = seen
            time.sleep(POLL_S)

    def _not_formed(self, cluster: Cluster, dead: list[str], unread: dict[str, str], timeout_s: float) -> StepError:
        bad = {key: view for key, view in cluster.nodes.items() if not view.complete or key in dead}
        sees = {
            key: "its EXO is not running"
            if key in dead
            else unread[key] or f"sees {', '.join(view.sees) or 'nothing'} ({view.edges} edges)"
            for key, view in bad.items()
        }
        first = self.nodes[next(iter(bad))]
        return one_each(
            sees,
            f"all of {', '.join(cluster.expected_nodes)} and {cluster.expected_edges} edges in every node's own"
            f" topology within {timeout_s:g} s",
            "fab start; are the peer ports open between the nodes? from another node:"
            f" nc -vz {first.address} {first.ports.peer}",
        )
