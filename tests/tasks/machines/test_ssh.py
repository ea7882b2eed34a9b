"""Nodes over real SSH: strict host keys, time-outs that hold on both ends, output whole, every offender named."""

from __future__ import annotations

import base64
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from records.settings import NodeSpec
from rehearsal.layout import Layout
from tasks import trust
from tasks.errors import StepError, UnreachableError
from tasks.machines import ssh
from tasks.machines.http import call
from tasks.machines.lab import Lab
from tasks.machines.remote import RemoteNode
from tasks.machines.wire import Request
from tests.support import processes


def other_spec(lab: Lab, **change: object) -> NodeSpec:
    """Return srv1's spec with `change`."""
    return msgspec.structs.replace(lab.nodes["srv1"].spec, **change)


def test_command_comes_back_whole(lab: Lab) -> None:
    """Output, errors and exit code arrive as they were, for odd words too, and a megabyte loses no byte."""
    node = lab.nodes["srv1"]
    ran = node.run("printf '%s' \"a'b \\$HOME ünï\"; echo problem >&2; exit 3", check=False)
    assert (ran.stdout, ran.stderr, ran.exit_code) == ("a'b $HOME ünï", "problem\n", 3)
    big = node.run("head -c 1000000 /dev/zero | tr '\\0' x")
    assert len(big.stdout) == 1_000_000


def test_lines_come_as_they_are_printed(lab: Lab) -> None:
    """A line is handed on before the command ends."""
    seen: list[str] = []
    file = f"{lab.nodes['srv1'].home()}/go-on"
    helper = threading.Thread(target=lambda: _when(lambda: seen == ["first"], lambda: Path(file).touch()))
    helper.start()
    lab.nodes["srv1"].run(f"echo first; until [ -e '{file}' ]; do sleep 0.05; done; echo second", on_line=seen.append)
    helper.join()
    assert seen == ["first", "second"]


def test_failed_command_says_where_and_what(lab: Lab) -> None:
    """A command that fails names its node, its exit code and its last words."""
    with pytest.raises(StepError, match=r"rog: exit code 7: no room"):
        lab.nodes["rog"].run("echo no room >&2; exit 7")


def test_time_out_holds_on_the_node(lab: Lab) -> None:
    """A command that overstays is ended on the node too: nothing is left running there."""
    node = lab.nodes["srv1"]
    ran = node.run("echo $$; exec sleep 321", timeout_s=1, check=False)
    assert ran.exit_code == 124
    assert node.run(f"kill -0 {ran.stdout.strip()}", check=False).exit_code != 0


def test_nodes_work_side_by_side(lab: Lab, tmp_path: Path) -> None:
    """All three commands run at once: each waits until the other two have started."""
    all_there = f"[ $(ls {tmp_path} | wc -l) = 3 ]"
    command = f"touch {tmp_path}/$HOSTNAME; for i in $(seq 200); do {all_there} && exit; sleep 0.05; done; exit 1"
    assert set(lab.each(lambda node: node.run(command).exit_code)) == {"srv1", "srv2", "rog"}


def test_one_connection_is_kept(lab: Lab) -> None:
    """Many commands and a tunnel share one SSH connection."""
    node = lab.nodes["srv2"]
    assert isinstance(node, RemoteNode)
    link = node.link()
    for _ in range(3):
        node.run("true")
    assert node.link() is link


def test_unknown_host_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    """A node whose key is in no known_hosts is refused, and the message says to type `fab trust-hosts`."""
    (tmp_path / "known_hosts").touch()
    node = RemoteNode("srv1", other_spec(lab, known_hosts=str(tmp_path / "known_hosts")))
    with pytest.raises(UnreachableError, match="is not in") as caught:
        node.run("true")
    assert caught.value.problem.do == "fab trust-hosts"


def test_changed_host_key_is_refused(lab: Lab, nodes: Layout, tmp_path: Path) -> None:
    """A node that shows another key than the known one is refused as CHANGED, with both fingerprints."""
    lines = (nodes.root / "known_hosts").read_text(encoding="utf-8").splitlines()
    keys = [line.split()[2] for line in lines]
    mine, foreign = lines[0].split()[0], next(key for key in keys if key != keys[0])
    (tmp_path / "known_hosts").write_text(f"{mine} ssh-ed25519 {foreign}\n", encoding="utf-8")
    spec = next(s for s in (n.spec for n in lab.nodes.values()) if mine == f"[{s.host}]:{s.port}")
    node = RemoteNode("srv1", msgspec.structs.replace(spec, known_hosts=str(tmp_path / "known_hosts")))
    with pytest.raises(UnreachableError, match="CHANGED") as caught:
        node.run("true")
    assert "ssh-keygen" in caught.value.problem.do


