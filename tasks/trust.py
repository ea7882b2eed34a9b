"""`fab trust-hosts`: show the nodes' host keys and add them to known_hosts only when the owner says yes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tasks import console
from tasks.errors import StepError
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.remote import RemoteNode
from tasks.machines.ssh import CONNECT_TIMEOUT_S, be_strict, close, explain, known_hosts_file, new_connection


class HostKey(msgspec.Struct, frozen=True):
    """One node's key as it presents it now."""

    node: str
    name: str
    """As known_hosts writes it: `host`, or `[host]:port` for another port than 22."""
    kind: str
    key_base64: str
    file: str
    known: bool

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, as `ssh-keygen -l` shows it."""
        digest = hashlib.sha256(base64.b64decode(self.key_base64)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def offered_keys(lab: Lab) -> list[HostKey]:
    """Ask every remote node for its host key, side by side, without logging in. Raises StepError."""
    remote = [key for key, node in lab.nodes.items() if isinstance(node, RemoteNode)]
    return list(lab.each(_offered, remote).values()) if remote else []


def add_keys(keys: list[HostKey]) -> None:
    """Append `keys` to their known_hosts files, which are made (mode 600) where missing."""
    for key in keys:
        path = Path(key.file)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        torn = path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + f"{key.name} {key.kind} {key.key_base64}\n")


def trust_hosts(lab: Lab, ask: Any = input) -> None:
    """Show each unknown key's fingerprint and add those that the owner confirms with `yes`.

    A key that differs from a known one is never added here: that takes `ssh-keygen -R` first.
    """
    for key in offered_keys(lab):
        if key.known:
            console.text(f"{key.node}: {key.name} {key.kind} {key.fingerprint} is known already")
            continue
        console.text(f"{key.node}: {key.name} presents {key.kind} {key.fingerprint}")
        console.text(f"    compare on that machine: ssh-keygen -lf /etc/ssh/ssh_host_{key.kind.split('-')[-1]}_key.pub")
        try:
            answer = ask(f"    add it to {key.file}? type yes: ")
        except EOFError:
            answer = ""
        if answer.strip() == "yes":
            add_keys([key])
            console.text("    added")
        else:
            console.text("    not added")


@contextlib.contextmanager
def _dialled(node: Node, connection: Any, trusted: Path) -> Iterator[Any]:
    """Give a stream to the node's SSH port, through its gateway where it has one, whose own key must be known."""
    if not connection.gateway:
        with socket.create_connection((connection.host, connection.port), CONNECT_TIMEOUT_S) as sock:
            yield sock
        return
    be_strict(connection, trusted)
    try:
        try:
            sock = connection.open_gateway()
        except Exception as error:
            raise explain(node.key, node.spec, connection, trusted, error) from error
        with contextlib.closing(sock):
            yield sock
    finally:
        close(connection)


def _offered(node: Node) -> HostKey:
    from paramiko import HostKeys, Transport
    from paramiko.ssh_exception import SSHException

    connection = new_connection(node.spec)
    name = connection.host if connection.port == 22 else f"[{connection.host}]:{connection.port}"
    file = known_hosts_file(node.spec, connection.ssh_config)
    try:
        with _dialled(node, connection, file) as sock:
            transport = Transport(sock)
            transport.start_client(timeout=CONNECT_TIMEOUT_S)
            key = transport.get_remote_server_key()
            transport.close()
    except (OSError, SSHException, EOFError) as error:
        raise StepError(
            f"{connection.host}:{connection.port}: {error}", "an SSH server", "is it up?", who=node.key
        ) from error
    known = HostKeys(str(file)) if file.is_file() else HostKeys()
    entry = known.lookup(name)
    if entry and key.get_name() in entry and entry[key.get_name()] != key:
        raise StepError(
            f"{name} presents another key than {file} names",
            "the key you trusted before",
            f"find out why; if the new key is right: ssh-keygen -f {file} -R '{name}' && fab trust-hosts",
            who=node.key,
        )
    return HostKey(node.key, name, key.get_name(), key.get_base64(), str(file), known.check(name, key))
