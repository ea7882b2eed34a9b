"""EXO started on one node and seen to serve: by its own process, and once more where a port was taken from it.

The plan's ports lie in the range that Linux lends to outgoing connections. An EXO that finds one taken lives on without
its API, at the first start as at every restart of a benchmark.
"""

from __future__ import annotations

import re
import time

import msgspec

from tasks import console
from tasks.errors import StepError
from tasks.exo.logtext import exo_said, last_word, likely_cause
from tasks.exo.node import ExoNode
from tasks.machines.daemon import Daemon, Launch

POLL_S = 0.3
_PORT_TAKEN = re.compile(r"address already in use|Failed to bind to address", re.IGNORECASE)
ENDS_WITHIN_POLLS = 5
"""A process that has written why it fails may take a second to end by itself."""


class Serving(msgspec.Struct, frozen=True):
    """An EXO that answers."""

    process: Daemon
    device: str
    """What its topology says it computes on."""
    ready_s: float


class PortTakenError(StepError):
    """EXO found a port taken that was free a moment before."""


def serve(exo: ExoNode, launch: Launch | None = None) -> Serving:
    """Stop EXO if it runs, start it, once more where a port was taken from it, and wait until it serves.

    Raises StepError, and then leaves nothing running.
    """
    launch = launch or exo.launch()
    try:
        return wait_until_it_serves(exo, exo.restart(launch))
    except PortTakenError as error:
        console.note(exo.key, f"{error}; is started once more")
        return wait_until_it_serves(exo, exo.restart(launch))


def wait_until_it_serves(exo: ExoNode, process: Daemon) -> Serving:
    """Wait until `process` itself answers on EXO's port. Raises StepError with the cause, and ends it then."""
    begin, next_note_s = time.monotonic(), 2.0
    while True:
        topology = exo.topology()
        elapsed_s = time.monotonic() - begin
        if topology and exo.serves(process):
            return Serving(process, topology.nodes.get(exo.key, ""), round(elapsed_s, 2))
        failed = exo.has_ended(process) or bool(exo.generation.log_problems(exo.log_tail()))
        if failed or elapsed_s > exo.exo.start_timeout_s:
            raise _no_start(exo, process, elapsed_s)
        if elapsed_s > next_note_s:
            console.note(exo.key, f"waits for EXO's API on port {exo.ports.api} ({elapsed_s:.0f} s)")
            next_note_s += 5
        time.sleep(POLL_S)


def _no_start(exo: ExoNode, process: Daemon, elapsed_s: float) -> StepError:
    for _ in range(ENDS_WITHIN_POLLS):
        if ended := exo.has_ended(process):
            break
        time.sleep(POLL_S)
    log = exo.log_tail()  # only now, with everything that it wrote at its end
    exo.stop()
    problems = "; ".join(exo.generation.log_problems(log)[:3])
    cause = problems or likely_cause(log)
    if _PORT_TAKEN.search(log):
        return PortTakenError(
            f"EXO {'ended by itself' if ended else 'does not serve'} after {elapsed_s:.0f} s: {cause}",
            f"ports {exo.ports.api} and {exo.ports.peer} for EXO alone; Linux lends those from 32768 on to any outgoing"
            " connection",
            f"set ports below 32768 in profiles.{exo.profile}.exo.ports, then: fab start",
            who=exo.key,
        )
    return StepError(
        f"EXO {'ended by itself' if ended else 'does not serve'} after {elapsed_s:.0f} s: {cause}",
        f"a process of ours that answers on port {exo.ports.api} within {exo.exo.start_timeout_s:g} s",
        f"read {exo.log_path} on {exo.node.spec.host} (EXO was stopped again), then: fab start-{exo.key}",
        who=exo.key,
        exo_said=exo_said(problems or last_word(log)[0]),
    )
