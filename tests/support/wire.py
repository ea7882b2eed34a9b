"""Raw HTTP for comparing a stand-in with a recording: what was sent, and its shape without its values."""

from __future__ import annotations

import json
import socket
from typing import Any

import msgspec

from tests import DATA

VARIES = {"date", "content-length"}


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer: its status line, its headers in order, its body with any chunks joined."""

    status: str
    headers: list[tuple[str, str]]
    body: str

    def frame(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the status line and the headers, without the values that differ each time."""
        return self.status, [(k, "" if k.lower() in VARIES else v) for k, v in self.headers]


def ask(address: str, port: int, request: str, body: str = "", timeout_s: float = 20.0) -> Answer:
    """Send `GET /path` or `POST /path` and return the whole answer."""
    head = f"{request} HTTP/1.1\r\nHost: {address}:{port}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    if body:
        head += f"Content-Length: {len(body.encode())}\r\n"
    with socket.create_connection((address, port), timeout_s) as sock:
        sock.sendall(f"{head}\r\n{body}".encode())
        raw = b""
        while piece := sock.recv(65536):
            raw += piece
    top, _, rest = raw.partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    chunked = ("transfer-encoding", "chunked") in [(k.lower(), v) for k, v in headers]
    return Answer(status, headers, (_joined(rest) if chunked else rest).decode())


def recording(topic: str, name: str) -> Answer:
    """Return a recorded answer (what `curl -i` printed, with plain line ends)."""
    text = (DATA / topic / f"{name}.txt").read_text(encoding="utf-8")
    top, _, body = text.partition("\n\n")
    status, *lines = top.strip("\n").split("\n")
    return Answer(status, [(k, v) for k, _, v in (line.partition(": ") for line in lines)], body)


def documents(body: str) -> list[Any]:
    """Return the JSON documents of a body: one, one a line (NDJSON), or one an event (SSE)."""
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.strip() and not line.startswith(":")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def shape(value: Any) -> Any:
    """Return the keys in their order and the types, all the way down; of a list the shape of its first element."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _joined(rest: bytes) -> bytes:
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        body, rest = body + rest[:count], rest[count + 2 :]
    return body
