"""The watch over a measured run: a ring that dies in silence ends the run. Real processes, on loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.benchmark import ring as module
from tasks.benchmark.ring import RingWatch
from tasks.exo.cluster import ExoCluster
from tests.support.one_process import one_process, start

SERVER = """
import http.server, json, threading, time
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        node = {"model": "Linux Box", "chip": "CPU", "memory": 8192, "flops": {"fp32": 0, "fp16": 0, "int8": 0}}
        body = json.dumps({"nodes": {"srv1": node}, "peer_graph": {}, "active_node_id": "srv1"}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
while True: WORK
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExoCluster]:
    """Give a cluster of one local node in a home folder of its own; a ring hangs after 2 s without work."""
    monkeypatch.setattr(module, "HUNG_S", 2.0)
    monkeypatch.setattr(module, "LOOK_S", 0.3)
    with one_process(tmp_path) as found:
        yield found


def watched(cluster: ExoCluster, work: str, tmp_path: Path, for_s: float) -> tuple[str, int | None]:
    """Watch an EXO that does `work` for `for_s`; return what the watch says, how the script ended (None: it lives)."""
    exo = cluster.entry
    start(cluster, SERVER.replace("WORK", work))
    script = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "--only"])
    noted = tmp_path / "script.pid"
    noted.write_text(f"{script.pid}\n")
    try:
        with RingWatch(cluster, exo.node, str(noted)) as watch:
            deadline = time.monotonic() + for_s
            while time.monotonic() < deadline and script.poll() is None:
                time.sleep(0.1)
        return watch.words, script.poll()
    finally:
        script.kill()
        script.wait()


def test_a_ring_that_stands_still_ends_the_run(cluster: ExoCluster, tmp_path: Path) -> None:
    """A complete ring on which no node does anything is lost, and the script that waits for it is ended."""
    words, ended = watched(cluster, "time.sleep(1)", tmp_path, 30)
    assert words.startswith("srv1: did nothing for ")
    assert ended == -15


def test_a_ring_that_computes_is_let_be(cluster: ExoCluster, tmp_path: Path) -> None:
    """A node that computes is no ring that hangs, though no answer comes and no log grows."""
    assert watched(cluster, "pass", tmp_path, 5) == ("", None)
