"""Ports for servers that a test starts: one that nobody has, and one that Linux has lent to an outgoing connection."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from pathlib import Path

ADDRESS = "127.0.0.1"


def free_port(address: str = ADDRESS) -> int:
    """Return a port that nobody has now, below those that Linux lends."""
    while True:
        port = random.SystemRandom().randint(20000, 32000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((address, port))
            return port


def borrowed(port: int) -> tuple[socket.socket, socket.socket]:
    """Return an outgoing connection that has `port` as its own, as Linux lends it, and its other end."""
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        listener.listen()
        outgoing = socket.socket()
        outgoing.bind((ADDRESS, port))
        outgoing.connect(listener.getsockname())
        return outgoing, listener.accept()[0]


def lent_until(seen: Path, port: int) -> socket.socket:
    """Have an outgoing connection take `port` and give it back once the file `seen` is there; return its other end."""
    outgoing, other = borrowed(port)

    def give_back() -> None:
        while not seen.exists():
            time.sleep(0.02)
        outgoing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        outgoing.close()

    threading.Thread(target=give_back, daemon=True).start()
    return other
