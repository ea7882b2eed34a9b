"""How a cluster of the stand-in for EXO 0.0.15 fails, mostly in silence: islands, a lost peer, a cut stream."""

from __future__ import annotations

import json
import threading

import pytest

from rehearsal.layout import NODES, Layout
from rehearsal.traps import tell
from tests.support.exo_standin import QUICK, daemon_flags, log_of, seen_by, start, start_all, stop, to, wait_until
from tests.support.recorded import recorded
from tests.support.wire import documents

MODEL = "llama-3.2-3b"
CHAT = "POST /v1/chat/completions"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello"}]}


def discovery(nodes: Layout, flags: list[str], change: object) -> None:
    """Rewrite the discovery file that `flags` name."""
    file = nodes.root / "discovery.json"
    assert str(file) in flags
    file.write_text(change if isinstance(change, str) else json.dumps(change))


@pytest.mark.parametrize("wrong", ["missing file", "own id absent", "no device_capabilities", "not JSON", "other port"])
def test_bad_discovery_is_a_silent_island(nodes: Layout, wrong: str) -> None:
    """Whatever is wrong with discovery, the node serves alone and its log has no word about it."""
    flags = daemon_flags(nodes, "srv1")
    peers = json.loads((nodes.root / "discovery.json").read_text())["peers"]
    if wrong == "missing file":
        (nodes.root / "discovery.json").unlink()
    elif wrong == "own id absent":
        discovery(nodes, flags, {"peers": {key: peers[key] for key in ("srv2", "rog")}})
    elif wrong == "no device_capabilities":
        bare = {key: {k: v for k, v in peer.items() if k != "device_capabilities"} for key, peer in peers.items()}
        discovery(nodes, flags, {"peers": bare})
    elif wrong == "not JSON":
        discovery(nodes, flags, "{")
    else:
        discovery(nodes, flags, {"peers": {key: peer | {"port": 1} for key, peer in peers.items()}})
    tell(nodes, NODES, "exo", **QUICK)
    running = {"srv1": start(nodes, "srv1", flags)}
    try:
        wait_until(lambda: seen_by(nodes, "srv1") == ["srv1"])
        assert "rror" not in log_of(nodes, "srv1")
        assert "has_read=True, has_write=True" in log_of(nodes, "srv1")
    finally:
        assert stop(running) == {"srv1": 1}


@pytest.mark.parametrize(("listen", "seen"), [("5678", 1), ("same", 3)])
def test_udp_needs_equal_ports(nodes: Layout, listen: str, seen: int) -> None:
    """--broadcast-port alone makes three islands; with an equal --listen-port the three find each other."""
    port = str(nodes.ssh_port)  # a number that is free for UDP
    ports = ["--broadcast-port", port, "--listen-port", port if listen == "same" else listen]
    running = {
        key: start(nodes, key, ["--node-id", key, "--chatgpt-api-port", str(nodes.api_port), "--disable-tui", *ports])
        for key in NODES
    }
    try:
        for key in NODES:
            wait_until(lambda key=key: len(seen_by(nodes, key)) == seen)  # type: ignore[misc]
        if seen == 1:
            wait_until(lambda: len(documents(to(nodes, "srv1", "GET /v1/models").body)[0]["data"]) == 73)
            assert [len(seen_by(nodes, key)) for key in NODES] == [1, 1, 1]
    finally:
        stop(running)


def test_lost_peer_is_missed_late(nodes: Layout) -> None:
    """After SIGKILL of a peer a chat gives 500 in gRPC's words while the topology still has it; later two go on."""
    tell(nodes, NODES, "exo", **QUICK | {"stale_s": 2.5})
    running = start_all(nodes)
    try:
        assert to(nodes, "srv1", CHAT, HELLO).status == "HTTP/1.1 200 OK"
        running["srv2"].kill()
        running["srv2"].wait(5)
        said = to(nodes, "srv1", CHAT, HELLO)
        assert said.status == "HTTP/1.1 500 Internal Server Error"
        was = json.loads(recorded("exo-0.0.x", "chat_peer_dead.json"))["detail"]
        now = documents(said.body)[0]["detail"]
        assert now.partition("ipv4:")[0] == was.partition("ipv4:")[0]
        assert "srv2" in seen_by(nodes, "srv1")
        assert to(nodes, "srv1", "GET /healthcheck").body == '{"status": "ok"}'
        wait_until(lambda: seen_by(nodes, "srv1") == ["rog", "srv1"])
        assert to(nodes, "srv1", CHAT, HELLO).status == "HTTP/1.1 200 OK"
    finally:
        stop(running)


def test_peer_killed_in_mid_stream(nodes: Layout) -> None:
    """Silence until the response time-out, then a clean end: HTTP 200 and no finish_reason."""
    tell(nodes, NODES, "exo", **QUICK | {"tokens_per_s": 20.0})
    extra = ["--chatgpt-api-response-timeout", "1"]
    running = {key: start(nodes, key, [*daemon_flags(nodes, key, 60), *extra]) for key in NODES}
    try:
        for key in NODES:
            wait_until(lambda key=key: len(seen_by(nodes, key)) == 3)  # type: ignore[misc]
        killer = threading.Timer(0.8, running["rog"].kill)
        killer.start()
        said = to(nodes, "srv1", CHAT, HELLO | {"stream": True})
        killer.join()
        frames = documents(said.body)
        assert said.status == "HTTP/1.1 200 OK"
        assert 0 < len(frames) < 60
        assert {f["choices"][0]["finish_reason"] for f in frames} == {None}
    finally:
        stop(running)


def test_quit_ends_the_node(nodes: Layout) -> None:
    """Anybody may POST /quit: the node says so and ends."""
    alone = start(nodes, "srv1", daemon_flags(nodes, "srv1"))
    wait_until(lambda: "srv1" in seen_by(nodes, "srv1"))
    assert to(nodes, "srv1", "POST /quit").body == '{"detail": "Quit signal received"}'
    assert alone.wait(10) == 1


def test_failed_download_leaves_no_trace(nodes: Layout) -> None:
    """A download that fails is not told anywhere; only a chat shows that the model is not there."""
    tell(nodes, ("srv1",), "exo", **QUICK | {"download_fails_at": 0.5})
    running = {"srv1": start(nodes, "srv1", daemon_flags(nodes, "srv1"))}
    other = {"model": "llama-3.1-8b"}
    try:
        wait_until(lambda: "srv1" in seen_by(nodes, "srv1"))
        assert to(nodes, "srv1", "POST /download", other).status == "HTTP/1.1 200 OK"
        wait_until(lambda: to(nodes, "srv1", "GET /v1/download/progress").body == "{}")
        assert to(nodes, "srv1", CHAT, HELLO | other).status == "HTTP/1.1 500 Internal Server Error"
    finally:
        stop(running)
