"""Preflight asks a node for what the build of EXO 1.x needs, and each thing that is missing has its remedy."""

from __future__ import annotations

import socket
import sys
import threading

import msgspec
import pytest

from records.settings import Exo, NodeSpec
from tasks.exo import gen1
from tasks.machines import reach
from tasks.machines.local import LocalNode

GIT = Exo("1.0.71", "git+https://github.com/exo-explore/exo@v1.0.71")
WHOLE = """uv=0.8.9
node=20.20.2
npm=10.8.2
git=2.39.5
cc=/usr/bin/cc
cargo=cargo 1.97.0-nightly (abc 2026-04-14)
files=1048576
waits=
"""


def test_a_node_that_has_everything_lacks_nothing() -> None:
    """As told by the command's own words."""
    assert gen1.lacking(WHOLE, GIT) == []


@pytest.mark.parametrize(
    ("was", "now", "found", "do"),
    [
        ("uv=0.8.9", "uv=", "has uv none", "pipx install uv"),
        ("uv=0.8.9", "uv=0.7.22", "has uv 0.7.22", "pipx install uv"),
        ("node=20.20.2", "node=16.3", "has node 16.3", "nodejs"),
        ("npm=10.8.2", "npm=", "has npm none", "npm"),
        ("git=2.39.5", "git=", "has git none", "apt-get install git"),
        ("cc=/usr/bin/cc", "cc=", "has no C compiler", "build-essential"),
        ("1.97.0-nightly", "1.95.0", "has cargo cargo 1.95.0", "rustup toolchain install nightly"),
        ("files=1048576", "files=1024", "allows 1024 open files", "limits.conf"),
        ("waits=", "waits=yes", "another uv holds the lock", "share a home folder"),
    ],
)
def test_each_thing_that_is_missing_is_told_with_its_remedy(was: str, now: str, found: str, do: str) -> None:
    """One thing at a time, and nothing else is complained of."""
    (lack,) = gen1.lacking(WHOLE.replace(was, now), GIT)
    assert found.removeprefix("has cargo ") in lack.found
    assert do in lack.do


def test_a_wheel_needs_none_of_it_and_a_folder_no_git() -> None:
    """What is built already is not built again."""
    assert gen1.lacking("", msgspec.structs.replace(GIT, source="/srv/exo-1.0.71-py3-none-any.whl")) == []
    assert gen1.lacking(WHOLE.replace("git=2.39.5", "git="), msgspec.structs.replace(GIT, source="/srv/exo")) == []


def test_a_node_really_tells_what_it_has() -> None:
    """The command runs on this machine and names every tool, those included that are not here."""
    node = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    told = node.run(gen1.lacking_command(), check=False).stdout
    assert [line.partition("=")[0] for line in told.splitlines()] == [
        line.partition("=")[0] for line in WHOLE.splitlines()
    ]


def test_ports_that_a_node_does_not_reach_are_found() -> None:
    """Two nodes on loopback try each other; what one cannot bind and nobody serves is named, what is served is not."""
    addresses = {"srv1": "127.0.3.1", "srv2": "127.0.3.2"}
    with socket.create_server(("127.0.3.2", 0)) as served:
        port = served.getsockname()[1]
        ports = {"srv1": (port, 49153), "srv2": (port, 49153)}
        node, printed = LocalNode("srv1", NodeSpec(host="localhost", local=True)), {}

        def ask(key: str) -> None:
            command = reach.command(sys.executable, key, addresses, ports)
            printed[key] = node.run(
                command.replace("try:\n        kept.append", HALF + "kept.append"), check=False
            ).stdout

        threads = [threading.Thread(target=ask, args=(key,)) for key in addresses]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert reach.read(printed["srv2"], "srv2") == []
    assert [(key, number) for key, number, _ in reach.read(printed["srv1"], "srv1")] == [("srv2", 49153)]


HALF = 'try:\n        if (own, port) == ("127.0.3.2", 49153): raise OSError\n        '
"""As behind a firewall: srv2's ring port cannot be reached."""
