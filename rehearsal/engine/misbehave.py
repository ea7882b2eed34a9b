"""A server that has gone wrong: it answers whatever it is asked in one of these ways, where its settings say so."""

from __future__ import annotations

import time

from .wire import Exchange

HANGS_S = 3600.0
_JSON = [("Content-Type", "application/json")]
_STREAM = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
_GIGABYTE = 2**30


def misbehave(exchange: Exchange, how: str) -> None:
    """Answer `exchange` as a broken server does; `how` is one of the words below, ValueError for another."""
    exchange.keep_open = False
    match how:
        case "hangs":
            time.sleep(HANGS_S)
        case "500":
            exchange.send("500 Internal Server Error", [("Content-Length", "22")], b"something is not right")
        case "garbage":
            exchange.send("200 OK", [*_JSON, ("Content-Length", "256")], bytes(range(256)))
        case "truncated":
            exchange.send("200 OK", [*_JSON, ("Content-Length", "17")], b'{"nodes": {"a": [')
        case "endless":
            exchange.start_chunks("200 OK", _STREAM)
            while True:
                exchange.chunk(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
                time.sleep(0.02)
        case "gigabyte":
            exchange.send("200 OK", [*_JSON, ("Content-Length", str(_GIGABYTE))], b"[")
            for _ in range(_GIGABYTE // 2**16):
                exchange.more(b"0," * 2**15)
        case _:
            raise ValueError(f"misbehaves: {how}: is not known")
