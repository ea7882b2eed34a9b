"""Which TCP ports of the other nodes a node reaches: each listens on its own for a moment and tries theirs.

EXO 1.x's ring takes a random port on every node, which a firewall shows only when the first model is placed; and before
EXO runs nothing listens on its own two ports either. Needs all nodes to be asked at once.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

import msgspec

from tasks.decode import decode
from tasks.errors import StepError

SETTLE_S = 2.0
"""Until every node listens; they are asked side by side over links that are open."""

_SCRIPT = r"""
import json, socket, sys, time
own, ports, others = json.loads(sys.argv[1])
kept = []
for port in ports:
    try:
        kept.append(socket.create_server((own, port)))
    except OSError:
        pass  # EXO itself may hold it, and then answers
begin, closed = time.monotonic(), []
time.sleep(float(sys.argv[2]))
for key, address, theirs in others:
    for port in theirs:
        try:
            socket.create_connection((address, port), 2).close()
        except OSError as error:
            closed.append([key, port, error.strerror or str(error)])
print(json.dumps(closed), flush=True)
time.sleep(max(0, float(sys.argv[2]) * 2 - (time.monotonic() - begin)))
"""


def command(python: str, node: str, addresses: Mapping[str, str], ports: Mapping[str, tuple[int, ...]]) -> str:
    """Return what `node` runs, at the same time as all others, to try the `ports` of each (node -> ports)."""
    others = [[key, address, ports[key]] for key, address in addresses.items() if key != node]
    return shlex.join([python, "-c", _SCRIPT, json.dumps([addresses[node], ports[node], others]), f"{SETTLE_S:g}"])


def read(printed: str, node: str) -> list[tuple[str, int, str]]:
    """Return what it printed: node, port and why it is not reached. Raises StepError where that is nothing readable."""
    try:
        return decode(printed, list[tuple[str, int, str]])
    except msgspec.DecodeError:
        raise StepError(
            "could not try the ports of the others", "its Python's answer", "type it again", who=node
        ) from None
