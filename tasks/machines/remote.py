"""A machine behind SSH, as a Node: one link, opened strictly at first use and kept."""

from __future__ import annotations

import base64
import io
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.exceptions import CommandTimedOut
from paramiko.ssh_exception import SSHException

from records.record import CONNECTING, Command
from records.settings import NodeSpec
from tasks.errors import UnreachableError
from tasks.machines.node import CommandResult, Node, cannot_write
from tasks.machines.ssh import CONNECT_TIMEOUT_S, Lines, close, connect
from tasks.machines.threads import run_one

SMALL_BYTES = 16_000
"""SFTP takes eight round trips; a command line holds 128 kB."""


class RemoteNode(Node):
    """A machine behind SSH; connected at first use, again where the link has died since."""

    def __init__(self, key: str, spec: NodeSpec) -> None:
        super().__init__(key, spec)
        self._link: Any = None
        self._failure: UnreachableError | None = None
        self._failed_at = 0.0
        self._lock = threading.RLock()
        self._copying = threading.Lock()
        """Fabric keeps one SFTP client a link, which two threads at once can hang for good."""

    def link(self) -> Any:
        """Return the open Fabric connection. Raises UnreachableError, also where another thread just failed."""
        asked = time.monotonic()
        with self._lock:
            if self._failure is not None and self._failed_at > asked:
                raise self._failure
            if self._link is None or not self._link.is_connected or not self._link.transport.is_active():
                self.close()
                begin = time.monotonic()
                try:
                    self._link = connect(self.key, self.spec)
                except UnreachableError as error:
                    self._failure, self._failed_at = error, time.monotonic()
                    raise
                self._note(Command(self.key, CONNECTING, 0, time.monotonic() - begin))
                if self.on_connect is not None:
                    try:
                        self.on_connect()
                    except BaseException:
                        self.close()
                        raise
            return self._link

    def open(self) -> bool:
        """Open the link unless it is open; see Node. Raises UnreachableError."""
        with self._lock:
            before = self._link
            return self.link() is not before and self.on_connect is not None

    def talk(self, command: str) -> Any:
        """Start `command` over a session of its own; see Node. Raises UnreachableError."""
        from paramiko.ssh_exception import SSHException

        try:
            channel = self.link().transport.open_session(timeout=CONNECT_TIMEOUT_S)
            channel.exec_command(command)
        except (OSError, EOFError, SSHException) as error:
            raise self._lost(f"no session: {error}") from error
        return channel

    def _execute(
        self, bounded: str, command: str, timeout_s: float, on_line: Callable[[str], None] | None
    ) -> CommandResult:
        link, start = self.link(), time.monotonic()
        out, err = Lines(on_line), Lines(None)
        try:
            options = {"hide": True, "warn": True, "in_stream": False, "timeout": timeout_s}
            result = run_one(lambda: link.run(bounded, out_stream=out, err_stream=err, **options))
        except CommandTimedOut:
            link.close()
            raise self._lost(f"no end after {timeout_s:g} s: {command[:120]}") from None
        except (OSError, EOFError, SSHException) as error:
            why = str(error) or "the node closed it"
            raise self._lost(f"the link broke: {why}" if not link.is_connected else f"no session: {why}") from error
        except KeyboardInterrupt:
            self.close()  # the command on the node finds nobody to write to, and its own time-out ends it
            raise
        # -1 also means "ended by a signal"; only the transport tells that from a link that was cut.
        if result.exited == -1 and not link.transport.is_active():
            raise self._lost(f"the link broke in mid-command: {command[:120]}")
        return CommandResult(command, result.exited, time.monotonic() - start, result.stdout, result.stderr)

    def _lost(self, found: str) -> UnreachableError:
        return UnreachableError(
            f"{found}", "an SSH link that stays up", f"ssh {self.spec.host} true, then type it again", who=self.key
        )

    def put(self, data: bytes, path: str, mode: int = 0o600, *, secret: bool = False) -> None:
        """Write `data` to `path`, a small file within one command and a large or secret one over SFTP; see Node."""
        folder, aside = shlex.quote(str(Path(path).parent)), f"{path}.part"
        if len(data) <= SMALL_BYTES and not secret:
            part, whole = shlex.quote(aside), shlex.quote(path)
            ran = self.run(
                f"mkdir -p {folder} && base64 -d <<<{base64.b64encode(data).decode()} >{part}"
                f" && chmod {mode:o} {part} && mv -f {part} {whole}",
                check=False,
                shown=f"write {len(data)} bytes to {path}",
            )
            if not ran.ok:
                raise cannot_write(self.key, path, OSError(ran.stderr.strip() or f"exit code {ran.exit_code}"))
            return
        self.run(f"mkdir -p {folder}")
        try:
            with self._copying:
                sftp = self.link().sftp()
                with sftp.open(aside, "wb") as file:
                    file.chmod(mode)  # before there is anything to read in it
                sftp.putfo(io.BytesIO(data), aside, file_size=len(data), confirm=True)
                sftp.posix_rename(aside, path)
        except (OSError, EOFError, SSHException) as error:
            raise cannot_write(self.key, path, error) from error

    def dial(self, host: str, port: int, timeout_s: float) -> Any:
        """Open a tunnel through the SSH link; see Node."""
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
            close(self._link)
            self._link = None
