"""Servers that are no servers: each ends in a failed sample within the time-out, never in a crash or a hang."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from scripts import benchmark_exo_vs_ollama as script

OK = b"HTTP/1.1 200 OK\r\n"
Act = Callable[[socket.socket], None]


@contextmanager
def acting(act: Act) -> Iterator[str]:
    """Accept one connection, take its request, do `act` to it and close; yield the URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):  # the client gives up, which is what these tests are about
            connection.recv(65536)
            act(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(timeout=30)
    listener.close()


def reset(connection: socket.socket) -> None:
    """Close with a reset instead of an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drip(connection: socket.socket) -> None:
    """Send a comment every few milliseconds, for ever."""
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n")
    while True:
        connection.sendall(b"e\r\n: keep-alive\n\n\r\n")
        time.sleep(0.005)


def flood(connection: socket.socket) -> None:
    """Send for ever, as fast as it can."""
    connection.sendall(OK + b"\r\n")
    while True:
        connection.sendall(b"x" * 1_000_000)


def stop_after_finish(connection: socket.socket) -> None:
    """Finish the answer, but neither end it nor close."""
    _, frames, end = script.metronome_frames("/v1/chat/completions", "m", 1, 3)
    connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(frames) + end[:-5])
    connection.recv(1)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda _: None, "the server closed the connection without an HTTP answer"),
        (reset, "the connection broke: Connection reset by peer"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"), "without an HTTP answer"),
        (lambda connection: connection.sendall(OK[:9]), "without an HTTP answer"),
        (lambda connection: connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "in the middle"),
        (lambda connection: connection.sendall(OK + b"Content-Length: 999999999999999\r\n\r\n{"), "not JSON"),
        (lambda _: time.sleep(1.5), "no complete answer within 1 s"),
        (drip, "no complete answer within 1 s"),
        (flood, "MiB"),
        (stop_after_finish, "no complete answer within 1 s"),
    ],
    ids=["closes", "resets", "speaks-ssh", "half-a-head", "no-chunk-size", "huge-length", "silent", "drips", "floods",
         "never-ends"],
)  # fmt: skip
def test_hostile_server_is_a_failed_sample(act: Act, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is named, and it does not take longer than the time-out allows."""
    monkeypatch.setattr(script, "ANSWER_LIMIT_BYTES", 4 * 1024 * 1024)
    # Only who never ends an answer is waited for that shortly: on a busy machine a second is little for the others.
    settings = script.Settings(1, 1, 0, 8, 1, 1.0 if "within 1 s" in error else 60.0, "", (), False)
    begin = time.monotonic()
    with acting(act) as url:
        sample = script.ask(script.Arm("a", "exo", url, "m", "keep"), settings, 1, 0, False)
        assert time.monotonic() - begin < 30
    assert error in (sample["error"] or "")
    assert script.rate(sample) is None


def test_whole_answer_on_a_connection_left_open_does_not_wait() -> None:
    """A server that ignores `Connection: close` costs nothing: the framing says when the answer is whole."""
    head, frames, end = script.metronome_frames("/api/generate", "m", 1, 3)

    def keep_open(connection: socket.socket) -> None:
        connection.sendall(head + b"".join(frames) + end)
        connection.recv(1)

    settings = script.Settings(1, 1, 0, 8, 1, 60.0, "", (), False)
    begin = time.monotonic()
    with acting(keep_open) as url:
        sample = script.ask(script.Arm("a", "ollama", url, "m", "keep"), settings, 1, 0, False)
    assert sample["error"] is None
    assert time.monotonic() - begin < 30
