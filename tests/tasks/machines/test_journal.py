"""What the running step's journal keeps of commands and requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from records.record import Command
from records.settings import NodeSpec
from tasks.machines.http import call
from tasks.machines.local import LocalNode
from tasks.machines.node import journal
from tasks.machines.wire import Request


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """Serve `answer` to every GET on a port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving.server_address[1]
        serving.shutdown()


def test_every_request_is_attributed_to_the_server_that_got_it() -> None:
    """Two servers polled in turn, with equal answers: the journal names each and counts what each was asked."""
    node, commands = LocalNode("bench", NodeSpec(host="localhost", local=True)), list[Command]()
    with ExitStack() as stack:
        ports = [stack.enter_context(server(b"{}")) for _ in range(2)]
        token = journal.set(commands)
        try:
            for _ in range(5):
                for port in ports:
                    call(node, "127.0.0.1", port, Request("GET", "/api/ps"))
        finally:
            journal.reset(token)
    assert [(c.command, c.times) for c in commands] == [(f"GET http://127.0.0.1:{port}/api/ps", 5) for port in ports]


def test_what_is_read_line_by_line_is_not_kept_twice() -> None:
    """A command whose lines go elsewhere as they come leaves no second copy of them in the journal."""
    node, commands, lines = LocalNode("bench", NodeSpec(host="localhost", local=True)), list[Command](), list[str]()
    token = journal.set(commands)
    try:
        node.run("echo one; echo two", on_line=lines.append)
    finally:
        journal.reset(token)
    assert lines == ["one", "two"]
    assert commands[0].stdout == ""
