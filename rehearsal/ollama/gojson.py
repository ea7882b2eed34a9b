"""JSON and times the way Go writes them."""

from __future__ import annotations

import datetime
import json
import time
from typing import Any


def encode(value: Any) -> bytes:
    """Return compact JSON with <, > and & escaped, as encoding/json does."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escaped)
    return text.encode()


def stamp(at_s: float | None = None) -> str:
    """Return a time as RFC 3339 with nanoseconds and without trailing zeros."""
    moment_ns = time.time_ns() if at_s is None else int(at_s * 1e9)
    whole = datetime.datetime.fromtimestamp(moment_ns // 10**9, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment_ns % 10**9:09d}".rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def syntax_error(body: bytes) -> str:
    """Return what Go's decoder says of a body that is no JSON object; the common cases word for word."""
    text = body.decode("utf-8", "replace").strip()
    if not text:
        return "missing request body"
    if text[0] == "{" and len(text) > 1 and text[1] not in '"}':
        return f"invalid character '{text[1]}' looking for beginning of object key string"
    if text[0] not in '{["0123456789tfn-':
        return f"invalid character '{text[0]}' looking for beginning of value"
    return "unexpected EOF"
