"""A login to genuine OpenSSH as the user's own ssh_config has it: what `ssh HOST true` enters, we enter."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
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


@pytest.mark.parametrize(
    "before",
    [
        "Match localnetwork 10.99.8.0/24\n  ProxyJump x\n",
        "Match tagged work\n  ProxyJump x\n",
        "Match final all\n  User x\n",
    ],
)
def test_whatever_this_ssh_makes_of_it_is_done(
    before: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keywords that one version knows and another refuses: where this ssh enters we do, else its words are told."""
    own_config(tmp_path, f"Match {before}" + block("node", server), monkeypatch)
    if ssh_enters("node"):
        assert enter("node") == "in"
    else:
        assert f"{tmp_path}/ssh_config line 1" in refused("node").problem.found


@pytest.mark.parametrize(
    "line",
    [
        "ForkAfterAuthentication yes",
        "RemoteCommand tmux new -A",
        "SessionType none",
        "RequestTTY force",
        "StdinNull yes",
    ],
)
def test_what_is_set_for_people_at_a_terminal_changes_nothing(
    line: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command of the user's own, a terminal, a login in the background: our commands run as they are."""
    own_config(tmp_path, block("node", server, line), monkeypatch)
    assert enter("node") == "in"


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


@contextmanager
def agent_with(sock: Path, *words: str | Path) -> Iterator[None]:
    """Run an agent at `sock` that was given what `ssh-add` makes of the words."""
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    try:
        while not sock.exists():
            assert agent.poll() is None
        environment = {"SSH_AUTH_SOCK": str(sock), "PATH": "/usr/bin"}
        subprocess.run(["ssh-add", "-q", *words], check=True, env=environment, capture_output=True)
        yield
    finally:
        agent.terminate()
        agent.wait()


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
    others = [new_key(tmp_path / f"k{number}") for number in range(6)]  # more than the server lets anybody try
    with agent_with(sock, *others, server.key):
        assert ssh_enters("node")
        assert (enter("node"), enter("pub")) == ("in", "in")
        own_config(tmp_path, block("node", server, f"IdentityAgent {sock}", "IdentityFile none"), monkeypatch)
        assert not ssh_enters("node")
        assert "IdentitiesOnly yes" in refused("node").problem.do


def test_an_agent_that_will_not_sign_is_named(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that wants its owner's yes for each use, and nobody to ask: the advice is not to copy the key once more."""
    sock = tmp_path / "agent"
    with agent_with(sock, "-c", server.key):
        own_config(tmp_path, block("node", server, f"IdentityAgent {sock}", "IdentityFile none"), monkeypatch)
        assert not ssh_enters("node")
        assert "the agent must sign" in refused("node").problem.do


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run an sshd that trusts an authority, and shows a certificate of its own host key by it."""
    folder = tmp_path_factory.mktemp("certified")
    authority = new_key(folder / "authority")
    new_key(folder / "host")
    sign(authority, folder / "host.pub", "-h", "-n", "127.0.0.1")
    lines = (f"TrustedUserCAKeys {authority}.pub", f"HostCertificate {folder}/host-cert.pub", "MaxAuthTries 3")
    with sshd(folder, *lines) as running:
        yield running


def sign(authority: Path, public: Path, *how: str) -> Path:
    """Have an authority sign a public key; return the certificate, which lies beside it."""
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "x", *how, public], check=True)
    return public.with_name(f"{public.stem}-cert.pub")


@pytest.mark.parametrize("where", ["beside", "named", "missing", "of another key", "expired", "broken"])
def test_certificates_are_shown_as_ssh_shows_them(
    where: str, certified: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside its key or named; one that is missing, expired, broken or another key's keeps no key out."""
    key = new_key(tmp_path / "mine")
    certificate = sign(certified.folder / "authority", key.with_suffix(".pub"), "-n", getuser())
    certificate.chmod(0o600)
    named = tmp_path / "named-cert.pub"
    if where == "named":
        certificate.rename(named)
    elif where in ("expired", "broken"):
        shutil.copy(certified.key, key)
        shutil.copy(certified.key.with_suffix(".pub"), key.with_suffix(".pub"))
        sign(certified.folder / "authority", key.with_suffix(".pub"), "-n", getuser(), "-V", "20200101:20200102")
        if where == "broken":
            certificate.write_text("no certificate\n", encoding="utf-8")
    elif where != "beside":
        key = certified.key
        if where == "of another key":
            named = certificate
    lines = [f"IdentityFile {key}", "IdentitiesOnly yes"]
    lines += [f"CertificateFile {named}"] if where in ("named", "missing", "of another key") else []
    own_config(tmp_path, block("node", certified, *lines), monkeypatch)
    assert ssh_enters("node")
    assert enter("node") == "in"


def test_an_authority_for_host_keys_is_named(
    certified: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is known by its certificate alone is not entered: the line is named, and what adds the key."""
    known = tmp_path / "known"
    public = (certified.folder / "authority.pub").read_text(encoding="utf-8")
    known.write_text(f"# ours\n@cert-authority * {public}", encoding="utf-8")
    own_config(tmp_path, block("node", certified, f"UserKnownHostsFile {known}"), monkeypatch)
    assert ssh_enters("node")
    problem = refused("node").problem
    assert f"{known} line 2, @cert-authority, is not followed here" in problem.found
    assert problem.do == "fab trust-hosts"


@pytest.mark.parametrize("kept", ["text", "by ssh-keygen", "missing"])
def test_a_list_of_revoked_host_keys_counts(
    kept: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RevokedHostKeys in both of its forms; without the file ssh takes every key for revoked, and so do we."""
    revoked, others = tmp_path / "revoked", new_key(tmp_path / "other").with_suffix(".pub")
    for keys, enters in (([others], True), ([others, server.folder / "host.pub"], False)):
        if kept == "by ssh-keygen":
            subprocess.run(["ssh-keygen", "-q", "-k", "-f", revoked, *keys], check=True)
        elif kept == "text":
            revoked.write_text("".join(key.read_text(encoding="utf-8") for key in keys), encoding="utf-8")
        else:
            enters = False
        own_config(tmp_path, block("node", server, f"RevokedHostKeys {revoked}"), monkeypatch)
        assert ssh_enters("node") is enters
        if enters:
            assert enter("node") == "in"
        else:
            assert "revoke" in refused("node").problem.found
            lines = (f"RevokedHostKeys {revoked}", f"UserKnownHostsFile {tmp_path}/none yet")
            own_config(tmp_path, block("node", server, *lines), monkeypatch)
            lab = Lab.__new__(Lab)
            lab.nodes = {"srv1": RemoteNode("srv1", NodeSpec(host="node"))}
            with pytest.raises(StepError, match="revoke"):
                trust.offered_keys(lab)


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
    """Five ways not to be reached are five messages."""
    monkeypatch.setattr(ssh, "CONNECT_TIMEOUT_S", 0.3)
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        closed.bind(("127.0.0.1", 0))
        with socket.create_connection(deaf.getsockname()):
            where = {
                "unknown": ("no-such-name.invalid", 22, "unknown"),
                "refusing": ("127.0.0.1", closed.getsockname()[1], "refuses the connection"),
                "deaf": ("127.0.0.1", deaf.getsockname()[1], "does not answer within"),
                "far": ("2001:db8::1", 22, "no route to [2001:db8::1]:22"),
                "four": ("127.0.0.1", 22, "'127.0.0.1' has no address of the kind"),
            }
            text = "Host four\n  AddressFamily inet6\n"
            text += "".join(f"Host {n}\n  HostName {h}\n  Port {p}\n" for n, (h, p, _) in where.items())
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


@pytest.mark.parametrize(
    "line",
    [
        "KexAlgorithms sntrup761x25519-sha512@openssh.com",
        "Ciphers chacha20-poly1305@openssh.com",
        "Ciphers aes128-ctr\nMACs umac-128-etm@openssh.com",
    ],
)
def test_a_server_that_speaks_only_what_paramiko_lacks_is_named(line: str, tmp_path: Path) -> None:
    """That ssh itself enters is no advice: the message says what to allow there."""
    with sshd(tmp_path, line) as other:
        node = RemoteNode("rog", other.spec)
        with pytest.raises(UnreachableError, match="speaks no SSH that is known here") as caught:
            node.run("true")
    assert f"{line.split()[-2]} +" in caught.value.problem.do


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
