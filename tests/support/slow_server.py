"""A server as slow and as large as EXO 1.0.71's /state: it sends its head, waits, then its body in pieces."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.machines.http import call
from tasks.machines.node import Node
from tasks.machines.wire import Request

BODY = json.dumps({"runners": {f"runner-{n}": {"RunnerReady": {}} for n in range(10_000)}}).encode()
"""As large as the state of EXO 1.0.71: 400 kB."""
GET = Request("GET", "/state", timeout_s=20)


class Server:
    """Sends its head, waits, then its body in pieces; the first `cuts` answers end after 100 kB.

    One that `dribbles` sends a byte now and then, for ever.
    """

    def __init__(self, head: str, cuts: int = 0, address: str = "127.0.0.1", *, dribbles: bool = False) -> None:
        self.head, self.cuts, self.asked, self.dribbles = head, cuts, 0, dribbles
        self.listener = socket.create_server((address, 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                self.asked += 1
                connection.sendall(f"HTTP/1.1 200 OK\r\n{self.head}\r\n\r\n".encode())
                time.sleep(0.1)
                while self.dribbles:
                    connection.sendall(b" ")
                    time.sleep(0.05)
                body = BODY if self.asked > self.cuts else BODY[:100_000]
                for start in range(0, len(body), 25_000):
                    connection.sendall(body[start : start + 25_000])
                    time.sleep(0.01)


@contextmanager
def serving(head: str, cuts: int = 0, address: str = "127.0.0.1", *, dribbles: bool = False) -> Iterator[Server]:
    """Serve on a free loopback port."""
    server = Server(head, cuts, address, dribbles=dribbles)
    try:
        yield server
    finally:
        server.listener.close()


def all_answers_come_whole(node: Node, address: str = "127.0.0.1") -> None:
    """With "Connection: close" as EXO answers, with a length or in chunks or until the end, nothing is lost."""
    for head in (f"Content-Length: {len(BODY)}\r\nConnection: close", f"Content-Length: {len(BODY)}", "Server: old"):
        with serving(head, address=address) as server:
            replies = [call(node, address, server.port, GET) for _ in range(5)]
        assert [(reply.status, len(reply.text)) for reply in replies] == [(200, len(BODY))] * 5, head
