"""A port for a server that a test starts."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody has now, below those that Linux lends."""
    while True:
        port = random.SystemRandom().randint(20000, 32000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((address, port))
            return port
