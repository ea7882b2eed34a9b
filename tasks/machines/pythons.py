"""Find a Python on a node that fits a release of EXO and can make a venv."""

from __future__ import annotations

import re

import msgspec

from tasks.errors import StepError
from tasks.machines.node import Node

# Non-login shells lack the user's PATH: the usual places of pyenv, uv and conda are looked into as well. A file is run
# once, whatever its names, and without `site`: most of the time that preflight takes is that of starting Pythons.
PROBE = r"""
more="$HOME/.local/bin:$HOME/.pyenv/shims:$HOME/miniconda3/bin:/opt/conda/bin"
{ printf '%s:' "$PATH:$more" "$HOME"/.pyenv/versions/*/bin "$HOME"/.local/share/uv/python/*/bin; echo; } |
  tr : '\n' | awk 'NF && !seen[$0]++' | while IFS= read -r p; do
  for e in "$p"/python3 "$p"/python3.[0-9] "$p"/python3.[0-9][0-9]; do
    [ -x "$e" ] || continue
    file=$(readlink -f "$e")
    case "$seen" in *"|$file|"*) continue;; esac
    seen="$seen|$file|"
    timeout 10 "$e" -I -S -c 'import os, sys
from importlib.util import find_spec
can = "venv" if find_spec("venv") and find_spec("ensurepip") else "no-venv"
if "t" in getattr(sys, "abiflags", ""):
    can = "free-threaded"
me = sys.executable or "?"
print("@@python", "%d.%d.%d" % sys.version_info[:3], can, me, os.path.realpath(me), sep="\t")' </dev/null 2>/dev/null
  done
done
true
"""
_LINE = re.compile(r"^@@python\t(\d+\.\d+\.\d+)\t(venv|no-venv|free-threaded)\t(/[^\t\n]+)\t([^\t\n]+)$", re.MULTILINE)
_CLAUSE = re.compile(r"(>=|<=|==|!=|<|>)\s*(\d+(?:\.\d+)*)")


_STATES = {"venv": "", "no-venv": " without venv", "free-threaded": " free-threaded"}


class Python(msgspec.Struct, frozen=True):
    """One interpreter of a node."""

    path: str
    version: str
    state: str
    """`venv`: it can make one. `no-venv`, and `free-threaded`: no wheel is made for that build."""


def fitting_python(node: Node, wanted: str, best: str = "") -> Python:
    """Return the node's first Python that fits `wanted` (`>=3.12,<3.14`) and can make a venv; asked once a node.

    One that fits `best` as well comes first. Raises StepError naming every Python that was found.
    """
    if "pythons" not in node.remembered:
        remember_pythons(node, node.run(PROBE, timeout_s=60).stdout)
    pythons: list[Python] = node.remembered["pythons"]
    good = [python for python in pythons if python.state == "venv" and fits(python.version, wanted)]
    if good:
        return next((python for python in good if fits(python.version, best)), good[0])
    versions = ", ".join(f"{p.version}{_STATES[p.state]} ({p.path})" for p in pythons)
    raise StepError(
        f"has {versions or 'no python3'}",
        f"a Python {wanted} with venv",
        f"on {node.spec.host}: install one (apt install python3.12 python3.12-venv, or pyenv, or uv python install)",
        who=node.key,
    )


def probe_command() -> str:
    """Return the command that finds every Python of a node, for those who ask more in the same round trip."""
    return PROBE


def remember_pythons(node: Node, printed: str) -> None:
    """Keep what `probe_command` printed on `node` for `fitting_python`."""
    node.remembered["pythons"] = parse_pythons(printed)


def parse_pythons(text: str) -> list[Python]:
    """Read what the probe printed; each interpreter once, in the order of the search path."""
    seen: dict[str, Python] = {}
    for version, state, path, same in _LINE.findall(text):
        seen.setdefault(same, Python(path, version, state))
    return list(seen.values())


def fits(version: str, wanted: str) -> bool:
    """Tell whether `version` (`3.12.1`) satisfies every clause of `wanted` (`>=3.12,<3.14`).

    A clause compares as many numbers as it names, so `==3.13` takes every 3.13.x, as people mean it.
    """
    numbers = tuple(int(n) for n in version.split("."))
    for operator, limit in _CLAUSE.findall(wanted):
        bound = tuple(int(n) for n in limit.split("."))
        have = numbers[: len(bound)] if operator in ("==", "!=", "<=", ">") else numbers
        verdict = {
            ">=": have >= bound,
            "<=": have <= bound,
            "==": have == bound,
            "!=": have != bound,
            "<": have < bound,
            ">": have > bound,
        }[operator]
        if not verdict:
            return False
    return True
