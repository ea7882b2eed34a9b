"""Who we are, to an SSH server: the keys that ssh itself would offer, in its order, and why none was taken.

ssh asks first whether it needs to prove anything (method `none`, by which Tailscale SSH lets people in), then offers
the agent's keys that the configuration names, the agent's others unless IdentitiesOnly, and last the keys in files.
"""

from __future__ import annotations

import base64
import binascii
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko import AuthenticationException, Message, PKey
from paramiko.agent import AgentSSH
from paramiko.auth_handler import AuthOnlyHandler
from paramiko.auth_strategy import AuthResult, AuthStrategy, NoneAuth, SourceResult
from paramiko.common import cMSG_SERVICE_REQUEST, cMSG_USERAUTH_REQUEST
from paramiko.ssh_exception import BadAuthenticationType, PartialAuthentication, SSHException, UnableToAuthenticate

from tasks.machines.ssh_options import SshOptions

_POLL_S = 0.002
AGENT_TIMEOUT_S = 30
"""An agent may ask its owner for every signature."""


class RefusedError(AuthenticationException):
    """The server took none of our keys; what was tried, and what a person can do, in words."""

    def __init__(self, found: str, do: str) -> None:
        super().__init__(found)
        self.do = do


class _Agent(AgentSSH):
    """The agent behind a socket, which need not be the one that SSH_AUTH_SOCK names."""

    def __init__(self, path: str) -> None:
        super().__init__()
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(AGENT_TIMEOUT_S)
        sock.connect(path)
        self._connect(sock)  # type: ignore[attr-defined]

    def close(self) -> None:
        """End the connection to it."""
        self._close()  # type: ignore[attr-defined]


class _LoginHandler(AuthOnlyHandler):
    """paramiko's login without its race: there an answer that comes before the thread goes on is waited for in vain."""

    def send_auth_request(
        self, username: str, method: str, finish_message: Callable[[Message], None] | None = None
    ) -> list[str]:
        """Send a request and wait for the answer; `finish_message` adds what the method needs."""
        self.auth_method, self.username = method, username
        request = Message()
        request.add_byte(cMSG_USERAUTH_REQUEST)
        for text in (username, "ssh-connection", method):
            request.add_string(text)
        if finish_message:
            finish_message(request)
        self.auth_event = threading.Event()
        self.transport._send_message(request)  # type: ignore[attr-defined]
        try:
            return self.wait_for_response(self.auth_event)
        except AuthenticationException as error:
            if self.transport.is_active() and not self.auth_event.is_set():  # a link that died refuses nobody
                raise TimeoutError(f"no word on the login within {self.transport.auth_timeout:g} s") from error
            raise


class LoginTransport(paramiko.ServiceRequestingTransport):  # type: ignore[misc, name-defined]
    """paramiko's transport that asks for the login service once, as servers written in Go and in Python want it.

    Where a link dies in silence, paramiko waits for good in the key exchange; TimeoutError is raised here.
    """

    def start_client(self, event: threading.Event | None = None, timeout: float | None = None) -> None:
        """Exchange keys."""
        super().start_client(event, timeout or self.banner_timeout)
        if not self.initial_kex_done:
            raise TimeoutError(f"no exchange of keys within {timeout or self.banner_timeout:g} s")

    def get_auth_handler(self) -> _LoginHandler:
        """Return what speaks the login protocol."""
        return _LoginHandler(self)

    def ensure_session(self) -> None:
        """Ask for the login service where that was not done yet; paramiko waits for good where the server leaves."""
        if self._service_userauth_accepted:
            return
        request = Message()
        request.add_byte(cMSG_SERVICE_REQUEST)
        request.add_string("ssh-userauth")
        self._send_message(request)
        end = time.monotonic() + self.auth_timeout
        while not self._service_userauth_accepted:
            if not self.is_active():
                raise self.get_exception() or SSHException("it does not offer a login")
            if time.monotonic() > end:
                raise TimeoutError(f"no word on the login within {self.auth_timeout:g} s")
            time.sleep(_POLL_S)
        self.auth_handler = self.get_auth_handler()


