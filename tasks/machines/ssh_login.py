"""Who we are, to an SSH server: the keys that ssh itself would offer, in its order, and why none was taken.

ssh asks first whether it needs to prove anything (method `none`, by which Tailscale SSH lets people in), then offers
the agent's keys that the configuration names, the agent's others unless IdentitiesOnly, and last the keys in files.
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import paramiko
from paramiko import AuthenticationException, Message, PKey
from paramiko.agent import AgentKey, AgentSSH
from paramiko.auth_handler import AuthOnlyHandler
from paramiko.auth_strategy import AuthResult, AuthStrategy, NoneAuth, SourceResult
from paramiko.common import cMSG_SERVICE_REQUEST, cMSG_USERAUTH_REQUEST
from paramiko.ssh_exception import BadAuthenticationType, PartialAuthentication, SSHException, UnableToAuthenticate

from tasks.machines.ssh_options import SshOptions

_POLL_S = 0.002
_LOOK_S = 0.05
TELL_AFTER_S = 2
HELD_S = 300
"""A server that has said something may wait for a person."""
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
        self._wait()
        return self.wait_for_response(self.auth_event)

    def _wait(self) -> None:
        """Wait for the answer, and longer where a server that wants no proof has said something first.

        Tailscale SSH in its check mode names a page to visit, and answers when somebody was there.
        """
        begin, told, transport = time.monotonic(), False, cast("LoginTransport", self.transport)
        assert self.auth_event
        while not self.auth_event.wait(_LOOK_S) and transport.is_active():
            waited_s, said = time.monotonic() - begin, transport.said if self.auth_method == "none" else ""
            if said and not told and waited_s > TELL_AFTER_S:
                told = True
                transport.on_hold(said)
            if said and waited_s > HELD_S:
                raise RefusedError(f"no word within {HELD_S:g} s after it said: {said}", "do what it says, then again")
            if not said and waited_s > transport.auth_timeout:
                raise TimeoutError(f"no word on the login within {transport.auth_timeout:g} s")

    def _parse_userauth_banner(self, m: Message) -> None:
        """Keep what the server says to people before it lets anybody in."""
        transport = cast("LoginTransport", self.transport)
        transport.said = " ".join(f"{transport.said} {m.get_string().decode('utf-8', 'replace')}".split())


class LoginTransport(paramiko.ServiceRequestingTransport):  # type: ignore[misc, name-defined]
    """paramiko's transport that asks for the login service once, as servers written in Go and in Python want it.

    Where a link dies in silence, paramiko waits for good in the key exchange; TimeoutError is raised here.
    """

    said = ""
    """What the server has said to people."""
    on_hold: Callable[[str], None]
    """Called with that where it then says no more for a while."""

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
        self.unwilling = False
        """Whether the agent would not sign with a key that the server takes."""

    def authenticate(self, transport: Any) -> AuthResult:
        """Log in. Raises RefusedError."""
        user = self.options.user
        try:
            allowed = list(transport.auth_none(user))
            if transport.is_authenticated():
                return self._done("none")
        except BadAuthenticationType as error:
            allowed = list(error.allowed_types)
        except AuthenticationException as error:
            if isinstance(error, RefusedError) or not transport.said:
                raise
            raise _turned_away(transport) from error
        if not allowed:
            raise _turned_away(transport)
        if "publickey" in allowed:
            for name, key in self._keys():
                try:
                    further = transport.auth_publickey(user, key)
                except PartialAuthentication as error:
                    further = error.allowed_types
                except (SSHException, ValueError) as error:
                    self.unwilling |= isinstance(key, AgentKey) and not isinstance(error, AuthenticationException)
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
        if self.unwilling:
            return RefusedError(found, f"ssh {self.options.name} true  # the agent must sign; it may ask its owner")
        return RefusedError(found, f"ssh-copy-id {self.options.name}, or set user or identity_file in hosts.yaml")

    def _keys(self) -> Iterator[tuple[str, PKey]]:
        """Yield the keys to offer, each with its name for people, in the order of ssh."""
        options = self.options
        there = filter(os.path.isfile, options.keys)  # Path.is_file raises where a folder may not be looked into
        named = {path: public_part(Path(path)) for path in there}
        missing = [path for path in options.keys if path not in named and not Path(path).name.startswith("id_")]
        self.tried += [f"{path} (no such file that could be read)" for path in missing]
        agent = self._agent()
        try:
            held = {key.asbytes(): key for key in agent.get_keys()} if agent else {}
            ours = [(path, held[blob]) for path, blob in named.items() if blob in held]
            for path, key in ours:
                yield from self._certified(f"{path} from the agent", key, path)
            if not options.only_these_keys:
                others = [key for blob, key in held.items() if blob not in named.values()]
                yield from ((f"{key.comment or key.get_name()} from the agent", key) for key in others)
            for path, blob in named.items():
                if blob not in held:
                    yield from self._from_file(path)
        finally:
            if agent:
                agent.close()

    def _agent(self) -> _Agent | None:
        try:
            return _Agent(self.options.agent) if self.options.agent else None
        except (OSError, SSHException):
            self.tried.append(f"no agent answers at {self.options.agent}")
            return None

    def _from_file(self, path: str) -> Iterator[tuple[str, PKey]]:
        try:
            # By this name no certificate lies beside it: paramiko would load one, and fail where that is broken.
            with Path(path).open("rb") as file:
                key = PKey.from_path(f"/proc/self/fd/{file.fileno()}")
        except TypeError:
            self.locked.append(path)
            self.tried.append(f"{path} (wants a passphrase)")
            return
        except Exception as error:  # paramiko and cryptography have a dozen words for a file that is no private key
            self.tried.append(f"{path} (cannot be read: {_reason(error)})")
            return
        yield from self._certified(path, key, path)

    def _certified(self, name: str, key: PKey, path: str) -> Iterator[tuple[str, PKey]]:
        """Yield a key with each certificate that was made for it, and last by itself."""
        for certificate in dict.fromkeys((*self.options.certificates, f"{path}-cert.pub")):
            if certifies(Path(certificate), key.asbytes()):
                key.load_certificate(certificate)
                yield f"{name} with {certificate}", key
        key.public_blob = None
        yield name, key


def certifies(certificate: Path, key: bytes) -> bool:
    """Tell whether a file holds an OpenSSH certificate for a public key: its kind, a nonce, then the key's numbers."""
    try:
        blob = Message(base64.b64decode(certificate.read_bytes().split()[1]))
    except (OSError, IndexError, ValueError):
        return False
    plain = Message(key)
    plain.get_string()
    if b"-cert-" not in blob.get_string():
        return False
    blob.get_string()
    return blob.get_remainder().startswith(plain.get_remainder())


def _turned_away(transport: Any) -> RefusedError:
    """Return the error for a server that asks for no proof and lets nobody in; Tailscale SSH does so."""
    found = f"it asks for no proof and says: {transport.said or 'nothing'}"
    if "Tailscale" not in transport.remote_version:
        return RefusedError(found, "")
    return RefusedError(
        found,
        "let this user in (`ssh` in the tailnet's access controls), or `tailscale set --ssh=false` there for its sshd",
    )


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
