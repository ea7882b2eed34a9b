"""A machine behind SSH, as a Node: one link, opened strictly at first use and kept."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from invoke.exceptions import CommandTimedOut, ThreadException
from paramiko.ssh_exception import ChannelException, SSHException

from records.record import CONNECTING, Command
from records.settings import NodeSpec
from tasks.errors import StepError, UnreachableError
from tasks.machines.node import CommandResult, Node, cannot_write, note
from tasks.machines.shell import Between, Bounded, bare, wrapped
from tasks.machines.ssh import CONNECT_TIMEOUT_S, Connecting, connect
from tasks.machines.ssh_options import ssh_command
from tasks.machines.threads import run_one
from tasks.machines.wire import shortened

COPY_TIMEOUT_S = 120
PROHIBITED = 1
"""SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254): the server's configuration forbids it."""
T = TypeVar("T")


class RemoteNode(Node):
    """A machine behind SSH; connected at first use, again where the link has died since."""

    def __init__(self, key: str, spec: NodeSpec) -> None:
        super().__init__(key, spec)
        self._login: Connecting | None = None
        self._spare: Connecting | None = None
        """A second connection, where the server gives no further session on the first (MaxSessions)."""
        self._failure: UnreachableError | None = None
        self._failed_at = 0.0
        self._lock = threading.RLock()

    @property
    def login(self) -> Connecting:
        """The login that stands, made at first use and again where the link has died.

        Raises UnreachableError, also where another thread just failed.
        """
        asked = time.monotonic()
        with self._lock:
            if self._failure is not None and self._failed_at > asked:
                raise self._failure
            if self._login is None or not self._login.alive:
                self.close()
                begin = time.monotonic()
                try:
                    self._login = connect(self.key, self.spec)
                except UnreachableError as error:
                    self._failure, self._failed_at = error, time.monotonic()
                    raise
                note(Command(self.key, CONNECTING, 0, time.monotonic() - begin))
                if self.on_connect is not None:
                    try:
                        self.on_connect()
                    except BaseException:
                        self.close()
                        raise
            return self._login

    def link(self) -> Any:
        """Return the open Fabric connection. Raises UnreachableError."""
        return self.login.connection

    def open(self) -> bool:
        """Open the link unless it is open; see Node. Raises UnreachableError."""
        with self._lock:
            before = self._login
            return self.login is not before and self.on_connect is not None

    def talk(self, command: str) -> Any:
        """Start `command` over a session of its own; see Node. Raises UnreachableError."""
        try:
            channel = self.link().transport.open_session(timeout=CONNECT_TIMEOUT_S)
            channel.exec_command(bare(command))
        except (OSError, EOFError, SSHException) as error:
            raise self._lost(f"no session: {error}") from error
        return channel

    def _execute(
        self, bounded: Bounded, command: str, timeout_s: float, on_line: Callable[[str], None] | None
    ) -> CommandResult:
        link, start = self.link(), time.monotonic()
        out, err = Between(bounded.token, on_line), Between(bounded.token)
        options = {"hide": True, "warn": True, "in_stream": False, "timeout": timeout_s, "encoding": "utf-8"}
        try:
            result = self._with_session(
                lambda over: run_one(lambda: over.run(bounded.text, out_stream=out, err_stream=err, **options)),
                lambda: out.begun,
            )
        except ThreadException as error:
            self.close()  # the command on the node finds nobody to write to
            raise out.refused or self._lost(f"the link broke in mid-command: {error.exceptions[0].value}") from error
        except CommandTimedOut:
            self.close()
            if not out.begun:
                raise self._not_run(out, err, f"nothing within {timeout_s:g} s") from None
            raise self._lost(f"no end after {timeout_s:g} s: {shortened(command, 120)}") from None
        except ChannelException as error:
            raise self._lost(f"no session: its sshd says '{error.text}' (MaxSessions in its sshd_config?)") from error
        except (OSError, EOFError, SSHException) as error:
            why = str(error) or "the node closed it"
            raise self._lost(f"the link broke: {why}" if not link.is_connected else f"no session: {why}") from error
        except KeyboardInterrupt:
            self.close()  # the command on the node finds nobody to write to, and its own time-out ends it
            raise
        # -1 also means "ended by a signal"; only the transport tells that from a link that was cut.
        if not out.ending and result.exited == -1 and not link.transport.is_active():
            raise self._lost(f"the link broke in mid-command: {shortened(command, 120)}")
        return self._result(command, start, out, err, result.exited)

    def _with_session(self, work: Callable[[Any], T], begun: Callable[[], bool] = lambda: False) -> T:
        """Do what opens a session on the link; on a second connection where the server gives no more on the first.

        A link may have ended unnoticed: what has not `begun` on it is done once more on a new one.
        """
        link = self.link()
        try:
            return work(link)
        except ChannelException:
            with self._lock:
                if self._spare is None or not self._spare.alive:
                    self._spare = connect(self.key, self.spec)
                spare = self._spare
        except (OSError, EOFError, SSHException):
            if begun() or link.is_connected:
                raise
            return work(self.link())
        try:
            return work(spare.connection)
        except ChannelException:
            further = connect(self.key, self.spec)
            try:
                return work(further.connection)
            finally:
                further.close()

    def _lost(self, found: str) -> UnreachableError:
        do = f"{shlex.join(ssh_command(self.spec))}, then type it again"
        return UnreachableError(found, "an SSH link that stays up", do, who=self.key)

    def put(self, data: bytes, path: str, mode: int = 0o600) -> None:
        """Write `data` to `path` through a session's input, which needs no SFTP there; see Node."""
        aside, to, folder = (shlex.quote(text) for text in (f"{path}.part", path, str(Path(path).parent)))
        torn = f'echo "only $n of its {len(data)} bytes arrived (does a login file read its input?)" >&2; exit 1'
        whole = f"n=$(wc -c < {aside}) && {{ [ $n -eq {len(data)} ] || {{ {torn}; }}; }}"
        command = wrapped(
            f"mkdir -p {folder} && cat > {aside} && {whole} && chmod {mode:o} {aside} && mv -f {aside} {to}",
            COPY_TIMEOUT_S,
        )

        def copy(link: Any) -> tuple[Between, Between, int]:
            out, err = Between(command.token), Between(command.token)
            channel = link.transport.open_session(timeout=COPY_TIMEOUT_S)
            with channel:
                channel.settimeout(COPY_TIMEOUT_S)
                channel.exec_command(command.text)
                channel.sendall(data)
                channel.shutdown_write()
                for stream, text in ((channel.makefile("rb"), out), (channel.makefile_stderr("rb"), err)):
                    text.write(stream.read().decode("utf-8", "replace"))
                return out, err, channel.recv_exit_status()

        begin = time.monotonic()
        try:
            result = self._result(command.text, begin, *self._with_session(copy))
        except (OSError, EOFError, SSHException) as error:
            raise cannot_write(self.key, path, str(error) or type(error).__name__) from error
        shown = f"write {len(data)} bytes to {path}"
        note(Command(self.key, shown, result.exit_code, result.elapsed_s, stderr=result.stderr))
        if not result.ok:
            raise cannot_write(self.key, path, result.stderr.strip() or f"exit code {result.exit_code}")

    def dial(self, host: str, port: int, timeout_s: float) -> Any:
        """Open a tunnel through the SSH link; see Node. Raises StepError where the node's sshd allows none."""
        try:
            channel = self.link().transport.open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout_s
            )
        except (SSHException, EOFError) as error:
            if isinstance(error, ChannelException) and error.code == PROHIBITED:
                tailscale = "Tailscale" in self.link().transport.remote_version
                raise StepError(
                    f"its {'Tailscale SSH' if tailscale else 'sshd'} allows no tunnel to {host}:{port}",
                    "tunnels through SSH, by which the programs on the node are asked",
                    f"on {self.spec.host}: "
                    + (
                        "take TS_SSH_DISABLE_FORWARDING out of tailscaled's environment, or `tailscale set --ssh=false`"
                        if tailscale
                        else "in /etc/ssh/sshd_config: AllowTcpForwarding yes (and no PermitOpen or"
                        " DisableForwarding that forbids it, no no-port-forwarding in ~/.ssh/authorized_keys);"
                        " then: sudo systemctl reload ssh"
                    ),
                    who=self.key,
                ) from error
            raise ConnectionRefusedError(f"{host}:{port}: {error}") from error
        channel.settimeout(timeout_s)
        return channel

    def verify_tunnel(self) -> None:
        """Dial a port that need not be open: a server that forbids tunnels says so first; see Node."""
        with contextlib.suppress(OSError):
            self.dial("127.0.0.1", 9, 10).close()

    def close(self) -> None:
        """End the SSH connection."""
        for login in (self._spare, self._login):
            if login is not None:
                login.close()
        self._login = self._spare = None
