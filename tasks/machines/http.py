"""Control-plane HTTP over a node's tunnel: topology, models, health. The only HTTP client in `tasks`.

Nothing is measured here. http.client is given the stream that `Node.dial` opens, so the same code asks a server behind
SSH and one on this machine, and no local port is needed. "No answer" is a Reply with status 0 and the reason,
because most callers poll.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from records.record import Command, capped
from tasks import console
from tasks.errors import StepError
from tasks.machines.node import Node, journal
from tasks.machines.wire import Ask, Flow, Reply, Request, Wait

T = TypeVar("T")
ANSWER_CAP_BYTES = 8_000_000
"""A control-plane answer longer than this is cut: a stream that never ends must not fill the memory."""


class Line:
    """The connection of one exchange, which another thread may end while the answer is awaited."""

    def __init__(self) -> None:
        self.sock: Any = None

    def hang_up(self) -> None:
        """End it; whoever waits for the answer is told at once that there is none."""
        if self.sock is not None:
            with contextlib.suppress(OSError, EOFError):
                self.sock.shutdown(socket.SHUT_RDWR)


def call(node: Node, host: str, port: int, request: Request, line: Line | None = None) -> Reply:
    """Send `request` from `node` to `host:port` and return the answer; status 0 where there is none. Never raises."""
    start = time.monotonic()
    reply = _exchange(node, host, port, request, line or Line())
    commands, asked, elapsed_s = journal.get(), asking(host, port, request), time.monotonic() - start
    console.ran(node.key, asked, reply.status or None, elapsed_s, capped(reply.text, 1500))
    if commands is not None and not _repeats(commands, node.key, asked, reply):
        commands.append(Command(node.key, asked, reply.status or None, elapsed_s, capped(reply.text, 1500)))
    return reply


def asking(host: str, port: int, request: Request) -> str:
    """Return a request as people read it: `POST http://host:port/path {"body": 1}`."""
    body = f" {json.dumps(request.body)}" if request.body is not None else ""
    return f"{request.method} http://{host}:{port}{request.path}{body}"


def call_url(node: Node, url: str, request: Request) -> Reply:
    """Send `request` from `node` to the server at `url` (`http://host:port`)."""
    parts = urlsplit(url)
    return call(node, parts.hostname or "", parts.port or 80, request)


def drive(ask: Callable[[str, Request], Reply], flow: Flow[T], tell: Callable[[str], None] = lambda _: None) -> T:
    """Perform `flow`: have `ask` send its requests (node key, request), wait when it says, return its finding.

    `tell` gets the progress of every wait. Raises StepError as the flow does.
    """
    reply: Reply | None = None
    while True:
        try:
            turn = flow.send(reply)
        except StopIteration as end:
            return cast("T", end.value)
        if isinstance(turn, Ask):
            reply = ask(turn.node, turn.request)
        else:
            reply = None
            _wait(turn, tell)


def _wait(turn: Wait, tell: Callable[[str], None]) -> None:
    if turn.progress:
        tell(turn.progress)
    time.sleep(turn.seconds)


def _exchange(node: Node, host: str, port: int, request: Request, line: Line) -> Reply:
    body = None if request.body is None else json.dumps(request.body).encode()
    headers = {"Accept": "*/*", "Connection": "close"} | ({"Content-Type": "application/json"} if body else {})
    connection = http.client.HTTPConnection(host, port, timeout=request.timeout_s)
    try:
        connection.sock = line.sock = cast("Any", node.dial(host, port, request.timeout_s))
        connection.request(request.method, request.path, body, headers)
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(ANSWER_CAP_BYTES).decode("utf-8", "replace"))
    except StepError as error:
        return Reply(0, error.problem.found)
    except TimeoutError:
        return Reply(0, f"no answer within {request.timeout_s:g} s")
    except (OSError, EOFError, http.client.HTTPException) as error:
        return Reply(0, f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def _repeats(commands: list[Command], node: str, asked: str, reply: Reply) -> bool:
    """Tell whether this is one more turn of a poll with the same answer: a record need not hold hundreds.

    The same words from two servers are two answers: server and request must be those of before.
    """
    last = next((c for c in reversed(commands[-8:]) if c.host == node and c.command == asked), None)
    return last is not None and (last.exit_code or 0) == reply.status and last.stdout == capped(reply.text, 1500)
