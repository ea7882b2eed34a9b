"""JSON into typed structs, by threads that may begin to at the same time.

The first use of a type makes msgspec (0.22) describe it to itself, and two threads that do so at once crash the
interpreter. So a type is described under a lock; decoding goes on side by side.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_lock = threading.Lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(text: str | bytes, kind: type[T]) -> T:
    """Decode `text` as `kind`. Raises msgspec.DecodeError."""
    decoder = _decoders.get(kind)
    if decoder is None:
        with _lock:
            decoder = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    decoded: T = decoder.decode(text)
    return decoded


def convert(value: Any, kind: type[T]) -> T:
    """Make a `kind` of plain dicts and lists. Raises msgspec.ValidationError."""
    with _lock:
        return msgspec.convert(value, kind)
