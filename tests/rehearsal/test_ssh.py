"""The rehearsal's SSH nodes as an SSH client finds them: real streams, signals, files, tunnels, a life of their own."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from fabric import Connection
from paramiko import RejectPolicy, SSHException

from rehearsal.layout import HOSTNAMES, NODES, USER, Layout
from tasks.machines.lab import Lab
from tests.support.slow_server import all_answers_come_whole


def connect(nodes: Layout, key: str) -> Connection:
    """Open a strict connection to a node."""
    node = nodes.node(key)
    settings = {"key_filename": str(nodes.root / "id_ed25519"), "allow_agent": False, "look_for_keys": False}
    made = Connection(node.address, user=USER, port=node.ssh_port, connect_kwargs=settings)
    made.client.load_system_host_keys(str(nodes.root / "known_hosts"))
    made.client.set_missing_host_key_policy(RejectPolicy())
    made.open()
    return made


def said(link: Connection, command: str) -> str:
    """Run a command and return its output."""
    return str(link.run(command, hide=True, in_stream=False).stdout)


@pytest.mark.parametrize("key", NODES)
def test_each_node_is_a_machine_of_its_own(nodes: Layout, key: str) -> None:
    """Host name, home, user and PATH are the node's, and nothing of the caller's environment gets there."""
    with connect(nodes, key) as link:
        name, home, user, path = said(link, "hostname; pwd; echo $USER; echo $PATH").splitlines()
        assert (name, home, user) == (HOSTNAMES[key], str(nodes.node(key).home), USER)
        assert path.startswith(f"{nodes.node(key).bin}:/")
        assert "PYTEST" not in said(link, "env")


def test_no_output_is_lost(nodes: Layout) -> None:
    """Of 60 short commands on one link, three at a time, every byte of both streams comes back."""
    with connect(nodes, "srv1") as link:
        wrong: list[int] = []

        def some(start: int) -> None:
            for number in range(start, 60, 3):
                ran = link.run(f"echo out{number}; echo err{number} >&2", hide=True, in_stream=False)
                if (ran.stdout, ran.stderr) != (f"out{number}\n", f"err{number}\n"):
                    wrong.append(number)

        threads = [threading.Thread(target=some, args=(start,)) for start in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(said(link, "head -c 3000000 /dev/zero | tr '\\0' x")) == 3_000_000


def test_exit_codes_and_signals(nodes: Layout) -> None:
    """An exit code comes back as it is, death by a signal as -1."""
    with connect(nodes, "rog") as link:
        codes = [link.run(c, hide=True, warn=True, in_stream=False).exited for c in ("exit 7", "kill -9 $$", "true")]
        assert codes == [7, -1, 0]


def test_standard_input_reaches_the_command(nodes: Layout) -> None:
    """What the client writes arrives, and its end of input ends the command."""
    with connect(nodes, "srv1") as link:
        channel = link.transport.open_session()
        channel.exec_command("wc -c")
        channel.sendall(b"x" * 100_000)
        channel.shutdown_write()
        assert channel.makefile().read().strip() == b"100000"


def test_background_process_survives_the_link(nodes: Layout) -> None:
    """A process with all streams redirected lives on after the connection, and its folder is the node's home."""
    with connect(nodes, "srv2") as link:
        pid = said(link, "setsid nohup sleep 60 >log 2>&1 </dev/null & echo $!").strip()
    with connect(nodes, "srv2") as link:
        assert said(link, f"ps -o args= -p {pid}").strip() == "sleep 60"
        link.run(f"kill {pid}", in_stream=False)


def test_a_client_that_goes_away_stops_nobody(nodes: Layout) -> None:
    """A command whose client vanished meets a closed pipe when it writes, not a signal; the node serves on."""
    link = connect(nodes, "srv2")
    link.transport.open_session().exec_command("echo $$ > running; sleep 1; touch went-on; sleep 600")
    home = nodes.node("srv2").home
    _until(lambda: (home / "running").exists() and (home / "running").read_text().strip() != "")
    link.transport.sock.close()
    _until(lambda: (home / "went-on").exists())
    with connect(nodes, "srv2") as again:
        again.run(f"kill -- -{(home / 'running').read_text().strip()}", in_stream=False)


def test_files_go_both_ways(nodes: Layout, tmp_path: Path) -> None:
    """SFTP writes below the home folder or anywhere the user may, and reads it back."""
    with connect(nodes, "rog") as link:
        (tmp_path / "data").write_bytes(bytes(range(256)) * 1000)
        link.put(str(tmp_path / "data"), "uploaded")
        assert said(link, "stat -c %s uploaded").strip() == "256000"
        link.get(str(nodes.node("rog").home / "uploaded"), str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()


@pytest.mark.parametrize("host", ["own", "localhost", "127.0.0.1"])
def test_tunnels_reach_the_nodes_ports(nodes: Layout, host: str) -> None:
    """A tunnel through srv1 reaches its Ollama by its address, and by `localhost`, which is the node's own."""
    target = nodes.node("srv1").address if host == "own" else host
    with connect(nodes, "srv1") as link:
        channel = link.transport.open_channel("direct-tcpip", (target, nodes.ollama_port), ("127.0.0.1", 0))
        channel.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert b"Ollama is running" in channel.makefile().read()
        with pytest.raises(SSHException, match="Connect failed"):
            link.transport.open_channel("direct-tcpip", (target, 1), ("127.0.0.1", 0))


def test_foreign_host_key_is_refused(nodes: Layout) -> None:
    """A strict client that does not know the host key does not get in: each node has a key of its own."""
    keys = (nodes.root / "known_hosts").read_text().splitlines()
    assert len({line.split()[2] for line in keys}) == 3
    node = nodes.node("srv1")
    stranger = Connection(node.address, user=USER, port=node.ssh_port)
    stranger.client.set_missing_host_key_policy(RejectPolicy())
    with pytest.raises(SSHException, match="not found in known_hosts"):
        stranger.open()


def test_short_commands_are_quick(nodes: Layout) -> None:
    """A no-op takes tens of milliseconds, not the hundreds that a missing TCP_NODELAY would cost."""
    with connect(nodes, "srv1") as link:
        link.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(15):
            begin = time.monotonic()
            said(link, "true")
            times.append(time.monotonic() - begin)
        assert min(times) < 0.2  # it would cost every one of them, as a busy machine does not


def _until(true: object, seconds: float = 15.0) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_tunnel_brings_the_whole_of_a_slow_answer(nodes: Layout, lab: Lab) -> None:
    """400 kB after a pause and in pieces, as OpenSSH brings them."""
    all_answers_come_whole(lab.nodes["srv2"], nodes.node("srv2").address)
