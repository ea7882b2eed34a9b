"""Logins over genuine Tailscale SSH, where TAILSCALE names a folder with `tailscale`, `tailscaled` and `control`.

`control PORT FOLDER` is a control server on loopback, with a relay, that takes whoever comes into one tailnet and
answers a login that the policy holds with what FOLDER/verdict says, as soon as that file is there. Both nodes are of
loopback and of userspace networking: no root, no device, and nothing leaves this machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest

from records.settings import NodeSpec
from tasks import trust
from tasks.errors import StepError, UnreachableError
from tasks.init import tailscale_addresses
from tasks.machines import network, ssh_login
from tasks.machines.lab import Lab
from tasks.machines.remote import RemoteNode
from tests.support.ports import free_port
from tests.support.sshd import own_config

TAILSCALE = os.environ.get("TAILSCALE", "")
UP_S = 30.0
LETS_IN: dict[str, Any] = {"accept": True, "allowLocalPortForwarding": True}

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not all(Path(TAILSCALE, name).is_file() for name in ("tailscale", "tailscaled", "control")),
        reason="TAILSCALE names no folder with tailscale, tailscaled and control",
    ),
]


class Tailnet:
    """Two nodes of one tailnet: `there` runs Tailscale SSH, `here` is where people type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = free_port()
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Tailnet:
        self._start("control", str(self._port), str(self.folder))
        for name in ("there", "here"):
            (self.folder / name).mkdir()
            place = [f"--statedir={self.folder / name}", f"--socket={self.folder / name}/sock"]
            self._start("tailscaled", "--tun=userspace-networking", "--port=0", *place)
        for name in ("there", "here"):
            self._wait_for(self.folder / name / "sock")
            self.up(name)
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            process.terminate()
            process.wait(20)

    def ask(self, name: str, *words: str) -> str:
        """Ask a node's tailscaled."""
        argv = [f"{TAILSCALE}/tailscale", f"--socket={self.folder / name}/sock", *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=2 * UP_S).stdout

    def up(self, name: str) -> None:
        """Have a node join."""
        told = [f"--login-server=http://127.0.0.1:{self._port}", f"--hostname={name}", f"--timeout={UP_S:g}s"]
        self.ask(name, "up", *told, *(["--ssh", "--accept-risk=all"] if name == "there" else []))

    def policy(self, user: str = getuser(), **action: Any) -> None:
        """Have Tailscale SSH do this with whoever logs in as `user`."""
        rules = [{"principals": [{"any": True}], "sshUsers": {user: user}, "action": action}]
        (self.folder / "policy.json").write_text(json.dumps({"rules": rules}), encoding="utf-8")
        (self.folder / "verdict").unlink(missing_ok=True)

    def _start(self, program: str, *words: str) -> None:
        environment = os.environ | {
            "TS_DEBUG_SSH_POLICY_FILE": str(self.folder / "policy.json"),
            "TS_LOGS_DIR": str(self.folder),
            "TS_NO_LOGS_NO_SUPPORT": "true",
        }
        with (self.folder / f"{program}.log").open("ab") as log:
            argv = [f"{TAILSCALE}/{program}", *words]
            self._running.append(subprocess.Popen(argv, stdout=log, stderr=log, env=environment))

    def _wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + UP_S
        while not path.exists():
            assert time.monotonic() < deadline, (self.folder / "tailscaled.log").read_text()[-2000:]
            time.sleep(0.05)


@pytest.fixture(scope="module")
def tailnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tailnet]:
    """Bring the tailnet up once."""
    with Tailnet(tmp_path_factory.mktemp("tailnet")) as running:
        yield running


@pytest.fixture
def node(tailnet: Tailnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteNode]:
    """Return the node as `ssh there` has it: by Tailscale's own proxy, with no key at all, its host key trusted."""
    way = f"{TAILSCALE}/tailscale --socket={tailnet.folder}/here/sock nc %h %p"
    text = f"Host there\n  HostName {address(tailnet)}\n  ProxyCommand {way}\n  IdentityFile none\n"
    own_config(tmp_path, f"{text}  UserKnownHostsFile {tmp_path}/known\n", monkeypatch)
    tailnet.policy(**LETS_IN)
    made = RemoteNode("srv1", NodeSpec(host="there"))
    trust.trust_hosts(lab_of(made), ask=lambda _: "yes")
    yield made
    made.close()


def lab_of(node: RemoteNode) -> Lab:
    """Return a lab of this node alone."""
    lab = Lab.__new__(Lab)
    lab.nodes = {node.key: node}
    return lab


def address(tailnet: Tailnet) -> str:
    """Return the address of the node that runs Tailscale SSH."""
    return tailscale_addresses(tailnet.ask("here", "status", "--json"))["there"]


