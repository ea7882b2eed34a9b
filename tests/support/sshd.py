"""A genuine OpenSSH server on loopback, run as whoever runs the tests, and an `ssh` that reads a configuration of ours.

OpenSSH looks for ~/.ssh/config in the home folder of the user database, whatever HOME says; the `ssh` that is put on
PATH is the genuine one with `-F FILE`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

import msgspec
import pytest

from records.settings import NodeSpec

SSH = shutil.which("ssh")
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
needs_sshd = pytest.mark.skipif(not (SSH and SSHD and shutil.which("ssh-keygen")), reason="OpenSSH is not here")


class Server(msgspec.Struct, frozen=True):
    """A running sshd."""

    folder: Path
    port: int

    @property
    def home(self) -> Path:
        """HOME of its sessions."""
        return self.folder / "home"

    @property
    def key(self) -> Path:
        """The private key it lets in."""
        return self.folder / "id"

    @property
    def host_key(self) -> str:
        """Kind and key, as known_hosts has it."""
        return " ".join((self.folder / "host.pub").read_text(encoding="utf-8").split()[:2])

    @property
    def spec(self) -> NodeSpec:
        """The node of hosts.yaml that it is."""
        known = self.folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {self.host_key}\n", encoding="utf-8")
        return NodeSpec(host="127.0.0.1", port=self.port, identity_file=str(self.key), known_hosts=str(known))

    @property
    def said(self) -> str:
        """Its log."""
        return (self.folder / "sshd.log").read_text(encoding="utf-8")


def new_key(path: Path, *more: str, passphrase: str = "") -> Path:
    """Make a key pair with ssh-keygen."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path, *more], check=True)
    return path


@contextmanager
def sshd(folder: Path, *lines: str, environment: str = "") -> Iterator[Server]:
    """Run sshd with further lines of sshd_config; what stands in `environment` is set for its sessions."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(folder, port)
    for path in (folder / "host", server.key):
        if not path.exists():
            new_key(path)
    server.home.mkdir(exist_ok=True)
    shutil.copy(folder / "id.pub", folder / "authorized")
    config = f"""{os.linesep.join(lines)}
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv HOME={server.home} {environment}
"""
    (folder / "sshd_config").write_text(config, encoding="utf-8")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD
    log = (folder / "sshd.log").open("w")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield server
    finally:
        process.terminate()
        process.wait()
        log.close()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens."""
    for _ in range(200):
        assert process.poll() is None, "sshd ended; see sshd.log"
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("sshd does not listen")


def own_config(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have `ssh` read `text` as its configuration, and no agent be known."""
    config, program = folder / "ssh_config", folder / "bin" / "ssh"
    config.write_text(text, encoding="utf-8")
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {SSH} -F "{config}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return config


def block(name: str, server: Server, *lines: str) -> str:
    """Return the Host block by which a server is reached and trusted."""
    server.spec  # noqa: B018 - writes its known_hosts
    own = {line.split()[0] for line in lines}
    usual = (
        "HostName 127.0.0.1",
        f"Port {server.port}",
        f"User {getuser()}",
        f"IdentityFile {server.key}",
        f"UserKnownHostsFile {server.folder}/known_hosts",
    )
    return "\n  ".join([f"Host {name}", *lines, *(line for line in usual if line.split()[0] not in own)]) + "\n"
