"""Open one SSH connection strictly, and say in plain words why it did not open. Used by `remote` and `trust`.

Fabric hard-codes AutoAddPolicy and never loads known_hosts (fabric#2071), so an unknown and even a changed host key
would connect silently. Here both are refused, on gateways too. What ssh's configuration says comes from `ssh_options`
and is handed to Fabric, which reads no file of the user's itself.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
import socket
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

from fabric import Config, Connection
from paramiko import SSHConfig
from paramiko.ssh_exception import AuthenticationException, IncompatiblePeer, SSHException

from records.settings import NodeSpec
from tasks import console
from tasks.errors import UnreachableError
from tasks.machines.known_hosts import KnownKey, UnreadableFileError, fingerprint, known_keys, revokes
from tasks.machines.ssh_login import HELD_S, Login, LoginTransport, RefusedError
from tasks.machines.ssh_options import SshOptions, hop_of, options_of, ssh_command

CONNECT_TIMEOUT_S = 10
BANNER_TIMEOUT_S = 15
AUTH_TIMEOUT_S = 20
DEAD_LINK_S = 20
"""A link that acknowledges nothing for this long is dead (TCP_USER_TIMEOUT)."""
MOST_HOPS = 8
_RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")
"""What an RSA key, which known_hosts calls `ssh-rsa`, signs with."""
_SPOKEN = (
    "KexAlgorithms +curve25519-sha256, Ciphers +aes256-gcm@openssh.com,aes256-ctr,"
    " MACs +hmac-sha2-256-etm@openssh.com, HostKeyAlgorithms +ssh-ed25519"
)
"""Of what paramiko speaks, what every OpenSSH of ten years has."""
_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EHOSTDOWN)


class Connecting:
    """One login that is being made: a machine, its gateway, and what is known of both."""

    def __init__(self, key: str, spec: NodeSpec, options: SshOptions, depth: int = 0) -> None:
        self.key, self.spec, self.options = key, spec, options
        self.login = Login(options)
        self.proxy: subprocess.Popen[bytes] | None = None
        self.gateway: Connecting | None = None
        if options.jump and not options.proxy_command:
            if depth == MOST_HOPS:
                raise self.problem(f"ProxyJump goes round in a circle at '{options.name}'", "a way that ends")
            self.gateway = Connecting(key, spec, hop_of(key, options.jump), depth + 1)
        known = self._known()
        self.known = [key for key in known if key.marker != "@cert-authority"]
        self.authorities = [key for key in known if key.marker == "@cert-authority"]
        self.connection = self._connection()

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return bool(self.connection.is_connected and self.connection.transport.is_active())

    @property
    def where(self) -> str:
        """The machine and its port, for people."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"{host}:{self.options.port}"

    @property
    def by_hand(self) -> str:
        """What a person types to log in with ssh itself; a gateway is spoken of by its own name."""
        if self.options.name == self.spec.host.rstrip("."):
            return shlex.join(ssh_command(self.spec))
        port = ["-p", str(self.options.port)] if self.options.port != 22 else []
        return shlex.join(["ssh", *port, self.options.name, "true"])

    def problem(self, found: str, needed: str = "", do: str = "") -> UnreachableError:
        """Return the error that says what was found on the way to this machine."""
        ignored = ", ".join(self.options.not_followed)
        if ignored:
            found += f" (ssh's configuration also sets what is not followed here: {ignored})"
        return UnreachableError(found, needed or f"an SSH login to {self.where}", do or self.by_hand, who=self.key)

    def open(self) -> Any:
        """Return the open, verified Fabric connection. Raises UnreachableError; whatever was open is closed then."""
        try:
            self.connection.connect_kwargs["sock"] = self.dial()
            self.connection.open()
        except UnreachableError:
            self.close()
            raise
        except (OSError, SSHException, EOFError, ValueError) as error:
            explained = self.explain(error)
            self.close()
            raise explained from error
        _keep_alive(self.connection.transport)
        return self.connection

    def dial(self) -> Any:
        """Return a stream to the machine's SSH port: through its gateway, its proxy, or straight to an address."""
        if self.gateway:
            link = self.gateway.open()
            try:
                to = (self.options.host, self.options.port)
                return link.transport.open_channel("direct-tcpip", to, ("", 0), timeout=CONNECT_TIMEOUT_S)
            except (SSHException, EOFError) as error:
                raise self.problem(
                    f"{self.gateway.where} does not let us through to {self.where}: {error}",
                    do=f"allow it there (AllowTcpForwarding yes in its sshd_config), or see: {self.by_hand}",
                ) from error
        if self.options.proxy_command:
            return self._through(self.options.proxy_command)
        try:
            return connected(self.options)
        except (OSError, UnicodeError, ExceptionGroup) as error:
            raise self._explain_dial(error) from error

    def close(self) -> None:
        """End the connection, its proxy and its gateway."""
        if hasattr(self, "connection"):
            sock = self.connection.connect_kwargs.pop("sock", None)
            self.connection.close()
            if self.connection.client.get_transport():
                self.connection.client.close()  # a login that failed: Fabric knows of no transport then
            if sock is not None:
                sock.close()
        if self.proxy:
            with contextlib.suppress(OSError):
                self.proxy.terminate()
            self.proxy.wait()
        if self.gateway:
            self.gateway.close()

    def _through(self, command: str) -> socket.socket:
        """Run a ProxyCommand as ssh does, in the user's shell; its ends are one socket."""
        ours, its = socket.socketpair()
        shell = os.environ.get("SHELL") or "/bin/sh"
        with its:
            self.proxy = subprocess.Popen(
                [shell, "-c", f"exec {command}"],
                stdin=its.fileno(),
                stdout=its.fileno(),
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        return ours

    def _known(self) -> list[KnownKey]:
        files = dict.fromkeys((*self.options.known_hosts, *self.options.everybodys_known_hosts))
        name, host = self.options.known_as, self.options.host.lower()
        try:
            known = known_keys(files, name)
            # As ssh does: where nothing is known with the port, a key that is known without it is good too.
            return known or (known_keys(files, host) if name == f"[{host}]:{self.options.port}" else [])
        except UnreadableFileError as error:
            needed = "known_hosts files that can be read"
            raise self.problem(str(error), needed, f"ls -l {shlex.join(files)}") from error

    @property
    def trusted_file(self) -> str:
        """The file that a key is added to. Raises UnreachableError where the user keeps none."""
        if not self.options.known_hosts:
            raise self.problem(
                "ssh's configuration keeps no host keys for it (UserKnownHostsFile is none or /dev/null)",
                "a file in which a host key is known",
                f"set nodes.{self.key}.known_hosts in hosts.yaml to a file, then: fab trust-hosts",
            )
        return self.options.known_hosts[0]

    def _connection(self) -> Any:
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it prints tracebacks of its own otherwise
        # `lazy`: no ~/.fabric.yaml and no ssh_config of Fabric's own reading; what counts is in the options.
        config = Config(
            lazy=True, ssh_config=SSHConfig(), overrides={"run": {"replace_env": False}, "load_ssh_configs": False}
        )
        settings = {
            "banner_timeout": BANNER_TIMEOUT_S,
            "auth_timeout": AUTH_TIMEOUT_S,
            "auth_strategy": self.login,
            "transport_factory": partial(_transport, [known.kind for known in self.known], self._held),
        }
        options = self.options
        made = Connection(
            options.host, user=options.user, port=options.port, config=config, gateway=False, connect_kwargs=settings
        )
        made.client.set_missing_host_key_policy(_Strict(self))
        return made

    def check(self, shown: Any) -> None:
        """Refuse a host key that is not known for this machine. Raises UnreachableError."""
        files = ", ".join(self.options.known_hosts) or self.trusted_file
        self.check_revoked(shown)
        mine = [known for known in self.known if known.key == shown.asbytes()]
        for known in mine:
            if known.revoked:
                found = f"{known.file} line {known.line} revokes the host key of {self.where}"
                raise self.problem(found, "a host key you trust")
        if mine:
            return
        others = [known for known in self.known if not known.revoked]
        if not others:
            do = (
                "fab trust-hosts"
                if self.options.name == self.spec.host.rstrip(".")
                else (f"{self.by_hand} (it shows the key and asks), then type it again")
            )
            found = f"the host key of {self.where} is not in {files}"
            if self.authorities:
                line = self.authorities[0]
                found += f" by itself ({line.file} line {line.line}, @cert-authority, is not followed here)"
            raise self.problem(found, "a host key you trust", do)
        same_kind = [known for known in others if known.kind == shown.get_name()] or others
        old = same_kind[0]
        was = fingerprint(old.key)
        remove = shlex.join(["ssh-keygen", "-f", old.file, "-R", self.options.known_as])
        raise self.problem(
            f"the host key of {self.where} has CHANGED: {fingerprint(shown.asbytes())} instead of {was}",
            f"the key that {old.file} names in line {old.line}",
            f"find out why; if you trust the new key: {remove} && fab trust-hosts",
        )

    def check_revoked(self, shown: Any) -> None:
        """Refuse a host key that ssh's RevokedHostKeys names. Raises UnreachableError."""
        file = self.options.revoked_host_keys
        if file is None:
            return
        try:
            if not revokes(file, shown.get_name(), shown.asbytes()):
                return
            found = f"{file} (RevokedHostKeys) revokes the host key of {self.where}"
        except UnreadableFileError as error:
            found = f"ssh's list of revoked host keys cannot be read, {error}"
        raise self.problem(found, "a host key you trust")

    def _held(self, words: str) -> None:
        """Pass on at once what a server says while it lets us wait: it may ask for a visit with a browser."""
        console.note(self.key, f"{self.where} lets us wait for the login, up to {HELD_S / 60:g} min, and says: {words}")

    def _explain_dial(self, error: Exception) -> UnreachableError:
        every = list(error.exceptions) if isinstance(error, ExceptionGroup) else [error]
        found = "; ".join(dict.fromkeys(self._in_words(one) for one in every))
        if isinstance(error, (socket.gaierror, UnicodeError)):
            return self.problem(found, do=f"check nodes.{self.key}.host in hosts.yaml, `tailscale status`")
        if all(isinstance(one, ConnectionRefusedError) for one in every):
            return self.problem(found, do=f"is sshd running there, and on this port? {self.by_hand}")
        return self.problem(found, do=f"is it up, and is this machine in its network? {self.by_hand}")

    def _in_words(self, error: Exception) -> str:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            return f"no name server answers for the name '{self.options.host}'"
        if isinstance(error, socket.gaierror) and error.errno in (socket.EAI_ADDRFAMILY, socket.EAI_NODATA):
            return f"'{self.options.host}' has no address of the kind that is asked for (ssh's AddressFamily?)"
        if isinstance(error, (socket.gaierror, UnicodeError)):
            return f"the name '{self.options.host}' is unknown"
        if isinstance(error, ConnectionRefusedError):
            return f"{self.where} refuses the connection"
        if isinstance(error, TimeoutError):
            return f"{self.where} does not answer within {self.options.connect_timeout_s or CONNECT_TIMEOUT_S} s"
        if isinstance(error, OSError) and error.errno in _NO_ROUTE:
            return f"there is no route to {self.where} ({os.strerror(error.errno)})"
        return f"{self.where}: {error}"

    def explain(self, error: Exception) -> UnreachableError:
        """Translate what paramiko raised while the connection was opened."""
        if isinstance(error, RefusedError):
            return self.problem(f"{self.where} refuses the login of '{self.options.user}': {error}", do=error.do)
        if isinstance(error, AuthenticationException):
            return self.problem(f"{self.where} refuses the login of '{self.options.user}': {error}")
        if self.proxy and (said := self._proxy_words()):
            return self.problem(f"ssh's ProxyCommand says: {said}", f"a way to {self.where}")
        if isinstance(error, TimeoutError):
            return self.problem(
                f"{self.where} fell silent: {error}", do=f"is the link to it steady, is it overloaded? {self.by_hand}"
            )
        if isinstance(error, IncompatiblePeer):
            return self.problem(
                f"{self.where} speaks no SSH that is known here: {error}",
                do=f"allow on {self.options.host}, in its sshd_config, what it lacks of {_SPOKEN}; then reload sshd",
            )
        said = str(error) or "it closed the connection"
        return self.problem(f"{self.where} answers, but not as an SSH server: {said}")

    def _proxy_words(self) -> str:
        """Return what the ProxyCommand printed before it ended."""
        assert self.proxy and self.proxy.stderr
        try:
            self.proxy.wait(1)
        except subprocess.TimeoutExpired:
            return ""
        words = self.proxy.stderr.read().decode("utf-8", "replace").split("\n")
        return "; ".join(line.strip() for line in words if line.strip())[-400:] or f"exit {self.proxy.returncode}"


def connect(key: str, spec: NodeSpec) -> Connecting:
    """Return an open, verified connection to a node. Raises UnreachableError saying what to type next."""
    login = Connecting(key, spec, options_of(key, spec))
    login.open()
    return login


def connected(options: SshOptions) -> socket.socket:
    """Connect to the first address of a machine that answers. Raises OSError; ExceptionGroup of each address' error."""
    errors: list[OSError] = []
    timeout_s = options.connect_timeout_s or CONNECT_TIMEOUT_S
    source = (options.bind_address, 0) if options.bind_address else None
    for family, *_, address in socket.getaddrinfo(options.host, options.port, options.family, socket.SOCK_STREAM):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_s)
            if source:
                sock.bind(source)
            sock.connect(address)
        except OSError as error:
            sock.close()
            errors.append(error)
        else:
            return sock
    raise errors[0] if len(errors) == 1 else ExceptionGroup("no address answers", errors)


def _transport(kinds: list[str], held: Callable[[str], None], sock: Any, **settings: Any) -> Any:
    """Return a transport that asks first for the kinds of host key that are known, as ssh does."""
    made = LoginTransport(sock, **settings)
    made.on_hold = held
    security = made.get_security_options()
    wanted = [name for kind in kinds for name in (_RSA if kind == "ssh-rsa" else (kind,))]
    first = [name for name in dict.fromkeys(wanted) if name in security.key_types]
    security.key_types = [*first, *(name for name in security.key_types if name not in first)]
    return made


class _Strict:
    """paramiko's question what to do about a host key, answered by `Connecting.check`."""

    def __init__(self, login: Connecting) -> None:
        self._login = login

    def missing_host_key(self, _client: Any, _hostname: str, key: Any) -> None:
        """Accept the key or raise."""
        self._login.check(key)


def _keep_alive(transport: Any) -> None:
    """Make a link quick, and have it end when nobody answers any more instead of hanging for good."""
    sock = transport.sock
    if isinstance(sock, socket.socket) and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_LINK_S * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_LINK_S // 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_LINK_S // 4)
    transport.set_keepalive(DEAD_LINK_S // 2)
