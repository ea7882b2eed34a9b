"""Bring EXO 1.x's nodes into one cluster, one after the other, and start again a node that falls on its way in.

The first node of hosts.yaml is master and stays it. A node joins when its link to the first is opened; both ends then
see each other within half a minute. It changes its master at that, which ends about one in twelve (a race of EXO's own:
BrokenResourceError): such a node is started again and joins anew, also where it falls later, at a link that came anew.
Where EXO's own multicast connects two nodes, seen by an election before any link was opened, there is no link.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from tasks.errors import StepError
from tasks.exo.interface import Link
from tasks.exo.links import is_open, open_link
from tasks.exo.logtext import exo_said, likely_cause
from tasks.exo.node import ExoNode
from tasks.exo.serving import serve

STARTS = 4
"""How often a node is started before it is given up; three in a row fall about once in two thousand joins."""
JOINS_WITHIN_S = 60.0
MULTICAST_WITHIN_S = 15.0
POLL_S = 0.5

Tell = Callable[[str, str], None]


def form(nodes: dict[str, ExoNode], links: list[Link], starts: dict[str, int], tell: Tell) -> dict[str, str]:
    """Have every node of `links` join in their order, those that are in already left alone; returns how each did.

    `starts` counts how often each node was started so far. Raises StepError.
    """
    inside = [links[0].peer, *(link.node for link in links)] if links else []
    joins = [_Join(nodes, link, inside[: place + 2], starts, tell) for place, link in enumerate(links)]
    while not all(join.perform() for join in joins):
        pass  # one that was in has fallen: from the first again
    return {join.joiner.key: join.how for join in joins}


class _Join:
    """The way of one node into the cluster."""

    def __init__(
        self, nodes: dict[str, ExoNode], link: Link, inside: list[str], starts: dict[str, int], tell: Tell
    ) -> None:
        self.centre, self.joiner, self.link, self.tell = nodes[link.peer], nodes[link.node], link, tell
        self.inside = frozenset(inside)
        """Who is in once it has joined."""
        self.before = [nodes[key] for key in inside[1:-1]]
        """Who joined before it."""
        self.starts = starts
        self.how = ""

    def perform(self) -> bool:
        """Join; False where one that joined before has fallen meanwhile.

        Raises StepError where the node does not get in, or the centre has ended.
        """
        peer = self.centre.key
        while not self._joins():
            if self._fallen_before():
                return False
            if self.starts[self.joiner.key] >= STARTS:
                raise self._stays_out(peer)
            self.tell(self.joiner.key, f"did not join {peer} ({self._why()}): is started once more")
            self._start_again()
            self.starts[self.joiner.key] += 1
        self.how = f"link to {peer}" if is_open(self.joiner) else "multicast"
        return True

    def _joins(self) -> bool:
        if self._in_within(0) or (self._connected_by_itself() and self._in_within(MULTICAST_WITHIN_S)):
            return True
        if self._fallen_before() or self._has_ended(self.joiner):
            return False
        open_link(self.joiner, self.link)
        return self._in_within(JOINS_WITHIN_S)

    def _stays_out(self, peer: str) -> StepError:
        return StepError(
            f"did not join {peer} in {STARTS} starts: {self._why()}",
            f"{' and '.join(sorted(self.inside))} in the topology of {peer} and of {self.joiner.key}",
            f"is port {self.link.target} open from {self.joiner.node.spec.host}? nc -vz"
            f" {self.link.target.replace(':', ' ')}; read {self.joiner.log_path} and {self.joiner.link_folder}/exo.log"
            " there, then: fab cleanup start",
            who=self.joiner.key,
            exo_said=self._said(self.joiner),
        )

    def _in_within(self, patience_s: float) -> bool:
        """Tell whether both ends see everybody who is in, for `patience_s`; no joiner that ended."""
        deadline = time.monotonic() + patience_s
        while True:
            views = [exo.topology() for exo in (self.centre, self.joiner)]
            if all(view is not None and self.inside <= set(view.nodes) for view in views):
                return True
            if self._has_ended(self.joiner) or self._fallen_before() or time.monotonic() >= deadline:
                self._refuse_ended_centre()
                return False
            time.sleep(POLL_S)

    def _fallen_before(self) -> bool:
        return any(exo.process() is None for exo in self.before)

    def _connected_by_itself(self) -> bool:
        """Tell whether the joiner has held an election before any link was opened."""
        return not is_open(self.joiner) and self.joiner.generation.elections(self.joiner.log_whole()) > 0

    def _has_ended(self, exo: ExoNode) -> bool:
        return exo.process() is None or bool(exo.generation.log_problems(exo.log_whole()))

    def _refuse_ended_centre(self) -> None:
        if self._has_ended(self.centre):
            raise StepError(
                f"EXO ended while the others joined it: {self._why(self.centre)}",
                "a master that lives",
                f"read {self.centre.log_path}, then: fab start",
                who=self.centre.key,
                exo_said=self._said(self.centre),
            )

    def _said(self, exo: ExoNode) -> str:
        problems = exo.generation.log_problems(exo.log_whole())
        return exo_said(problems[-1]) if problems else ""

    def _why(self, exo: ExoNode | None = None) -> str:
        exo = exo or self.joiner
        log = exo.log_whole()
        if problems := exo.generation.log_problems(log):
            return problems[-1]
        return likely_cause(log) if exo.process() is None else "its process lives and it stays alone"

    def _start_again(self) -> None:
        """Start the joiner again and wait until it serves; a start that fails is seen by the next look."""
        with suppress(StepError):
            serve(self.joiner)