def test_a_login_without_proof_carries_all_we_send(node: RemoteNode, tmp_path: Path) -> None:
    """A command, a file, a tunnel, twelve sessions at once on one link: none needs a key, SFTP or an sshd."""
    assert node.run("printf '%s\\n' ünï; echo problem >&2; exit 3", check=False).stdout == "ünï\n"
    node.put(b"\0whole\n" * 9000, f"{tmp_path}/a folder/file", 0o750)
    assert (tmp_path / "a folder/file").stat().st_size == 63_000
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialled = node.dial("127.0.0.1", server.getsockname()[1], 10)
        there, _ = server.accept()
        dialled.sendall(b"hello")
        assert there.recv(9) == b"hello"
        there.close()
        dialled.close()
    every = [threading.Thread(target=node.run, args=(f"touch {tmp_path}/ran-{number}",)) for number in range(12)]
    for thread in every:
        thread.start()
    for thread in every:
        thread.join()
    assert len(list(tmp_path.glob("ran-*"))) == len(every)


def test_the_trusted_key_is_the_one_that_tailscale_names(tailnet: Tailnet, node: RemoteNode, tmp_path: Path) -> None:
    """`fab trust-hosts` says where to compare it: the node itself need not keep it where an sshd does."""
    assert node.run("echo in").stdout == "in\n"
    status = json.loads(tailnet.ask("here", "status", "--json"))
    named = [key for peer in status["Peer"].values() for key in peer["sshHostKeys"]]
    assert " ".join((tmp_path / "known").read_text().split()[1:]) in named
    assert "sshHostKeys" in trust.offered_keys(lab_of(node))[0].compare


def test_whom_the_tailnet_does_not_let_in_hears_why(tailnet: Tailnet, node: RemoteNode) -> None:
    """Another user, a rule that rejects, nobody at all: each in Tailscale's words, with where people are let in."""
    cases = [
        ("as user", "someone", LETS_IN),
        ("not in this house", getuser(), {"reject": True, "message": "not in this house\n"}),
    ]
    for words, user, action in cases:
        tailnet.policy(user, **action)
        with pytest.raises(UnreachableError, match=words) as caught:
            node.open()
        assert "access controls" in caught.value.problem.do
    (tailnet.folder / "policy.json").write_text('{"rules": []}')
    with pytest.raises(UnreachableError, match="tailnet policy does not permit you to SSH to this node"):
        node.open()


def test_the_page_to_visit_is_shown_while_the_login_waits(
    tailnet: Tailnet, node: RemoteNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check mode: the page is shown at once, the login goes on after the visit, ends with a no, or with time."""
    page = "# To authenticate, visit: https://login.example/a/1"
    held = {"message": f"{page}\n", "holdAndDelegate": "https://unused/machine/ssh/action/of/$SSH_USER"}
    tailnet.policy(**held)
    waiting = threading.Thread(target=node.open)
    waiting.start()
    shown = ""
    while page not in shown and waiting.is_alive():
        shown += capsys.readouterr().out
        time.sleep(0.05)
    assert page in shown
    (tailnet.folder / "verdict").write_text(json.dumps(LETS_IN))
    waiting.join(30)
    assert node.run("echo in").stdout == "in\n"
    node.close()
    (tailnet.folder / "verdict").write_text(json.dumps({"reject": True, "message": "the owner says no\n"}))
    with pytest.raises(UnreachableError, match="the owner says no"):
        node.open()
    monkeypatch.setattr(ssh_login, "HELD_S", 3)
    tailnet.policy(**held)
    with pytest.raises(UnreachableError, match=r"no word within 3 s .*login\.example"):
        node.open()


def test_forbidden_tunnels_are_named_with_what_forbids_them(tailnet: Tailnet, node: RemoteNode) -> None:
    """Tailscale SSH reads no sshd_config."""
    tailnet.policy(accept=True)
    with pytest.raises(StepError, match="Tailscale SSH allows no tunnel") as caught:
        node.verify_tunnel()
    assert "sshd_config" not in caught.value.problem.do


def test_what_tailscale_tells_of_the_way(tailnet: Tailnet, node: RemoteNode) -> None:
    """Over an open link the way is direct, and a stopped Tailscale says so itself."""
    assert node.run("echo in").stdout == "in\n"
    peers = {"srv1": address(tailnet)}

    def way() -> str:
        status = tailnet.ask("here", "status", "--json")
        return network.read_probe(f"@@exo-phase1@@ status\n{status}", peers, "rog").ways["srv1"].phrase

    deadline = time.monotonic() + UP_S
    while way() != "direct" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert way() == "direct"
    tailnet.ask("here", "down")
    assert way() == "not known (Tailscale is Stopped)"
    tailnet.up("here")