def test_every_offender_is_named_at_once(lab: Lab) -> None:
    """Where several nodes fail, one error has a problem for each, with what that one said."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    without_key = other_spec(lab, identity_file="/nonexistent/key")
    lab.nodes["srv1"] = RemoteNode("srv1", other_spec(lab, port=port))
    lab.nodes["srv2"] = RemoteNode("srv2", without_key)
    with pytest.raises(UnreachableError) as caught:
        lab.each(lambda node: node.run("true"))
    refused, without = caught.value.problems
    assert (refused.what, without.what) == ("srv1", "srv2")
    assert str(port) in refused.found
    assert "/nonexistent/key" in without.found


def test_wrong_user_key_is_named(lab: Lab, tmp_path: Path) -> None:
    """A key that the node does not accept is an authentication problem, not a traceback."""
    import asyncssh

    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "id")
    node = RemoteNode("srv1", other_spec(lab, identity_file=str(tmp_path / "id")))
    with pytest.raises(UnreachableError, match="refuses the login"):
        node.run("true")


def test_silent_server_is_given_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts and never says a word ends with the banner time-out instead of hanging."""
    monkeypatch.setattr(ssh, "BANNER_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        node = RemoteNode("srv1", other_spec(lab, host="127.0.0.1", port=mute.getsockname()[1]))
        with pytest.raises(UnreachableError, match="srv1:"):
            node.run("true")


def test_unknown_name_is_named(lab: Lab) -> None:
    """A host name that nobody knows is said to be unknown."""
    node = RemoteNode("srv1", other_spec(lab, host="no-such-host.invalid"))
    with pytest.raises(UnreachableError, match="unknown"):
        node.run("true")


def test_files_arrive_whole_and_with_their_mode(lab: Lab) -> None:
    """A file is there under its name only when it is complete, in a folder that was made, with the mode asked for."""
    node = lab.nodes["rog"]
    path, data = f"{node.home()}/deep/er/it's here", os.urandom(300_000)
    node.put(data, path, 0o750)
    assert Path(path).read_bytes() == data
    assert Path(path).stat().st_mode & 0o777 == 0o750
    assert [p.name for p in Path(path).parent.iterdir()] == ["it's here"]


def test_unwritable_place_is_a_step_error(lab: Lab) -> None:
    """A place that cannot be written is named with its node."""
    with pytest.raises(StepError, match="srv1"):
        lab.nodes["srv1"].put(b"x", "/proc/no/such/place")


def test_tunnel_to_a_port_that_refuses(lab: Lab) -> None:
    """A tunnel to a closed port is "no answer", quickly, and the next one through the same link works."""
    node, address = lab.nodes["srv1"], lab.addresses()["srv1"]
    assert call(node, address, 9, Request("GET", "/")).status == 0
    url = lab.inventory.ollama["srv1"].url
    host, port = url.removeprefix("http://").split(":")
    assert call(node, host, int(port), Request("GET", "/")).text == "Ollama is running"


def test_trust_adds_only_what_is_confirmed(lab: Lab, tmp_path: Path) -> None:
    """Fingerprints are shown; `yes` adds the key, anything else does not, and the added key is then accepted."""
    file = tmp_path / "ssh" / "known_hosts"
    for key in ("srv1", "srv2", "rog"):
        spec = msgspec.structs.replace(lab.nodes[key].spec, known_hosts=str(file))
        lab.nodes[key] = RemoteNode(key, spec)
    offered = trust.offered_keys(lab)
    assert {key.node for key in offered if not key.known} == {"srv1", "srv2", "rog"}
    trust.trust_hosts(lab, ask=lambda _: "no")
    assert not file.exists()
    trust.trust_hosts(lab, ask=lambda _: "yes")
    assert all(key.known for key in trust.offered_keys(lab))
    assert lab.each(lambda node: node.run("echo hello").stdout) == dict.fromkeys(("srv1", "srv2", "rog"), "hello\n")
    assert offered[0].fingerprint.startswith("SHA256:")
    assert len(base64.b64decode(offered[0].key_base64)) > 30


def test_cut_link_ends_the_command(lab: Lab, nodes: Layout) -> None:
    """When the node's SSH server dies in mid-command the call ends with an error instead of hanging for good."""
    node = lab.nodes["srv2"]
    server = f"rehearsal.node_server\0{nodes.root}/nodes/srv2/node.json"
    pid = next(pid for pid, line in processes.files("cmdline") if server.encode() in line)
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(UnreachableError, match="srv2"):
        node.run("sleep 30")


def _when(condition: Callable[[], bool], act: Callable[[], None]) -> None:
    for _ in range(200):
        if condition():
            act()
            return
        time.sleep(0.05)


def test_a_body_that_comes_after_its_headers_is_read(lab: Lab) -> None:
    """On a slow link the headers of a closing answer come first: the channel must stay open for the body."""
    here = lab.addresses()["srv1"]
    with socket.create_server((here, 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n")
                time.sleep(0.3)
                connection.sendall(b"body")

        threading.Thread(target=answer, daemon=True).start()
        reply = call(lab.nodes["srv1"], here, server.getsockname()[1], Request("GET", "/"))
    assert (reply.status, reply.text) == (200, "body")
