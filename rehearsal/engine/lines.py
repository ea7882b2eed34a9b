"""How stand-in nodes talk among themselves: JSON lines over TCP. The real ones speak gRPC or libp2p there."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
Answers = Callable[[Message], Message | None]


class Line:
    """A connection that carries JSON lines."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._rest = b""

    def say(self, message: Message) -> None:
        """Send a message."""
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> Message:
        """Wait for a message; ConnectionError where the other end is gone."""
        while b"\n" not in self._rest:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionResetError(104, "Connection reset by peer")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def gone(self) -> bool:
        """Tell whether the other end has gone, without waiting."""
        try:
            return bool(select.select([self.sock], [], [], 0)[0]) and self.sock.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def close(self) -> None:
        """End the connection."""
        self.sock.close()


def dial(address: str, port: int, timeout_s: float) -> Line:
    """Connect; OSError where nobody answers."""
    return Line(socket.create_connection((address, port), timeout_s))


def ask(address: str, port: int, question: Message, timeout_s: float = 1.0) -> Message:
    """Ask one thing; OSError or ValueError where there is no answer in time."""
    line = dial(address, port, timeout_s)
    try:
        line.say(question)
        return line.hear()
    finally:
        line.close()


def serve(listener: socket.socket, answer: Answers) -> None:
    """Answer every message of everybody with `answer(message)`; None sends nothing.

    A connection that brought a prompt ends with a message of our own making, `{"ask": "end"}`.
    """

    def converse(sock: socket.socket) -> None:
        line, prompts = Line(sock), 0
        try:
            while True:
                message = line.hear()
                prompts += message["ask"] == "prompt"
                reply = answer(message)
                if reply is not None:
                    line.say(reply)
        except (OSError, ValueError, KeyError):
            line.close()
        finally:
            for _ in range(prompts):
                answer({"ask": "end"})

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=converse, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