class Login(AuthStrategy):
    """The login of ssh to one machine, as paramiko wants it."""

    def get_sources(self) -> Iterator[NoneAuth]:
        """Return nothing: `authenticate` looks at what the server wants before it offers anything."""
        return iter(())

    def __init__(self, options: SshOptions) -> None:
        self.options = options
        self.tried: list[str] = []
        """What was offered and refused, and what could not be offered, for people."""
        self.locked: list[str] = []
        """Key files that want a passphrase and that no agent has."""

    def authenticate(self, transport: Any) -> AuthResult:
        """Log in. Raises RefusedError."""
        user = self.options.user
        try:
            transport.auth_none(user)
            return self._done("none")
        except BadAuthenticationType as error:
            allowed = list(error.allowed_types)
        if "publickey" in allowed:
            for name, key in self._keys():
                try:
                    further = transport.auth_publickey(user, key)
                except PartialAuthentication as error:
                    further = error.allowed_types
                except (SSHException, ValueError) as error:
                    self.tried.append(f"{name} ({_reason(error)})")
                    if transport.is_active():
                        continue
                    raise RefusedError(
                        f"it closed the connection after {len(self.tried)} keys: {', '.join(self.tried)}",
                        "set IdentityFile and `IdentitiesOnly yes` for it in ~/.ssh/config",
                    ) from error
                if further:
                    raise RefusedError(
                        f"it took {name} and wants {', '.join(further)} as well",
                        "let this user log in with a key alone (AuthenticationMethods in its sshd_config)",
                    )
                return self._done(name)
        raise self._refused(allowed)

    def _done(self, name: str) -> AuthResult:
        result = AuthResult(strategy=self)
        result.append(SourceResult(NoneAuth(name), []))
        return result

    def _refused(self, allowed: list[str]) -> RefusedError:
        if "publickey" not in allowed:
            return RefusedError(
                f"it takes no key, only {', '.join(allowed)}", "set `PubkeyAuthentication yes` in its sshd_config"
            )
        found = f"it took none of these keys: {', '.join(self.tried)}" if self.tried else "no key was there to offer"
        if self.locked:
            return RefusedError(found, f"ssh-add {self.locked[0]}  # it wants a passphrase and no agent has it")
        return RefusedError(found, f"ssh-copy-id {self.options.name}, or set user or identity_file in hosts.yaml")

    def _keys(self) -> Iterator[tuple[str, PKey]]:
        """Yield the keys to offer, each with its name for people, in the order of ssh."""
        options = self.options
        named = {path: public_part(Path(path)) for path in options.keys if Path(path).is_file()}
        missing = [path for path in options.keys if path not in named and not Path(path).name.startswith("id_")]
        self.tried += [f"{path} (no such file)" for path in missing]
        agent = self._agent()
        try:
            held = {key.asbytes(): key for key in agent.get_keys()} if agent else {}
            ours = [(path, held[blob]) for path, blob in named.items() if blob in held]
            yield from ((f"{path} from the agent", key) for path, key in ours)
            if not options.only_these_keys:
                others = [key for blob, key in held.items() if blob not in named.values()]
                yield from ((f"{key.comment or key.get_name()} from the agent", key) for key in others)
            for path, blob in named.items():
                if blob not in held and (key := self._from_file(path)) is not None:
                    yield path, key
        finally:
            if agent:
                agent.close()

    def _agent(self) -> _Agent | None:
        try:
            return _Agent(self.options.agent) if self.options.agent else None
        except (OSError, SSHException):
            self.tried.append(f"no agent answers at {self.options.agent}")
            return None

    def _from_file(self, path: str) -> PKey | None:
        try:
            key = PKey.from_path(path)
            for certificate in self.options.certificates:
                key.load_certificate(certificate)
        except TypeError:
            self.locked.append(path)
            self.tried.append(f"{path} (wants a passphrase)")
        except Exception as error:  # paramiko and cryptography have a dozen words for a file that is no private key
            self.tried.append(f"{path} (cannot be read: {_reason(error)})")
        else:
            return key
        return None


def public_part(path: Path) -> bytes | None:
    """Return the public key that belongs to a key file, without any passphrase; None where that is not told.

    The file itself may be a public key (its private half is the agent's), OpenSSH's own format carries the public key
    in front of the encrypted part, and `ssh-keygen` puts a `.pub` beside any.
    """
    for file in (path, path.with_name(f"{path.name}.pub")):
        try:
            text = file.read_bytes()
        except OSError:
            continue
        words = text.split()
        try:
            if b"OPENSSH PRIVATE KEY" in text[:80]:
                return _inside(base64.b64decode(b"".join(text.split(b"-----")[2].split())))
            if len(words) > 1 and text[:5] in (b"ssh-r", b"ssh-e", b"ecdsa", b"sk-ss", b"sk-ec"):
                return base64.b64decode(words[1])
        except (binascii.Error, IndexError, ValueError):
            return None
    return None


def _inside(data: bytes) -> bytes:
    """Return the first public key of an `openssh-key-v1` container (OpenSSH's PROTOCOL.key)."""
    message = Message(data.removeprefix(b"openssh-key-v1\0"))
    for _ in ("cipher", "key derivation", "its options"):
        message.get_string()
    message.get_int()
    return message.get_string()


def _reason(error: Exception) -> str:
    if isinstance(error, (AuthenticationException, UnableToAuthenticate)):
        return "refused"
    return str(error).split("\n")[0] or type(error).__name__
