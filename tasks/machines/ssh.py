"""Open one SSH connection strictly, and say in plain words why it did not open. Used by `lab` alone.

Fabric hard-codes AutoAddPolicy and never loads known_hosts (fabric#2071), so an unknown and even a changed host key
would connect silently. Here both are refused, on gateways too.
"""

from __future__ import annotations

import logging
import shlex
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fabric import Config, Connection
from paramiko import RejectPolicy
from paramiko.ssh_exception import (
    AuthenticationException,
    BadHostKeyException,
    NoValidConnectionsError,
    PasswordRequiredException,
)

from records.settings import NodeSpec
from tasks.errors import UnreachableError

CONNECT_TIMEOUT_S = 10
BANNER_TIMEOUT_S = 15
AUTH_TIMEOUT_S = 20
EVERYBODYS_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
DEAD_LINK_S = 20
"""A link that acknowledges nothing for this long is dead (TCP_USER_TIMEOUT)."""


class Lines:
    """A text sink for a command's output: keeps it all and hands complete lines on as they come."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._pieces: list[str] = []
        self._open = ""

    def write(self, text: str) -> None:
        """Take the next piece of output."""
        self._pieces.append(text)
        if self._on_line is None:
            return
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            self._on_line(line)

    def flush(self) -> None:
        """Do nothing; Invoke calls it."""

    def finish(self) -> str:
        """Return everything that was written."""
        return "".join(self._pieces)


def known_hosts_file(spec: NodeSpec, ssh_config: dict[str, Any]) -> Path:
    """Return the file of trusted host keys for a node: hosts.yaml's, else ssh_config's, else the usual one."""
    named = spec.known_hosts or str(ssh_config.get("userknownhostsfile", "~/.ssh/known_hosts")).split()[0]
    return Path(named).expanduser()


def new_connection(spec: NodeSpec) -> Any:
    """Return an unopened Fabric connection for a node; ssh_config's HostName, User, Port, ProxyJump ... count."""
    settings: dict[str, Any] = {"banner_timeout": BANNER_TIMEOUT_S, "auth_timeout": AUTH_TIMEOUT_S}
    if spec.identity_file:
        settings |= {"key_filename": str(Path(spec.identity_file).expanduser()), "allow_agent": False}
        settings["look_for_keys"] = False
    config = Config(overrides={"run": {"replace_env": False}, "timeouts": {"connect": CONNECT_TIMEOUT_S}})
    return Connection(spec.host, user=spec.user, port=spec.port, config=config, connect_kwargs=settings)


def connect(key: str, spec: NodeSpec) -> Any:
    """Return an open, verified Fabric connection to a node. Raises UnreachableError saying what to type next."""
    connection = new_connection(spec)
    trusted = known_hosts_file(spec, connection.ssh_config)
    be_strict(connection, trusted)
    try:
        connection.open()
    except Exception as error:
        explained = explain(key, spec, connection, trusted, error)
        close(connection)
        raise explained from error
    for hop in hops(connection):
        _keep_alive(hop.transport)
    return connection


def hops(connection: Any) -> Iterator[Any]:
    """Yield a connection and the gateways before it (ProxyJump), the one that is dialled first last."""
    while isinstance(connection, Connection):
        yield connection
        connection = connection.gateway


def be_strict(connection: Any, trusted: Path) -> None:
    """Have a connection and its gateways refuse every host key that is not in `trusted` or everybody's file."""
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it prints tracebacks of its own otherwise
    for hop in hops(connection):
        for file in (EVERYBODYS_KNOWN_HOSTS, trusted):
            if file.is_file():
                hop.client.load_system_host_keys(str(file))
        hop.client.set_missing_host_key_policy(RejectPolicy())


def close(connection: Any) -> None:
    """End a connection and its gateways."""
    for hop in hops(connection):
        hop.close()


def _keep_alive(transport: Any) -> None:
    """Make a link quick, and have it end when nobody answers any more instead of hanging for good."""
    sock = transport.sock
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_LINK_S * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_LINK_S // 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_LINK_S // 4)
    transport.set_keepalive(DEAD_LINK_S // 2)


def explain(key: str, spec: NodeSpec, connection: Any, trusted: Path, error: Exception) -> UnreachableError:
    """Translate what paramiko raised while `connection` was opened into found, needed and do.

    Where a gateway could not be opened, it is the gateway that is spoken of.
    """
    node = connection
    connection = next((hop for hop in reversed([*hops(node)]) if not hop.is_connected), node)
    where = f"{connection.host}:{connection.port}"
    port = f"-p {connection.port} " if connection.port != 22 else ""
    login = f"ssh {port}{shlex.quote(connection.host)} true"
    needed = f"an SSH login to {where}"
    if isinstance(error, BadHostKeyException):
        found = (
            f"the host key of {where} has CHANGED: {error.key.fingerprint} instead of {error.expected_key.fingerprint}"
        )
        needed = f"the key that {trusted} names"
        name = connection.host if connection.port == 22 else f"[{connection.host}]:{connection.port}"
        do = (
            f"find out why; if you trust the new key: ssh-keygen -f {trusted} -R {shlex.quote(name)} && fab trust-hosts"
        )
    elif "not found in known_hosts" in str(error):
        found, needed, do = f"the host key of {where} is not in {trusted}", "a host key you trust", "fab trust-hosts"
        if connection is not node:
            do = f"{login} (it shows the key and asks), then type it again"
    elif isinstance(error, (AuthenticationException, PasswordRequiredException)):
        found, do = (
            f"{where} refuses the login of '{connection.user}': {error}",
            f"{login}; then set user or identity_file",
        )
    elif isinstance(error, FileNotFoundError):
        found, needed = f"there is no key file {error.filename or spec.identity_file}", "the private key"
        do = f"set nodes.{key}.identity_file in hosts.yaml"
    elif isinstance(error, socket.gaierror):
        found, do = (
            f"the name '{connection.host}' is unknown",
            f"check nodes.{key}.host in hosts.yaml, `tailscale status`",
        )
    elif isinstance(error, TimeoutError):
        found, do = f"{where} does not answer within {CONNECT_TIMEOUT_S} s", f"is it up? {login}"
    elif isinstance(error, NoValidConnectionsError):
        found, do = f"{where} refuses the connection", f"is sshd running there? {login}"
    elif isinstance(error, OSError):
        found, do = f"{where}: {error}", f"is sshd running there? {login}"
    else:
        found, do = f"{where}: {type(error).__name__}: {error}", login
    return UnreachableError(f"{found}", needed, do, who=key)
