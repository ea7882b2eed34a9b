"""Everything that our work writes on a node, by folder: what is ours alone, what is EXO's, and what others share.

Read from EXO's own source: helpers.py and download/ of v0.0.15-alpha, shared/constants.py of v1.0.71. EXO has one set
of folders a user, whoever installed it: what lies there may also be another EXO's of the same user.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Literal

import msgspec

from tasks.errors import StepError
from tasks.machines.node import Node
from tasks.machines.paths import LOCK, ROOT

Kind = Literal["ours", "working files", "models", "shared"]
"""`ours`: below ~/.exo-phase1. `working files` and `models`: EXO's. `shared`: caches of pip, uv, ... of this user."""


LEAST_BYTES = 10**9
"""A file system with less will fail in the middle of something: logs, lists of files, compiled kernels."""


class Place(msgspec.Struct, frozen=True):
    """A folder or file on a node, as shell text for its path (`$HOME` and `$TMPDIR` are the node's)."""

    kind: Kind
    path: str


class Leaving(msgspec.Struct, frozen=True):
    """What lies there."""

    kind: Kind
    path: str
    size_kib: int

    @property
    def words(self) -> str:
        """Return path, size and whose it is."""
        from reports.text.format import size

        whose = {"ours": "", "working files": ", EXO's", "models": ", EXO's models", "shared": ", shared with others"}
        return f"{self.path} ({size(self.size_kib * 1024)}{whose[self.kind]})"


def places(environment: Mapping[str, str]) -> list[Place]:
    """Return where EXO, under `environment` of hosts.yaml, and what installs it write."""

    def folder(variable: str, otherwise: str) -> str:
        return _shell(environment[variable]) if variable in environment else f'"$HOME"/{otherwise}'

    def xdg(variable: str, otherwise: str) -> str:
        if "EXO_HOME" in environment:  # 1.x takes it from the home folder on, whatever it is
            return _below_home(environment["EXO_HOME"])
        return folder(variable, otherwise) + "/exo"

    temporary = _shell(environment["TMPDIR"]) if "TMPDIR" in environment else '"${TMPDIR:-/tmp}"'
    data = xdg("XDG_DATA_HOME", ".local/share")
    more = [environment.get("EXO_DEFAULT_MODELS_DIR", ""), *environment.get("EXO_MODELS_DIRS", "").split(":")]
    found = [
        Place("ours", f'"$HOME"/{ROOT}'),
        *(Place("models", path) for path in (folder("EXO_HOME", ".cache/exo"), f"{data}/models")),
        *(Place("models", _shell(path)) for path in more if path),
        *(Place("working files", path) for path in (data, xdg("XDG_CONFIG_HOME", ".config"))),
        Place("working files", xdg("XDG_CACHE_HOME", ".cache")),
        *(Place("working files", f"{temporary}/{name}") for name in ("exo", "exo_animations", "exo_used_ports")),
        Place("working files", f"{temporary}/.exo_node_id"),
        Place("shared", '"$HOME"/Documents/Exo'),  # pictures that its user had made
        *(Place("shared", f'"$HOME"/{name}') for name in (".cache/pip", ".npm", ".cargo/registry")),
        Place("shared", folder("UV_CACHE_DIR", ".cache/uv")),
        Place("shared", folder("HF_HOME", ".cache/huggingface")),
        Place("shared", folder("XDG_CACHE_HOME", ".cache") + "/tinygrad"),
    ]
    return list({place.path: place for place in reversed(found)}.values())[::-1]


def look(node: Node, environment: Mapping[str, str]) -> list[Leaving]:
    """Return which of the places there are on a node, with their sizes; one inside another counts once, in its own."""
    wanted = places(environment)
    ran = node.run(look_command(environment), check=False, timeout_s=300)
    found = re.findall(r"^(\d+)\t(.*)\t(\d+)$", ran.stdout, re.MULTILINE)
    return [Leaving(wanted[int(number)].kind, path, int(size)) for number, path, size in found]


def look_command(environment: Mapping[str, str]) -> str:
    """Return the command that prints which of the places there are, with their sizes."""
    wanted = places(environment)
    lines = [f"{_is_there(place)} && printf '%s\\t%s\\t' {n} {place.path} && {_size(place, wanted)}" for n, place in
             enumerate(wanted)]  # fmt: skip
    return "\n".join(lines) + "\ntrue"


class Room(msgspec.Struct, frozen=True):
    """How much room there is where something is written."""

    kind: Kind
    path: str
    mount: str
    free_bytes: int
    writable: bool


