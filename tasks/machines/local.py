"""The machine that `fab` is typed on, as a Node: a local shell, a local disk, plain sockets."""

from __future__ import annotations

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
from tasks.machines.ssh import Lines


class LocalNode(Node):
    """The machine that `fab` is typed on, through a local shell."""

    def _execute(
        self, bounded: str, command: str, timeout_s: float, on_line: Callable[[str], None] | None
    ) -> CommandResult:
        start = time.monotonic()
        with subprocess.Popen(
            ["/bin/bash", "-c", bounded],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path.home(),
        ) as process:
            out, err = Lines(on_line), Lines(None)
            pumps = [
                threading.Thread(target=_pump, args=(process.stdout, out), daemon=True),
                threading.Thread(target=_pump, args=(process.stderr, err), daemon=True),
            ]
            for pump in pumps:
                pump.start()
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise StepError(
                    f"no end after {timeout_s:g} s: {command[:120]}", "an answer", "look at the node", who=self.key
                ) from None
            for pump in pumps:
                pump.join(5)
        return CommandResult(command, code, time.monotonic() - start, out.finish(), err.finish())

    def put(self, data: bytes, path: str, mode: int = 0o600, *, secret: bool = False) -> None:
        """Write `data` to `path`; see Node."""
        del secret  # nothing here goes over a command line
        try:
            write_whole(Path(path), data, mode)
        except OSError as error:
            raise cannot_write(self.key, path, error) from error

    def talk(self, command: str) -> socket.socket:
        """Start `command` here; see Node."""
        ours, theirs = socket.socketpair()
        with theirs:
            talk = subprocess.Popen(
                ["/bin/bash", "-c", command],
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


def _pump(source: Any, sink: Lines) -> None:
    while chunk := source.read1(65536):
        sink.write(chunk.decode("utf-8", "replace"))
