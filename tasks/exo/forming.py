"""Bring EXO 1.x's nodes into one cluster, one after the other, and start again a node that falls on its way in.

The first node of hosts.yaml is master and stays it. A node joins when its link to the first is opened; both ends then
see each other within half a minute. It changes its master at that, which ends about one in twelve (a race of EXO's own:
BrokenResourceError): such a node is started again and joins anew. Where EXO's own multicast connects two nodes, seen by
an election before any link was opened, there is no link.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from tasks.errors import StepError
from tasks.exo.interface import Link
from tasks.exo.links import is_open, open_link
from tasks.exo.logtext import likely_cause
from tasks.exo.node import ExoNode
from tasks.exo.serving import serve

STARTS = 4
"""How often a node is started before it is given up; three in a row fall about once in two thousand joins."""
JOINS_WITHIN_S = 60.0
MULTICAST_WITHIN_S = 15.0
POLL_S = 0.5

Tell = Callable[[str, str], None]


class Joined(msgspec.Struct, frozen=True):
    """How a node came in."""

    how: str
    starts: int


def form(nodes: dict[str, ExoNode], links: list[Link], tell: Tell) -> dict[str, Joined]:
    """Have every node of `links` join in their order, those that are in already left alone. Raises StepError."""
    joined: dict[str, Joined] = {}
    inside: list[str] = []
    for link in links:
        inside = [*(inside or [link.peer]), link.node]
        joined[link.node] = _Join(nodes, link, frozenset(inside), tell).perform()
    return joined


class _Join:
    """The way of one node into the cluster."""

    def __init__(self, nodes: dict[str, ExoNode], link: Link, inside: frozenset[str], tell: Tell) -> None:
        self.centre, self.joiner, self.link, self.inside, self.tell = (
            nodes[link.peer],
            nodes[link.node],
            link,
            inside,
            tell,
        )

    def perform(self) -> Joined:
        """Join; returns how. Raises StepError where the node does not get in, or the centre has ended."""
        peer = self.centre.key
        for starts in range(1, STARTS + 1):
            if self._in_within(0):
                return Joined(f"link to {peer}" if is_open(self.joiner) else "multicast", starts)
            if self._connected_by_itself() and self._in_within(MULTICAST_WITHIN_S):
                return Joined("multicast", starts)
            open_link(self.joiner, self.link)
            if self._in_within(JOINS_WITHIN_S):
                return Joined(f"link to {peer}", starts)
            if starts < STARTS:
                self.tell(self.joiner.key, f"did not join {peer} ({self._why()}): is started once more")
                self._start_again()
        raise StepError(
            f"did not join {peer} in {STARTS} starts: {self._why()}",
            f"{' and '.join(sorted(self.inside))} in the topology of {peer} and of {self.joiner.key}",
            f"is port {self.link.target} open from {self.joiner.node.spec.host}? nc -vz"
            f" {self.link.target.replace(':', ' ')}; read {self.joiner.log_path} and {self.joiner.link_folder}/exo.log"
            " there, then: fab cleanup start",
            who=self.joiner.key,
        )

    def _in_within(self, patience_s: float) -> bool:
        """Tell whether both ends see everybody who is in, for `patience_s`; no joiner that ended."""
        deadline = time.monotonic() + patience_s
        while True:
            views = [exo.topology() for exo in (self.centre, self.joiner)]
            if all(view is not None and self.inside <= set(view.nodes) for view in views):
                return True
            if self._has_ended(self.joiner) or time.monotonic() >= deadline:
                self._refuse_ended_centre()
                return False
            time.sleep(POLL_S)

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
            )

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