def room_command(environment: Mapping[str, str]) -> str:
    """Return the command that asks for the room at every place, of the folder above where it is not there yet."""
    asked = "\n".join(f"room {number} {place.path}" for number, place in enumerate(places(environment)))
    return f"""room() {{
  at=$2; while [ ! -e "$at" ]; do at=$(dirname "$at"); done
  set -- "$1" "$2" $(df -Pk "$at" 2>/dev/null | awk 'NR==2 {{print $4, $6}}')
  printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$([ -w "$at" ] && echo yes)"
}}
{asked}"""


def read_rooms(text: str, environment: Mapping[str, str]) -> list[Room]:
    """Read what `room_command` printed."""
    wanted = places(environment)
    rows = re.findall(r"^(\d+)\t(.*)\t(\d+)\t(.+)\t(yes|)$", text, re.MULTILINE)
    return [Room(wanted[int(n)].kind, path, mount, int(free) * 1024, bool(can)) for n, path, free, mount, can in rows]


def cramped(key: str, rooms: list[Room]) -> list[str]:
    """Return what is in the way of writing, a sentence for each file system or folder."""
    from reports.text.format import size

    least: dict[str, Room] = {}
    for room in rooms:
        least.setdefault(room.mount, room)
    short = [room for room in least.values() if room.free_bytes < LEAST_BYTES]
    words = [
        f"{key}: {room.mount} has {size(room.free_bytes)} free, and {room.path} is written there" for room in short
    ]
    return words + [f"{key}: {room.path} cannot be written" for room in rooms if not room.writable]


# A folder that stays may lie inside one that goes: 1.x keeps its models below its other files.
_REMOVE = """remove() {  # $1, but not the folders after it
  local root=$1 entry kept; shift
  for kept; do [ "$kept" = "$root" ] && return; done
  for kept; do case "$kept" in "$root"/*)
    for entry in "$root"/* "$root"/.[!.]* "$root"/..?*; do
      [ -e "$entry" ] || [ -L "$entry" ] && remove "$entry" "$@"
    done
    rmdir "$root" 2>/dev/null
    return;;
  esac; done
  rm -rf -- "$root" || failed=1
}
failed=0
"""


def remove(node: Node, leavings: list[Leaving], kept: list[Leaving]) -> None:
    """Remove what was found, but not what of `kept` lies inside it. Raises StepError where something else stays.

    The lock stays while this command holds it, and goes at its end.
    """
    for leaving in leavings:
        _refuse_wide(node, leaving.path)
    paths = shlex.join(leaving.path for leaving in leavings)
    spared = shlex.join([f"{node.home()}/{ROOT}/{LOCK}", *(leaving.path for leaving in kept)])
    each = "\n".join(f"remove {shlex.quote(leaving.path)} {spared}" for leaving in leavings)
    ran = node.run(f"{_REMOVE}{each}\nexit $failed", check=False, timeout_s=600)
    if not ran.ok:
        raise StepError(
            f"rm: {(ran.stderr.strip() or 'no word').splitlines()[-1]}",
            "everything of ours removed",
            f"look at it on {node.spec.host}: ls -ld {paths}",
            who=node.key,
        )


def _refuse_wide(node: Node, path: str) -> None:
    """Refuse to remove a whole home folder or file system that a variable of hosts.yaml names."""
    home = node.home()
    if path.rstrip("/") in ("", home) or home.startswith(path.rstrip("/") + "/") or path.count("/") < 2:
        raise StepError(f"{path} is no folder of EXO's alone", "a folder of its own", "remove it by hand", who=node.key)


def _is_there(place: Place) -> str:
    if place.kind == "ours":
        return f'[ -n "$(ls -A {place.path} 2>/dev/null | grep -vx {LOCK})" ]'
    return f"[ -e {place.path} ]"


def _size(place: Place, wanted: list[Place]) -> str:
    inside = [other.path for other in wanted if other.path.startswith(place.path + "/")]
    apart = f" - 10#0$(du -skc {' '.join(inside)} 2>/dev/null | tail -n 1 | cut -f1)" if inside else ""
    return f"echo $(( 10#0$(du -sk {place.path} 2>/dev/null | cut -f1){apart} ))"


def _shell(path: str) -> str:
    return '"$HOME"/' + shlex.quote(path[2:]) if path.startswith("~/") else shlex.quote(path)


def _below_home(path: str) -> str:
    return shlex.quote(path) if path.startswith("/") else '"$HOME"/' + shlex.quote(path)
