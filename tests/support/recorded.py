"""Recorded outputs as test data, and a driver that performs a Flow against them without clock or network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.machines.wire import Ask, Flow, Reply, Request
from tests import DATA

Server = Callable[[str, Request, float], Reply]
"""Node, request, seconds waited so far -> the reply."""


def recorded(topic: str, name: str) -> str:
    """Return the text of one recorded output."""
    return (DATA / topic / name).read_text(encoding="utf-8")


def ok(text: str) -> Reply:
    """Return an HTTP 200 reply."""
    return Reply(200, text)


class Performed:
    """A flow that has run to its end: what it asked, how long it waited, what it told meanwhile."""

    def __init__(self, flow: Flow[Any], server: Server, limit: int = 20_000) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.waited_s = 0.0
        self.progress: list[str] = []
        reply: Reply | None = None
        for _ in range(limit):
            try:
                turn = flow.send(reply)
            except StopIteration as end:
                self.finding: Any = end.value
                return
            if isinstance(turn, Ask):
                self.asked.append((turn.node, turn.request.method, turn.request.path))
                self.bodies.append(turn.request.body or {})
                reply = server(turn.node, turn.request, self.waited_s)
            else:
                self.waited_s += turn.seconds
                self.progress.append(turn.progress)
                reply = None
        raise AssertionError(f"no end after {limit} turns: {self.asked[-3:]}")
