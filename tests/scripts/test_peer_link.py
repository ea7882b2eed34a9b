"""The link program with real sockets: one connection at a time, nothing listens meanwhile, another after its end."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tasks.exo.links import SCRIPT
from tests.support.ports import free_port


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    """Listen as the peer's EXO does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


class Link:
    """The program, running."""

    def __init__(self, peer: socket.socket, *urls: str) -> None:
        self.port = free_port()
        target = f"127.0.0.1:{peer.getsockname()[1]}"
        argv = [sys.executable, str(SCRIPT), str(self.port), target, *urls]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def dial(self) -> socket.socket:
        """Connect as EXO does, again and again until somebody listens."""
        deadline = time.monotonic() + 10
        while True:
            try:
                sock = socket.create_connection(("127.0.0.1", self.port), 5)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            return sock

    def refuses(self) -> bool:
        """Tell whether nothing listens."""
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) != 0


@pytest.fixture
def link(peer: socket.socket) -> Iterator[Link]:
    """Run a link that waits for nothing."""
    made = Link(peer)
    yield made
    made.process.kill()
    made.process.communicate()


def test_one_connection_is_carried_and_no_other_is_taken(link: Link, peer: socket.socket) -> None:
    """Both ways, and EXO's next dials are refused at once: they would start an election."""
    with link.dial() as here:
        there, _ = peer.accept()
        here.sendall(b"there")
        there.sendall(b"back")
        assert (there.recv(100), here.recv(100)) == (b"there", b"back")
        assert link.refuses()
        there.close()


@pytest.mark.parametrize("who", ["here", "there"])
def test_when_either_end_leaves_the_other_hears_and_another_is_taken(link: Link, peer: socket.socket, who: str) -> None:
    """A lost link is replaced, whichever side lost it, and its log says which."""
    for _ in range(2):
        here = link.dial()
        there, _ = peer.accept()
        leaves, stays = (here, there) if who == "here" else (there, here)
        leaves.close()
        stays.settimeout(5)
        assert stays.recv(100) == b""
        stays.close()
    assert link.process.stdout is not None
    said = next(line for line in link.process.stdout if "has ended" in line)
    assert said.endswith({"here": "EXO here closed it\n", "there": "the peer closed it\n"}[who])


def test_a_peer_that_is_not_there_ends_the_dial_and_not_the_link(link: Link, peer: socket.socket) -> None:
    """EXO's dial ends, and the next one is taken."""
    peer.close()
    for _ in range(2):
        with link.dial() as here:
            here.settimeout(5)
            assert here.recv(100) == b""


class Health(http.server.BaseHTTPRequestHandler):
    """Answers 503 until it is told that it serves."""

    serves = threading.Event()

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200 if self.serves.is_set() else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_nothing_listens_before_both_ends_answer(peer: socket.socket) -> None:
    """Opened before the APIs, one in two starts stood."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Link(peer, f"http://127.0.0.1:{server.server_port}/node_id")
        time.sleep(0.5)
        assert made.refuses()
        Health.serves.set()
        made.dial().close()
        made.process.kill()
        made.process.communicate()
        server.shutdown()
