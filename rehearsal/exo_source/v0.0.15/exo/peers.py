"""The other nodes of the cluster, and what this one says to people when one is gone: gRPC's words, as the real one."""

import datetime

from .engine.lines import Line, ask, dial


class UnavailableError(Exception):
    """A peer that cannot be reached; its text is that of the real one's AioRpcError."""


class Peer:
    """Another node, as discovery knows it."""

    def __init__(self, node_id: str, address: str, port: int, description: str, capabilities: dict) -> None:
        self.id, self.address, self.port = node_id, address, port
        self.description, self.capabilities = description, capabilities

    def open(self, timeout_s: float) -> Line:
        """Connect; UnavailableError where nobody answers."""
        try:
            return dial(self.address, self.port, timeout_s)
        except OSError as error:
            raise UnavailableError(_unavailable(self.address, self.port, error)) from error

    def ask(self, question: dict, timeout_s: float = 1.0) -> dict:
        """Ask one thing; UnavailableError where there is no answer in time."""
        try:
            return ask(self.address, self.port, question, timeout_s)
        except (OSError, ValueError) as error:
            raise UnavailableError(_unavailable(self.address, self.port, error)) from error


def _unavailable(address: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None) or 110
    text = {111: "Connection refused", 104: "Connection reset by peer"}.get(number, "Connection timed out")
    said = (
        "failed to connect to all addresses; last error: UNKNOWN: "
        f"ipv4:{address}:{port}: Failed to connect to remote host: connect: {text} ({number})"
    )
    now = datetime.datetime.now(datetime.UTC).isoformat()
    return (
        "<AioRpcError of RPC that terminated with:\n\tstatus = StatusCode.UNAVAILABLE\n"
        f'\tdetails = "{said}"\n\tdebug_error_string = "UNKNOWN:Error received from peer  '
        f'{{grpc_message:"{said}", grpc_status:14, created_time:"{now}"}}"\n>'
    )
