"""Watch one node of a cluster for a time, and tell what stirs there; where nothing does on any, the cluster stands.

A topology seen complete once proves an instant: EXO 1.x under a wrong list of peers is complete for seconds between two
elections, and its API answers nothing while one goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from tasks.errors import StepError
from tasks.exo.interface import Topology
from tasks.exo.node import ExoNode

POLL_S = 0.3
PROMPT_S = 3.0
"""A POST that is refused takes milliseconds; one that meets an election waits for its end."""


class Quiet(msgspec.Struct, frozen=True):
    """What was seen on one node over the time."""

    stirred: str
    """What is not as it must be, "" where all is."""
    elections: int
    connections: frozenset[str]


def watch(exo: ExoNode, seconds: float, is_complete: Callable[[Topology | None], bool], *, steady: bool) -> Quiet:
    """Look at a node for `seconds`, or until something stirs; `steady`: its connections must stay the same."""
    since = exo.log_size()
    before = _look(exo, 0)
    deadline = time.monotonic() + seconds
    while True:
        now = _look(exo, since)
        stirred = "; ".join(before.problems) or _stirred(exo, before.connections, now, is_complete, steady)
        if stirred or time.monotonic() > deadline:
            return Quiet(stirred, before.elections + now.elections, now.connections)
        time.sleep(POLL_S)


class _Look(msgspec.Struct, frozen=True):
    """What one look saw."""

    problems: list[str]
    elections: int
    connections: frozenset[str]


def _look(exo: ExoNode, since: int) -> _Look:
    """Read the log beyond its first `since` bytes, and the kernel's connections."""
    log, generation = exo.log_since(since), exo.generation
    # 0.0.x heals from what it prints, or its topology tells
    problems = generation.log_problems(log) if generation.CAN_RELOAD else []
    return _Look(problems, generation.elections(log), exo.connections())


def _stirred(
    exo: ExoNode, before: frozenset[str], now: _Look, is_complete: Callable[[Topology | None], bool], steady: bool
) -> str:
    if exo.process() is None:
        return "its EXO is not running"
    if now.problems:
        return "; ".join(now.problems)
    try:
        if not is_complete(exo.read_topology()):
            return "its topology is not complete any more"
    except StepError as error:
        return error.problem.found
    if now.elections:
        return f"{now.elections} elections"
    if steady and now.connections != before:
        return f"its connections changed ({len(before)} before, {len(now.connections)} now)"
    probe, begin = exo.generation.probe_request(), time.monotonic()
    if probe is not None and (exo.ask(probe).status == 0 or time.monotonic() - begin > PROMPT_S):
        return f"a POST was not answered within {PROMPT_S:g} s"
    return ""
