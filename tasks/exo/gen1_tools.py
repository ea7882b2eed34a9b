"""What a node must have before EXO 1.x is built on it, asked before any work, with what brings each.

The build takes tens of minutes on a node and fails at the first tool that is missing.
"""

from __future__ import annotations

import re

from records.settings import Exo
from tasks.exo.interface import Lacking
from tasks.exo.sources import kind_of
from tasks.machines.paths import TOOL_PATH

OPEN_FILES = 4096
"""EXO raises its own limit as far as the hard one goes."""

_ASK = (
    TOOL_PATH
    + r"""
say() { printf '%s=%s\n' "$1" "$2"; }
say uv "$(uv --version 2>/dev/null | sed -n 's/^uv \([0-9.]*\).*/\1/p')"
say node "$(node --version 2>/dev/null | tr -d v)"
say npm "$(npm --version 2>/dev/null)"
say git "$(git --version 2>/dev/null | sed -n 's/^git version \([0-9.]*\).*/\1/p')"
say cc "$(command -v cc)"
say cargo "$(RUSTUP_TOOLCHAIN=nightly cargo --version 2>/dev/null || cargo --version 2>/dev/null)"
say files "$(ulimit -Hn)"
lock=$(uv cache dir 2>/dev/null)/.lock
say waits "$([ -f "$lock" ] && command -v flock >/dev/null && ! flock -n "$lock" true && echo yes)"
"""
)


def lacking_command() -> str:
    """Return the command that prints what a node has."""
    return _ASK


def lacking(told: str, exo: Exo) -> list[Lacking]:
    """Read its output; returns what the node lacks to build `exo`."""
    if kind_of(exo.source) == "file":
        return []  # a wheel brings everything built
    has = dict(line.partition("=")[::2] for line in told.splitlines())
    wanted = [
        ("uv", "0.8.6", "install uv for the user on the node: pipx install uv"),
        ("node", "18", "apt-get install nodejs npm, or a newer Node.js where the system's is older"),
        ("npm", "1", "apt-get install npm"),
        *([("git", "2", "apt-get install git")] if kind_of(exo.source) == "git" else []),
    ]
    found = [
        Lacking(f"has {name} {has.get(name) or 'none'}", f"{name} >= {least}", do)
        for name, least, do in wanted
        if _version(has.get(name, "")) < _version(least)
    ]
    if not has.get("cc"):
        found.append(Lacking("has no C compiler", "cc, which links the Rust part", "apt-get install build-essential"))
    if "nightly" not in has.get("cargo", ""):
        found.append(
            Lacking(
                f"has {has.get('cargo') or 'no cargo'}",
                "Rust nightly",
                "install rustup for the user on the node, then: rustup toolchain install nightly",
            )
        )
    files = has.get("files", "")
    if files.isdigit() and int(files) < OPEN_FILES:
        do = "raise the hard limit: `* hard nofile 65535` in /etc/security/limits.conf, then log in again"
        found.append(Lacking(f"allows {files} open files", f"{OPEN_FILES} for EXO", do, stops=False))
    if has.get("waits") == "yes":
        do = "wait for it, or end it; nodes that share a home folder share its cache and install one after the other"
        found.append(
            Lacking("another uv holds the lock of the user's cache", "a free cache, or patience", do, stops=False)
        )
    return found


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
