"""A node behind a gateway (ssh_config's ProxyJump): reached strictly, trusted through it, and never left hanging."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from records.settings import NodeSpec
from rehearsal.layout import USER, Layout
from tasks import trust
from tasks.errors import UnreachableError
from tasks.machines.lab import Lab
from tasks.machines.remote import RemoteNode
from tests.support.sshd import own_config


@pytest.fixture
def behind(nodes: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteNode]:
    """Give srv2 as a node that only srv1 reaches, by the name that an ssh_config gives it."""
    config = "".join(
        f"Host {name}\n  HostName {nodes.node(key).address}\n  Port {nodes.node(key).ssh_port}\n  User {USER}\n"
        f'  IdentityFile "{nodes.root / "id_ed25519"}"\n{more}'
        for name, key, more in (("behind", "srv2", "  ProxyJump gate\n"), ("gate", "srv1", ""))
    )
    identity, known = str(nodes.root / "id_ed25519"), str(tmp_path / "known_hosts")
    own_config(tmp_path, config + f"Host *\n  UserKnownHostsFile {known}\n", monkeypatch)
    (tmp_path / "known_hosts").write_text((nodes.root / "known_hosts").read_text(encoding="utf-8"), encoding="utf-8")
    node = RemoteNode("srv2", NodeSpec(host="behind", identity_file=identity, known_hosts=known))
    yield node
    node.close()


def forget(node: RemoteNode, nodes: Layout, key: str) -> None:
    """Take a node's key out of the known ones."""
    assert node.spec.known_hosts is not None
    file, name = Path(node.spec.known_hosts), f"[{nodes.node(key).address}]:{nodes.node(key).ssh_port} "
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(name)), encoding="utf-8")


def test_command_goes_through_the_gateway(behind: RemoteNode) -> None:
    """The command runs on the node and not on its gateway, and the socket to the gateway notices a dead link."""
    assert behind.run("hostname").stdout == "ndnlinuxsrv2\n"
    gate = behind.login.gateway
    assert gate is not None
    assert gate.connection.transport.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    behind.close()
    assert not gate.alive


def test_unknown_gateway_is_named_and_not_the_node(behind: RemoteNode, nodes: Layout) -> None:
    """The message speaks of the machine whose key is unknown, and says to log in there by hand."""
    forget(behind, nodes, "srv1")
    gate = nodes.node("srv1")
    with pytest.raises(UnreachableError, match=f"the host key of {gate.address}:{gate.ssh_port} is not in") as caught:
        behind.run("true")
    assert "ssh gate true" in caught.value.problem.do or "ssh -p" in caught.value.problem.do


def test_unknown_node_behind_a_known_gateway_is_refused(behind: RemoteNode, nodes: Layout) -> None:
    """A tunnel through a trusted machine makes the one behind it no more trusted."""
    forget(behind, nodes, "srv2")
    with pytest.raises(UnreachableError, match=f"the host key of {nodes.node('srv2').address}") as caught:
        behind.run("true")
    assert caught.value.problem.do == "fab trust-hosts"


def test_trust_asks_through_the_gateway(behind: RemoteNode, nodes: Layout, lab: Lab) -> None:
    """`fab trust-hosts` shows the key of the node itself, asked through its gateway, and adds it on a yes."""
    forget(behind, nodes, "srv2")
    lab.nodes = {"srv2": behind}
    trust.trust_hosts(lab, ask=lambda _: "yes")
    assert behind.run("hostname").stdout == "ndnlinuxsrv2\n"
    forget(behind, nodes, "srv1")
    with pytest.raises(UnreachableError, match=str(nodes.node("srv1").address)):
        trust.offered_keys(lab)
