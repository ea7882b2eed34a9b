"""Lines of a command's output are handed over as they come, and what the taker raises is raised."""

from __future__ import annotations

import errno
from contextlib import closing
from pathlib import Path

import pytest

from records.settings import NodeSpec
from tasks.machines.local import LocalNode
from tasks.machines.node import Node
from tasks.machines.remote import RemoteNode
from tests.support.sshd import needs_sshd, sshd


def a_taker_that_fails_ends_the_command(node: Node) -> None:
    """Expect the very error, without the threads' own words around it, and a node that can be used further."""

    def full(line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "logs/samples")

    with pytest.raises(OSError, match="No space left") as raised:
        node.run("echo 1; sleep 0.2; echo 2", on_line=full)
    assert raised.value.errno == errno.ENOSPC
    assert node.run("echo 3").stdout == "3\n"


def test_a_full_disk_here_is_told_as_such_in_a_local_command() -> None:
    """A thread's traceback on the terminal, and a command that waits for its reader, are no message."""
    a_taker_that_fails_ends_the_command(LocalNode("srv1", NodeSpec(host="localhost", local=True)))


@needs_sshd
def test_a_full_disk_here_is_told_as_such_in_a_command_over_ssh(tmp_path: Path) -> None:
    """Invoke wraps what its threads raise; it was taken for an error that nobody foresaw."""
    with sshd(tmp_path) as server, closing(RemoteNode("rog", server.spec)) as node:
        a_taker_that_fails_ends_the_command(node)
