"""`fab trust-hosts`: show the nodes' host keys and add them to known_hosts only when the owner says yes."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import Any

import msgspec
from paramiko import Transport
from paramiko.ssh_exception import SSHException

from tasks import console
from tasks.machines.known_hosts import fingerprint
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.remote import RemoteNode
from tasks.machines.ssh import CONNECT_TIMEOUT_S, Connecting
from tasks.machines.ssh_options import options_of


class HostKey(msgspec.Struct, frozen=True):
    """One node's key as it presents it now."""

    node: str
    name: str
    """As known_hosts writes it: `host`, or `[host]:port` for another port than 22."""
    kind: str
    key_base64: str
    file: str
    known: bool
    compare: str
    """What its owner types to see it on a way that is not this one."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, as `ssh-keygen -l` shows it."""
        return fingerprint(base64.b64decode(self.key_base64))


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
        console.text(f"    compare {key.compare}")
        try:
            answer = ask(f"    add it to {key.file}? type yes: ")
        except EOFError:
            answer = ""
        if answer.strip() == "yes":
            add_keys([key])
            console.text("    added")
        else:
            console.text("    not added")


def _offered(node: Node) -> HostKey:
    login = Connecting(node.key, node.spec, options_of(node.key, node.spec))
    file = login.trusted_file
    try:
        sock = login.dial()
        with contextlib.closing(sock):
            transport = Transport(sock)
            transport.start_client(timeout=CONNECT_TIMEOUT_S)
            key = transport.get_remote_server_key()
            tailscale = "Tailscale" in transport.remote_version
            transport.close()
    except (OSError, SSHException, EOFError) as error:
        raise login.explain(error) from error
    finally:
        login.close()
    if login.known:
        login.check(key)
    login.check_revoked(key)
    compare = f"on that machine: ssh-keygen -lf /etc/ssh/ssh_host_{key.get_name().split('-')[-1]}_key.pub"
    if tailscale:
        compare = "with its sshHostKeys in what `tailscale status --json` prints: ssh-keygen -lf - shows one's SHA256"
    return HostKey(node.key, login.options.known_as, key.get_name(), key.get_base64(), file, bool(login.known), compare)
