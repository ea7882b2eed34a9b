"""Control-plane HTTP over a node's tunnel: topology, models, health. The only HTTP client in `tasks`.

Nothing is measured here. http.client is given the stream that `Node.dial` opens, so the same code asks a server behind
SSH and one on this machine, and no local port is needed. "No answer" is a Reply with status 0 and the reason,
because most callers poll. An answer that was cut is one of its own kind (`Reply.cut`), and what only reads is asked
again: half a state is not an empty one.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from records.record import Command, capped
from tasks.errors import StepError
from tasks.machines.node import Node, note
from tasks.machines.wire import Ask, Flow, Reply, Request, Wait

T = TypeVar("T")
ANSWER_CAP_BYTES = 8_000_000
"""A control-plane answer longer than this is cut: a stream that never ends must not fill the memory."""
TRIES = 3
"""How often a GET is asked while its answer comes cut."""


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
    line = line or Line()
    reply = _exchange(node, host, port, request, line)
    for _ in range(TRIES - 1):
        if reply.cut and request.method == "GET":
            reply = _exchange(node, host, port, request, line)
    asked, elapsed_s = asking(host, port, request), time.monotonic() - start
    note(Command(node.key, asked, reply.status or None, elapsed_s, capped(reply.text, 1500)))
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


class _Stream(io.RawIOBase):
    """What http.client reads and writes: a stream that has until its deadline for all of the answer.

    A time-out of the stream itself begins anew with every byte, and an answer that dribbles would never end.
    """

    def __init__(self, stream: Any, timeout_s: float) -> None:
        self._stream = stream
        self._deadline = time.monotonic() + timeout_s

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come; TimeoutError at the deadline."""
        self._stream.settimeout(max(0.001, self._deadline - time.monotonic()))
        data = self._stream.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Send all of a request."""
        self._stream.sendall(data)

    def makefile(self, *_: object) -> io.BufferedReader:
        """Return what http.client reads an answer from."""
        return io.BufferedReader(self)


class _Connection(http.client.HTTPConnection):
    """One exchange over a stream that is closed by who opened it.

    On "Connection: close" http.client closes its socket once it has the head, trusting that the file made from it
    lives on. What had not arrived yet would be lost.
    """

    def __init__(self, host: str, port: int, stream: Any, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self.sock = _Stream(stream, timeout_s)

    def close(self) -> None:
        """Leave the stream open."""


def _exchange(node: Node, host: str, port: int, request: Request, line: Line) -> Reply:
    body = None if request.body is None else json.dumps(request.body).encode()
    headers = {"Accept": "*/*", "Connection": "close"} | ({"Content-Type": "application/json"} if body else {})
    try:
        with closing(node.dial(host, port, request.timeout_s)) as stream:
            line.sock = stream
            connection = _Connection(host, port, stream, request.timeout_s)
            connection.request(request.method, request.path, body, headers)
            return _read(connection.getresponse(), request.timeout_s)
    except StepError as error:
        return Reply(0, error.problem.found)
    except TimeoutError:
        return Reply(0, f"no answer within {request.timeout_s:g} s")
    except (OSError, EOFError, http.client.HTTPException) as error:
        return Reply(0, f"{type(error).__name__}: {error}")


def _read(answer: http.client.HTTPResponse, timeout_s: float) -> Reply:
    """Return the whole answer, or one that is `cut` with how much of it came."""
    promised, got, why = answer.length, bytearray(), ""
    try:
        while len(got) < ANSWER_CAP_BYTES and (piece := answer.read1(65536)):
            got += piece
    except TimeoutError:
        why = f" and no end within {timeout_s:g} s"
    except (OSError, EOFError, http.client.HTTPException) as error:
        why = f", then {type(error).__name__}"
    short = promised is not None and len(got) < min(promised, ANSWER_CAP_BYTES)
    if why or short:
        of = f" of {promised}" if promised is not None else ""
        return Reply(0, f"the answer was cut: {len(got)}{of} bytes came{why}", cut=True)
    return Reply(answer.status, got.decode("utf-8", "replace"))
