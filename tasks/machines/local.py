"""The machine that `fab` is typed on, as a Node: a local shell, a local disk, plain sockets."""

from __future__ import annotations

import codecs
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from records.files import write_whole
from tasks.errors import StepError
from tasks.machines.node import CommandResult, Node, cannot_write
from tasks.machines.shell import Between, Bounded, bare
from tasks.machines.wire import shortened


class LocalNode(Node):
    """The machine that `fab` is typed on, through a local shell."""

    def _execute(
        self, bounded: Bounded, command: str, timeout_s: float, on_line: Callable[[str], None] | None
    ) -> CommandResult:
        self.prove()
        start = time.monotonic()
        with subprocess.Popen(
            ["/bin/sh", "-c", bounded.text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_home(),
        ) as process:
            out, err = Between(bounded.token, on_line), Between(bounded.token)
            pumps = [
                threading.Thread(target=_pump, args=(process, process.stdout, out), daemon=True),
                threading.Thread(target=_pump, args=(process, process.stderr, err), daemon=True),
            ]
            for pump in pumps:
                pump.start()
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise StepError(
                    f"no end after {timeout_s:g} s: {shortened(command, 120)}",
                    "an answer",
                    "look at the node",
                    who=self.key,
                ) from None
            for pump in pumps:
                pump.join(5)
        if out.refused:
            raise out.refused
        return self._result(command, start, out, err, code)

    def prove(self) -> None:
        """Prove that this machine is the node that hosts.yaml calls local. Raises StepError."""
        if self.remembered.get("proven"):
            return
        spec, here = self.spec, socket.gethostname()
        if not is_this_machine(spec.host, spec.address, here):
            named = f"{spec.host} ({spec.address})" if spec.address else spec.host
            raise StepError(
                f"hosts.yaml calls it local, and this machine is '{here}' and not {named}",
                f"`local: true` only where `fab` is typed on {spec.host} itself",
                f"type it on {spec.host}, or take `local: true` out of nodes.{self.key} in hosts.yaml",
                who=self.key,
            )
        self.remembered["proven"] = True

    def put(self, data: bytes, path: str, mode: int = 0o600) -> None:
        """Write `data` to `path`; see Node."""
        self.prove()
        try:
            write_whole(Path(path), data, mode)
        except OSError as error:
            raise cannot_write(self.key, path, error) from error

    def talk(self, command: str) -> socket.socket:
        """Start `command` here; see Node."""
        self.prove()
        ours, theirs = socket.socketpair()
        with theirs:
            talk = subprocess.Popen(
                ["/bin/sh", "-c", bare(command)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for `fab`, which then says so at the other end
            )
        self.remembered.setdefault("talks", []).append(talk)
        return ours

    def dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """Connect from here; see Node."""
        return socket.create_connection((host, port), timeout_s)


def _home() -> str:
    """Return the home folder, or `/` for a user without one: services and containers have such."""
    try:
        home = Path.home()
    except RuntimeError:
        return "/"
    return str(home) if home.is_dir() else "/"


def is_this_machine(host: str, address: str | None, own_name: str) -> bool:
    """Tell whether a node of that host name and address is this very machine.

    Its own host name says so, or an address that is its own. `localhost` is everybody's, and says so only where
    hosts.yaml gives no address.
    """
    if host.rstrip(".").partition(".")[0].lower() == own_name.partition(".")[0].lower():
        return True
    if address is not None:
        return _is_own(address)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(_is_own(str(socket_address[0])) for *_, socket_address in found)


def _is_own(address: str) -> bool:
    """Tell whether an address belongs to this machine: only then can a socket be bound to it."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


def _pump(process: subprocess.Popen[bytes], source: Any, sink: Between) -> None:
    text = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while chunk := source.read1(65536):
            sink.write(text.decode(chunk))
    except Exception:
        process.kill()  # nobody takes what it prints; `refused` says why
