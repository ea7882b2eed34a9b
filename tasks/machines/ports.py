"""Which TCP ports of a node are taken, and whether a process of ours is the one that listens."""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.errors import StepError
from tasks.machines.daemon import Daemon
from tasks.machines.node import Node

_TABLE = "grep -hE 'local_address| %s [0-9A-F]+:' /proc/net/tcp /proc/net/tcp6 2>/dev/null"
LISTENING = _TABLE % "0A"
"""Prints the sockets that listen. A server's ended connections, which the kernel lists too, may be a megabyte."""
WHO_LISTENS = f"{LISTENING}; echo ====; id -u; ss -Hltnp 2>/dev/null"
_LISTEN = re.compile(
    r"^\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) \S+ 0A \S+ \S+ \S+\s+(\d+)\s+\d+ (\d+)", re.MULTILINE
)

_ESTABLISHED = re.compile(r"^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) 01 ", re.MULTILINE)


class Listener(NamedTuple):
    """A socket in state LISTEN."""

    address: str
    port: int
    inode: str
    user: str
    """Number of the user whose process made it."""


def ports_taken(node: Node, address: str, ports: tuple[int, ...]) -> dict[int, str]:
    """Return those of `ports` on which something listens that is in the way at `address`, with who it is.

    Who is only known where the kernel tells this user (`ss -ltnp`); otherwise the text says so. Raises StepError where
    the kernel's table cannot be read.
    """
    table, rest = table_and_more(node, WHO_LISTENS)
    own, _, named = rest.partition("\n")
    at = (address, "0.0.0.0")  # noqa: S104 - read, not bound
    taken = {listener.port: listener.user for listener in listening(table) if listener.address in at}
    return {port: _owner(named, port, taken[port], own.strip()) for port in ports if port in taken}


def table_and_more(node: Node, command: str) -> tuple[str, str]:
    """Run a command that prints the kernel's sockets, `====`, and more; return both. Raises StepError without it.

    A port is free where the table was read and does not have it, never because nothing came.
    """
    ran = node.run(command, check=False)
    table, there, more = ran.stdout.partition("====\n")
    if not there or not table.strip():
        raise StepError(
            f"no table of its ports came, with exit code {ran.exit_code}: {ran.stderr.strip()[-200:]}",
            "/proc/net/tcp of the node",
            f"cat /proc/net/tcp on {node.spec.host}; then type it again",
            who=node.key,
        )
    return table, more


def listens(node: Node, process: Daemon, address: str, port: int) -> bool:
    """Tell whether a process of the group that `process` leads holds the listening socket of `port`.

    An answer on a port proves little: it may be somebody else's EXO. The socket's inode among our own open files does.
    """
    ran = node.run(listens_command(process), check=False)
    table, _, files = ran.stdout.partition("====")
    ours = set(re.findall(r"socket:\[(\d+)\]", files))
    at = (address, "0.0.0.0")  # noqa: S104 - read, not bound
    return any(host in at and number == port and inode in ours for host, number, inode, _ in listening(table))


def listens_command(process: Daemon) -> str:
    """Return the command that prints who listens, and every file that the group of `process` has open."""
    links = (
        "for s in /proc/[0-9]*/stat; do { read -r line <$s; } 2>/dev/null || continue; pid=${line%% *};"
        f' set -- ${{line##*) }}; [ "$3" = {process.pid} ] && readlink /proc/$pid/fd/* 2>/dev/null; done'
    )
    return f"{LISTENING}; echo ====; {links}"


def connections(node: Node, port: int) -> frozenset[str]:
    """Return the established connections of `port`, on either side, as `local remote` in the kernel's hexadecimal."""
    table = node.run(_TABLE % "01", check=False).stdout
    ends = (match for match in _ESTABLISHED.finditer(table) if port in (int(match[2], 16), int(match[4], 16)))
    return frozenset(f"{match[1]}:{match[2]} {match[3]}:{match[4]}" for match in ends)


def listening(table: str) -> set[Listener]:
    """Parse /proc/net/tcp and tcp6: the sockets in state LISTEN with their IPv4 addresses; `::` is 0.0.0.0.

    Format: Linux, Documentation/networking/proc_net_tcp.rst; addresses are little-endian words in hex.
    """
    sockets = set()
    for words, port, user, inode in _LISTEN.findall(table):
        last = words[-8:]
        if len(words) == 32 and words[:24] != "0" * 16 + "FFFF0000" and int(words, 16) != 0:
            continue  # a real IPv6 address is none that EXO is asked to use
        address = ".".join(str(int(last[i : i + 2], 16)) for i in (6, 4, 2, 0))
        sockets.add(Listener(address, int(port, 16), inode, user))
    return sockets


def _owner(named: str, port: int, user: str, own: str) -> str:
    for line in named.splitlines():
        fields = line.split()
        match = re.search(r'users:\(\("([^"]+)",pid=(\d+)', line)
        if match and len(fields) >= 4 and fields[3].endswith(f":{port}"):
            return f"{match.group(1)} (PID {match.group(2)})"
    return "a process that cannot be named" if user == own else f"a process of another user (number {user})"
