"""A login to genuine OpenSSH as the user's own ssh_config has it: what `ssh HOST true` enters, we enter."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from records.settings import NodeSpec
from tasks import trust
from tasks.errors import StepError, UnreachableError
from tasks.machines import ssh
from tasks.machines.lab import Lab
from tasks.machines.remote import RemoteNode
from tests.support.sshd import SSH, Server, block, needs_sshd, new_key, own_config, sshd

pytestmark = needs_sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one sshd for the tests of this file."""
    with sshd(tmp_path_factory.mktemp("sshd"), "MaxAuthTries 4") as running:
        yield running


def enter(name: str) -> str:
    """Log in to a name of the ssh_config and return what the node says."""
    node = RemoteNode("srv1", NodeSpec(host=name))
    try:
        return node.run("echo in").stdout.strip()
    finally:
        node.close()


def ssh_enters(name: str) -> bool:
    """Tell whether ssh itself gets in, asking nobody."""
    return (
        subprocess.run(["ssh", "-o", "BatchMode=yes", name, "true"], capture_output=True, check=False).returncode == 0
    )


def refused(name: str) -> UnreachableError:
    """Return the error of a login that must not succeed."""
    with pytest.raises(UnreachableError) as caught:
        enter(name)
    return caught.value


def test_includes_patterns_and_matches_count(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Include, a negated pattern, Match host, Match exec, and `Match final all` before the block are followed."""
    (tmp_path / "more.conf").write_text(block("alias*", server), encoding="utf-8")
    text = f"""Match final all
  ForwardAgent no
Match host=*.office.example
  User other
Host *
  Include {tmp_path}/more.conf
Host * !alias1
  HostName wrong.invalid
Match exec "test %h = alias9"
  Port 1
"""
    own_config(tmp_path, text, monkeypatch)
    assert ssh_enters("alias1")
    assert enter("alias1") == "in"


def test_what_ssh_refuses_is_said_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that ssh cannot read is passed on with file and line, and nothing is dialled."""
    own_config(tmp_path, "Host srv2\n  Prot 22\n", monkeypatch)
    problem = refused("srv2").problem
    assert f"{tmp_path}/ssh_config: line 2: Bad configuration option: prot" in problem.found


@pytest.mark.parametrize("kept", ["plain", "hashed", "alias", "several", "portless", "pattern", "broken lines"])
def test_host_keys_are_known_as_ssh_knows_them(
    kept: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any file of a list, hashed, under an alias, without its port, as a pattern, after a line that is broken."""
    known, name = tmp_path / "known", f"[127.0.0.1]:{server.port}"
    name = {"alias": "else", "portless": "127.0.0.1", "pattern": "!10.0.0.1,[127.0.0.?]:*"}.get(kept, name)
    broken = b"@cert-authority * ssh-rsa AAA\nh\xf6st ssh-rsa AA=A\n\tx\n" if kept == "broken lines" else b""
    known.write_bytes(broken + f"{name}\t{server.host_key} a comment\r\n".encode())
    if kept == "hashed":
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    files = f'UserKnownHostsFile "{tmp_path}/no such" {known}' if kept == "several" else f"UserKnownHostsFile {known}"
    own_config(tmp_path, block("node", server, files, *(["HostKeyAlias else"] if kept == "alias" else [])), monkeypatch)
    assert ssh_enters("node")
    assert enter("node") == "in"


def test_several_keys_of_one_kind_are_all_good(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node may have two keys of a kind in known_hosts, as when one is replaced; a revoked one never enters."""
    other = " ".join(new_key(tmp_path / "other").with_suffix(".pub").read_text().split()[:2])
    known = tmp_path / "known"
    name = f"[127.0.0.1]:{server.port}"
    known.write_text(f"{name} {other}\n{name} {server.host_key}\n", encoding="utf-8")
    own_config(tmp_path, block("node", server, f"UserKnownHostsFile {known}"), monkeypatch)
    assert enter("node") == "in"
    known.write_text(f"{name} {other}\n", encoding="utf-8")
    changed = refused("node").problem
    assert "CHANGED" in changed.found
    assert f"{known} names in line 1" in changed.needed
    known.write_text(f"{name} {server.host_key}\n@revoked * {server.host_key}\n", encoding="utf-8")
    assert "revokes" in refused("node").problem.found


@pytest.mark.parametrize("none", ["/dev/null", "none"])
def test_a_user_who_keeps_no_host_keys_stays_strict(
    none: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """StrictHostKeyChecking no and no known_hosts file: ssh enters blindly, we say what to set instead."""
    lines = (f"UserKnownHostsFile {none}", "StrictHostKeyChecking no")
    own_config(tmp_path, block("node", server, *lines), monkeypatch)
    assert "nodes.srv1.known_hosts" in refused("node").problem.do


def test_an_agent_opens_a_locked_key(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked IdentityFile whose key the agent holds enters, also by its .pub alone; without the agent it is named."""
    locked, sock = tmp_path / "locked", tmp_path / "agent"
    shutil.copy(server.key, locked)
    shutil.copy(f"{server.key}.pub", f"{locked}.pub")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "word", "-f", locked], check=True, capture_output=True)
    lines = (f"IdentityFile {locked}", "IdentitiesOnly yes", f"IdentityAgent {sock}")
    own_config(
        tmp_path,
        block("node", server, *lines) + block("pub", server, f"IdentityFile {locked}.pub", *lines[1:]),
        monkeypatch,
    )
    problem = refused("node").problem
    assert f"{locked} (wants a passphrase)" in problem.found
    assert problem.do.startswith(f"ssh-add {locked}")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    try:
        for number in range(6):  # more than the server lets anybody try
            new_key(tmp_path / f"k{number}")
        while not sock.exists():
            assert agent.poll() is None
        keys = [*(tmp_path / f"k{number}" for number in range(6)), server.key]
        subprocess.run(["ssh-add", "-q", *keys], check=True, env={"SSH_AUTH_SOCK": str(sock), "PATH": "/usr/bin"})
        assert ssh_enters("node")
        assert (enter("node"), enter("pub")) == ("in", "in")
        own_config(tmp_path, block("node", server, f"IdentityAgent {sock}", "IdentityFile none"), monkeypatch)
        assert not ssh_enters("node")
        assert "IdentitiesOnly yes" in refused("node").problem.do
    finally:
        agent.terminate()
        agent.wait()


def test_proxies_are_gone_through(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ProxyJump over two machines of the configuration, and a ProxyCommand that only a shell understands."""
    command = f"ProxyCommand {SSH} -F {tmp_path}/ssh_config -W %h:%p gate 2>/dev/null"
    blocks = [block("node", server, "ProxyJump first,gate"), block("gate", server), block("first", server)]
    own_config(tmp_path, "".join([*blocks, block("command", server, command)]), monkeypatch)
    assert enter("node") == "in"
    assert enter("command") == "in"
    own_config(tmp_path, block("node", server, "ProxyCommand echo no way to %n >&2; exit 3"), monkeypatch)
    assert "no way to node" in refused("node").problem.found


def test_a_jump_in_a_circle_is_named(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines that are each other's ProxyJump end in a message and not in a recursion."""
    own_config(tmp_path, block("a", server, "ProxyJump b") + block("b", server, "ProxyJump a"), monkeypatch)
    assert "circle" in refused("a").problem.found or "loop" in refused("a").problem.found


def test_no_such_name_refused_no_answer_no_route(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four ways not to be reached are four messages."""
    monkeypatch.setattr(ssh, "CONNECT_TIMEOUT_S", 0.3)
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        closed.bind(("127.0.0.1", 0))
        with socket.create_connection(deaf.getsockname()):
            where = {
                "unknown": ("no-such-name.invalid", 22, "unknown"),
                "refusing": ("127.0.0.1", closed.getsockname()[1], "refuses the connection"),
                "deaf": ("127.0.0.1", deaf.getsockname()[1], "does not answer within"),
                "far": ("2001:db8::1", 22, "no route to [2001:db8::1]:22"),
            }
            text = "".join(f"Host {n}\n  HostName {h}\n  Port {p}\n" for n, (h, p, _) in where.items())
            own_config(tmp_path, text, monkeypatch)
            for name, (*_, words) in where.items():
                if name == "far" and socket.has_ipv6 and _routes_ipv6():
                    continue
                assert words in refused(name).problem.found


def test_options_that_cannot_be_followed_are_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a login fails and the configuration sets what paramiko cannot do, the message names these options."""
    lines = ("PKCS11Provider /usr/lib/card.so", "KnownHostsCommand /bin/keys %h", "IdentityFile none")
    own_config(tmp_path, block("node", server, *lines), monkeypatch)
    found = refused("node").problem.found
    assert "pkcs11provider" in found
    assert "knownhostscommand" in found


def test_a_server_that_takes_passwords_alone_is_named(tmp_path: Path) -> None:
    """The message says what the server takes, and what must be set there."""
    with sshd(tmp_path, "PubkeyAuthentication no", "PasswordAuthentication yes") as other:
        node = RemoteNode("rog", other.spec)
        with pytest.raises(UnreachableError, match=r"takes no key, only .*password") as caught:
            node.run("true")
    assert "PubkeyAuthentication yes" in caught.value.problem.do


def test_trust_adds_under_the_name_that_ssh_uses(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fab trust-hosts` writes to the user's first file, under the HostKeyAlias, and ssh enters by it."""
    known = tmp_path / "first"
    own_config(tmp_path, block("node", server, f"UserKnownHostsFile {known}", "HostKeyAlias other"), monkeypatch)
    assert refused("node").problem.do == "fab trust-hosts"
    node = RemoteNode("srv1", NodeSpec(host="node"))
    lab = Lab.__new__(Lab)
    lab.nodes = {"srv1": node}
    trust.trust_hosts(lab, ask=lambda _: "yes")
    assert known.read_text().startswith("other ssh-ed25519 ")
    assert ssh_enters("node")
    assert enter("node") == "in"


def _routes_ipv6() -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        return sock.connect_ex(("2001:db8::1", 22)) == 0


def test_a_tunnel_that_is_forbidden_is_named(tmp_path: Path) -> None:
    """`AllowTcpForwarding no` is named with the line to change; a port that refuses is only a refusal."""
    with sshd(tmp_path, "AllowTcpForwarding no") as strict:
        node = RemoteNode("srv1", strict.spec)
        with pytest.raises(StepError) as caught:
            node.dial("127.0.0.1", 1, 5)
        node.close()
    assert "AllowTcpForwarding yes" in caught.value.problem.do
