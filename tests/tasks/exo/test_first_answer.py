"""The first answer: a ring that hangs is told from a slow one by what its processes do. Real ones, on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import StepError
from tasks.exo import first_answer as module
from tasks.exo.cluster import ExoCluster
from tasks.exo.first_answer import first_answer
from tests.support.one_process import PAIR, one_process, start

SERVER = """
import http.server, json, sys, time
class Chat(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = 200, {"model": "llama-3.2-3b", "choices": [{"message": {"content": "Hello"}}]}
        WORK
        body = json.dumps(body).encode()
        self.send_response(status); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Chat).serve_forever()
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExoCluster]:
    """Give a cluster of one local node in a home folder of its own; a ring hangs after 2 s without work."""
    monkeypatch.setattr(module, "HUNG_S", 2.0)
    monkeypatch.setattr(module, "LOOK_S", 0.3)
    with one_process(tmp_path) as found:
        yield found


def ask(cluster: ExoCluster, work: str) -> float:
    """Start a server that does `work` before it answers, and wait for its first answer; return the seconds."""
    start(cluster, SERVER.replace("WORK", work))
    return first_answer(cluster, PAIR, 30, {"srv1": cluster.entry.log_size()})[1]


def test_a_slow_ring_is_waited_for(cluster: ExoCluster) -> None:
    """A node that computes for longer than a ring may stand still is waited for, though it writes nothing."""
    assert ask(cluster, "end = time.time() + 4\n        while time.time() < end: pass") > 4


def test_a_hung_ring_is_told_soon(cluster: ExoCluster) -> None:
    """A node that neither computes nor reads nor writes hangs: said long before the request's own time-out."""
    begin = time.monotonic()
    with pytest.raises(StepError, match=r"srv1: did nothing for \d+ s") as caught:
        ask(cluster, "time.sleep(25)")
    assert time.monotonic() - begin < 15
    assert "hangs" in caught.value.problem.needed


def test_whoever_gives_up_hangs_up(cluster: ExoCluster, tmp_path: Path) -> None:
    """The connection of a chat that nobody awaits any more is closed at once, and EXO can see that it is."""
    closed = tmp_path / "closed"
    work = f"print('half -inf'); open({str(closed)!r}, 'w').write(str(self.connection.recv(1)))"
    with pytest.raises(StepError, match="half -inf"):
        ask(cluster, work)
    deadline = time.monotonic() + 10
    while not closed.exists() or not closed.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert closed.read_text() == "b''"


def test_a_line_of_the_log_ends_the_wait(cluster: ExoCluster) -> None:
    """A line against the pair is told within a look, while the chat still hangs."""
    begin = time.monotonic()
    with pytest.raises(StepError, match="underlying buffer is not writable"):
        ask(cluster, "print('TypeError: underlying buffer is not writable'); time.sleep(25)")
    assert time.monotonic() - begin < 10


def test_an_exo_that_ends_is_told(cluster: ExoCluster) -> None:
    """A process that dies while it owes the answer is named with the last thing it said."""
    with pytest.raises(StepError, match="EXO ended while it owed the first answer: its log says: fatal: no memory"):
        ask(cluster, "print('fatal: no memory'); import os; os._exit(3)")


def test_a_cause_that_stands_only_in_the_reply(cluster: ExoCluster) -> None:
    """HTTP 500 whose log holds nothing is quoted, with the cause and what to set."""
    body = "status, body = 500, {'detail': 'Error processing prompt (see logs with DEBUG>=2): half -inf'}"
    with pytest.raises(StepError, match=r"HTTP 500: .*half -inf") as caught:
        ask(cluster, body)
    assert "AMD_LLVM" in caught.value.problem.do
