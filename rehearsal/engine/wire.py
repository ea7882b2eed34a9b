"""A small HTTP/1.1 server that leaves every header to its caller, because the recorded servers differ in them.

aiohttp, Go's net/http and hypercorn write other headers, in another order and another case. A thread serves each
connection; blocking code keeps the token times as exact as `time.sleep` is. Bodies with Content-Length only.
"""

from __future__ import annotations

import email.utils
import json
import socket
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

HEAD_CAP_BYTES = 65536
BODY_CAP_BYTES = 100 * 1024 * 1024
IDLE_S = 75.0


class Exchange:
    """One request and the way to answer it."""

    def __init__(self, sock: socket.socket, arrived_s: float, head: list[str], body: bytes) -> None:
        self._sock = sock
        self.arrived_s = arrived_s
        """time.monotonic() when its first byte came: answer times count from here."""
        self.method, target, self.version = head[0].split(" ", 2)
        path, _, query = target.partition("?")
        self.path = unquote(path)
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        pairs = (line.partition(":") for line in head[1:])
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self.body = body
        self.keep_open = self.version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"

    def json(self) -> Any:
        """Return the body as JSON; ValueError where it is none."""
        return json.loads(self.body)

    def send(self, start: str, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        """Send a whole answer; `start` is what follows `HTTP/1.1`, such as `200 OK`."""
        self._sock.sendall(_head(start, headers) + (b"" if self.method == "HEAD" else body))

    def start_chunks(self, start: str, headers: list[tuple[str, str]]) -> None:
        """Send the head of an answer in chunks."""
        self._sock.sendall(_head(start, headers))

    def chunk(self, data: bytes) -> None:
        """Send one chunk in one packet."""
        self._sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def end_chunks(self) -> None:
        """Send the last, empty chunk."""
        self._sock.sendall(b"0\r\n\r\n")

    def more(self, data: bytes) -> None:
        """Send more of a body that was announced with its length."""
        self._sock.sendall(data)

    def cut(self) -> None:
        """Drop the connection as a dying process would: what is missing never comes."""
        self.keep_open = False


Answer = Callable[[Exchange], None]


def date() -> str:
    """Return the HTTP date of now."""
    return email.utils.formatdate(usegmt=True)


def listen(address: str, port: int, backlog: int = 128) -> socket.socket:
    """Return a listening socket; OSError where the port is taken."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(backlog)
    return sock


def serve(listener: socket.socket, answer: Answer, broken: Answer) -> None:
    """Serve for ever; `broken` answers where `answer` raised."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_converse, args=(sock, answer, broken), daemon=True).start()


def serve_aside(listener: socket.socket, answer: Answer, broken: Answer) -> None:
    """Serve from a thread of its own."""
    threading.Thread(target=serve, args=(listener, answer, broken), daemon=True).start()


def _converse(sock: socket.socket, answer: Answer, broken: Answer) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(IDLE_S)
    rest = b""
    try:
        with sock:
            while True:
                exchange, rest = _read(sock, rest)
                if exchange is None:
                    return
                _answer(exchange, answer, broken)
                if not exchange.keep_open:
                    return
    except (OSError, ValueError):
        return  # the client went away, or does not speak HTTP


def _answer(exchange: Exchange, answer: Answer, broken: Answer) -> None:
    try:
        answer(exchange)
    except OSError:
        raise
    except Exception as error:
        if not isinstance(error, ValueError):
            traceback.print_exc()  # not the client's fault
        broken(exchange)


def _read(sock: socket.socket, rest: bytes) -> tuple[Exchange | None, bytes]:
    arrived_s = time.monotonic()
    while b"\r\n\r\n" not in rest:
        piece = sock.recv(65536)
        if not piece or len(rest) > HEAD_CAP_BYTES:
            return None, b""
        if not rest:
            arrived_s = time.monotonic()
        rest += piece
    head, _, rest = rest.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    size = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
    if any(line.lower().startswith("expect: 100-continue") for line in lines):
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if size > BODY_CAP_BYTES:
        return None, b""
    while len(rest) < size:
        piece = sock.recv(65536)
        if not piece:
            return None, b""
        rest += piece
    return Exchange(sock, arrived_s, lines, rest[:size]), rest[size:]


def _head(start: str, headers: list[tuple[str, str]]) -> bytes:
    return "".join([f"HTTP/1.1 {start}\r\n", *(f"{k}: {v}\r\n" for k, v in headers), "\r\n"]).encode("latin-1")
