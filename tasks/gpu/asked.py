"""Several questions to a node in one round trip: each answer stands below a mark with the question's name."""

from __future__ import annotations

import re

_MARK = "@@exo-phase1@@"

# ROCm's tools are not on the PATH of a non-login shell. The files below /sys, /dev and /opt are looked for below
# $EXO_PHASE1_SYSROOT, which is empty on a real node.
PREAMBLE = f"""PATH="$PATH:/opt/rocm/bin:/usr/local/bin:/usr/sbin:/sbin"; root="${{EXO_PHASE1_SYSROOT:-}}"
tell() {{ echo "{_MARK} $1"; }}
ask() {{ tell "$1"; shift; out=$(timeout 15 "$@" 2>&1); code=$?; echo "$out"; tell "exit $code"; }}
"""
END = "tell end"


def answers(text: str) -> dict[str, str]:
    """Split what was printed by question; a tool that exits 126 or 127 is not there and has no answer."""
    found: dict[str, str] = {}
    name = ""
    for part in re.split(rf"^{re.escape(_MARK)} ", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if head.startswith("exit "):
            if head.strip() in ("exit 126", "exit 127"):
                found.pop(name, None)
            continue
        name = head.strip()
        found[name] = body
    return found
