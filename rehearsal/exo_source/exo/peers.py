"""How the nodes talk: one JSON line a question, one JSON line an answer, over TCP on --node-port.

The real one speaks gRPC there; what it says to people when a peer is gone is kept word for word.
"""

import datetime
import json
import select
import socket
import threading


class Unavailable(Exception):
    """A peer that cannot be reached; its text is that of the real one's AioRpcError."""


class Peer:
    """Another node, as discovery knows it."""

    def __init__(self, node_id: str, address: str, port: int, description: str, capabilities: dict) -> None:
        self.id, self.address, self.port = node_id, address, port
        self.description, self.capabilities = description, capabilities

    def open(self, timeout_s: float) -> "Line":
        """Connect; Unavailable where nobody answers."""
        try:
            return Line(socket.create_connection((self.address, self.port), timeout_s))
        except OSError as error:
            raise Unavailable(_unavailable(self.address, self.port, error)) from error

    def ask(self, question: dict, timeout_s: float = 1.0) -> dict:
        """Ask one thing; Unavailable where there is no answer in time."""
        line = self.open(timeout_s)
        try:
            line.say(question)
            return line.hear()
        except (OSError, ValueError) as error:
            raise Unavailable(_unavailable(self.address, self.port, error)) from error
        finally:
            line.close()


class Line:
    """A connection that carries JSON lines."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._rest = b""

    def say(self, message: dict) -> None:
        """Send a message."""
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict:
        """Wait for a message; ConnectionError where the other side is gone."""
        while b"\n" not in self._rest:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionResetError(104, "Connection reset by peer")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def gone(self) -> bool:
        """Tell whether the other side has ended, without waiting."""
        try:
            return bool(select.select([self.sock], [], [], 0)[0]) and self.sock.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def close(self) -> None:
        """End the connection."""
        self.sock.close()


def serve(listener: socket.socket, answer) -> None:
    """Answer every message of every peer with `answer(message)`; None sends nothing.

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


def _unavailable(address: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None) or 110
    text = {111: "Connection refused", 104: "Connection reset by peer"}.get(number, "Connection timed out")
    said = (
        "failed to connect to all addresses; last error: UNKNOWN: "
        f"ipv4:{address}:{port}: Failed to connect to remote host: connect: {text} ({number})"
    )
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    return (
        "<AioRpcError of RPC that terminated with:\n\tstatus = StatusCode.UNAVAILABLE\n"
        f'\tdetails = "{said}"\n\tdebug_error_string = "UNKNOWN:Error received from peer  '
        f'{{grpc_message:"{said}", grpc_status:14, created_time:"{now}"}}"\n>'
    )
