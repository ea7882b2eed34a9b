"""A Node runs commands, takes files and dials ports, over SSH or in a local shell behind one interface.

Every command has a time-out that also holds on the node, leaves a line in the journal of the running step, and comes
back with its output whole. `lab` gathers the nodes of an inventory; `ssh` opens the links.
"""

from __future__ import annotations

import contextvars
import io
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from reports.files import write_whole
from reports.record import Command, capped
from tasks.errors import StepError, UnreachableError
from tasks.hosts import NodeSpec
from tasks.ssh import Lines, connect

journal: contextvars.ContextVar[list[Command] | None] = contextvars.ContextVar("journal", default=None)
"""The commands of the step that is running; threads of one step share its list."""


class Ran(msgspec.Struct, frozen=True):
    """A command that came back."""

    command: str
    exit_code: int
    elapsed_s: float
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it exited 0."""
        return self.exit_code == 0


class Node:
    """One machine. Subclasses do `_execute`, `put` and `dial`; everything else is here once."""

    def __init__(self, key: str, spec: NodeSpec) -> None:
        self.key = key
        self.spec = spec
        self.remembered: dict[str, Any] = {}
        """What was asked once and does not change while `fab` runs: the home folder, the Pythons."""

    def run(
        self,
        command: str,
        *,
        timeout_s: float = 30.0,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
    ) -> Ran:
        """Run `command` in bash and return what came of it.

        It ends with its time-out on the node too, so that nothing is left running there. `on_line` gets every line
        of stdout as it comes. Raises StepError where `check` is set and the exit code is not 0, UnreachableError
        where the link fails.
        """
        bounded = f"LC_ALL=C timeout -k 5 {timeout_s:g} /bin/bash -c {shlex.quote(command)}"
        start = time.monotonic()
        try:
            ran = self._execute(bounded, command, timeout_s + 10, on_line)
        except StepError as error:
            self._note(Command(self.key, command, None, time.monotonic() - start, stderr=capped(error.found)))
            raise
        self._note(Command(self.key, command, ran.exit_code, ran.elapsed_s, capped(ran.stdout), capped(ran.stderr)))
        if check and not ran.ok:
            raise self.failed(ran, timeout_s)
        return ran

    def failed(self, ran: Ran, timeout_s: float = 0.0) -> StepError:
        """Return the error that says a command on this node did not exit 0."""
        last = (ran.stderr.strip() or ran.stdout.strip() or "no output").splitlines()[-1][:300]
        how = f"ended by its time-out of {timeout_s:g} s" if ran.exit_code == 124 else f"exit code {ran.exit_code}"
        short = ran.command if len(ran.command) <= 120 else ran.command[:117] + "..."
        return StepError(self.key, f"{self.key}: {how}: {last}", "exit code 0", f"run it on {self.spec.host}: {short}")

    def home(self) -> str:
        """Return the absolute home folder of the user on the node; asked once."""
        if "home" not in self.remembered:
            self.remembered["home"] = self.run('printf %s "$HOME"').stdout.strip()
        return str(self.remembered["home"])

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Write `data` to the absolute `path` on the node, aside first and then renamed; its folder is made."""
        raise NotImplementedError

    def dial(self, host: str, port: int, timeout_s: float) -> Any:
        """Return a connected stream from the node to `host:port`, with a socket's methods; OSError where refused."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection, if one is open."""

    def _execute(self, bounded: str, command: str, timeout_s: float, on_line: Callable[[str], None] | None) -> Ran:
        raise NotImplementedError

    def _note(self, command: Command) -> None:
        book = journal.get()
        if book is not None:
            book.append(command)


class LocalNode(Node):
    """The machine that `fab` is typed on, through a local shell."""

    def _execute(self, bounded: str, command: str, timeout_s: float, on_line: Callable[[str], None] | None) -> Ran:
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
                    self.key,
                    f"{self.key}: no end after {timeout_s:g} s: {command[:120]}",
                    "an answer",
                    "look at the node",
                ) from None
            for pump in pumps:
                pump.join(5)
        return Ran(command, code, time.monotonic() - start, out.finish(), err.finish())

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Write `data` to `path`; see Node."""
        try:
            write_whole(Path(path), data, mode)
        except OSError as error:
            raise _cannot_write(self.key, path, error) from error

    def dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """Connect from here; see Node."""
        return socket.create_connection((host, port), timeout_s)


class RemoteNode(Node):
    """A machine behind SSH; connected at first use, again where the link has died since."""

    def __init__(self, key: str, spec: NodeSpec) -> None:
        super().__init__(key, spec)
        self._link: Any = None
        self._lock = threading.Lock()

    def link(self) -> Any:
        """Return the open Fabric connection. Raises UnreachableError."""
        with self._lock:
            if self._link is None or not self._link.is_connected or not self._link.transport.is_active():
                self.close()
                self._link = connect(self.key, self.spec)
            return self._link

    def _execute(self, bounded: str, command: str, timeout_s: float, on_line: Callable[[str], None] | None) -> Ran:
        from invoke.exceptions import CommandTimedOut

        link, start = self.link(), time.monotonic()
        out, err = Lines(on_line), Lines(None)
        try:
            result = link.run(
                bounded, hide=True, warn=True, in_stream=False, timeout=timeout_s, out_stream=out, err_stream=err
            )
        except CommandTimedOut:
            link.close()
            raise self._lost(f"no end after {timeout_s:g} s: {command[:120]}") from None
        except (OSError, EOFError) as error:
            raise self._lost(f"the link broke: {error}") from error
        # -1 also means "ended by a signal"; only the transport tells that from a link that was cut.
        if result.exited == -1 and not link.transport.is_active():
            raise self._lost(f"the link broke in mid-command: {command[:120]}")
        return Ran(command, result.exited, time.monotonic() - start, result.stdout, result.stderr)

    def _lost(self, found: str) -> UnreachableError:
        return UnreachableError(
            self.key,
            f"{self.key}: {found}",
            "an SSH link that stays up",
            f"ssh {self.spec.host} true, then type it again",
        )

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Write `data` to `path` over SFTP; see Node."""
        self.run(f"mkdir -p {shlex.quote(str(Path(path).parent))}")
        aside = f"{path}.part"
        try:
            sftp = self.link().sftp()
            sftp.putfo(io.BytesIO(data), aside, file_size=len(data), confirm=True)
            sftp.chmod(aside, mode)
            sftp.posix_rename(aside, path)
        except (OSError, EOFError) as error:
            raise _cannot_write(self.key, path, error) from error

    def dial(self, host: str, port: int, timeout_s: float) -> Any:
        """Open a tunnel through the SSH link; see Node."""
        from paramiko.ssh_exception import SSHException

        try:
            channel = self.link().transport.open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout_s
            )
        except (SSHException, EOFError) as error:
            raise ConnectionRefusedError(f"{host}:{port}: {error}") from error
        channel.settimeout(timeout_s)
        return channel

    def close(self) -> None:
        """End the SSH connection."""
        if self._link is not None:
            self._link.close()
            self._link = None


def _pump(source: Any, sink: Lines) -> None:
    while chunk := source.read1(65536):
        sink.write(chunk.decode("utf-8", "replace"))


def _cannot_write(key: str, path: str, error: Exception) -> StepError:
    return StepError(
        key,
        f"{key}: cannot write {path}: {error}",
        "a writable folder with room",
        f"df -h on {key}, then type it again",
    )
