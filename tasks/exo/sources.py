"""Where EXO is installed from, as shell text: a git URL, a folder, a wheel or an sdist. For both generations."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

_SKIPPED = (".git", "build", "*.egg-info", "__pycache__", "node_modules", "target", ".venv")
"""What a build leaves in a source folder, and its history; never copied."""


# pip and npm begin a line with what it is; uv draws a tree and goes on below its branches. Both quote what they ran in
# whole, of which the errors tell; and where an index cannot be reached, pip warns of that and then finds no version.
_TELLING = r"""
{ low = tolower($0) }
low ~ /^ *error: exception: *$/ || low ~ /^ *hint: see above/ { next }
/connection broken by/ { sub(/.*connection broken by/, "no connection:"); if (!broken++) print; next }
/^ *╰─> \[[0-9]+ lines? of output\]/ || /^ *\[std(err|out)\]$/ { quoted = 1; last = ""; next }
/\[end of output\]/ || quoted && /^[^ ]/ { quoted = 0; if (last != "") print last; last = "" }
/\[end of output\]/ { next }
quoted && low ~ /error: / { print; last = ""; told = 1; next }
quoted { if (NF && !told) last = $0; next }
low ~ /^ *(error|cause|fatal|hint): |^npm (error|err!)/ { print; told = 0; next }
/^ *(×|├─▶|╰─▶)/ { print; below = 1; told = 0; next }
below && /^    / { print; next }
{ below = 0 }
END { if (last != "") print last }
"""


def kind_of(source: str) -> str:
    """Return `git`, `file` (a wheel, an sdist, or the URL of one) or `folder`."""
    if source.startswith("git+"):
        return "git"
    if re.search(r"\.(whl|zip|tgz|tar\.(gz|bz2|xz))$", source.split("#")[0]) or "://" in source:
        return "file"
    return "folder"


def git_address(source: str) -> tuple[str, str | None]:
    """Split `git+https://host/repository@TAG` into the URL to clone and the tag, None where none is given.

    A user before the host (`ssh://git@host/...`) is part of the URL; a fragment (`#subdirectory=`) is dropped.
    """
    parts = urlsplit(source.removeprefix("git+"))
    path, at, reference = parts.path.rpartition("@")
    if not at:
        path, reference = parts.path, ""
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), reference or None


def shell_path(path: str) -> str:
    """Quote a path for the shell; a leading `~/` is the home folder on the node."""
    return '"$HOME"/' + shlex.quote(path[2:]) if path.startswith("~/") else shlex.quote(path)


def copy_folder(source: str, target: str, keep: Sequence[str] = ()) -> str:
    """Return a command that makes `target` a copy of the folder `source`, without what builds leave there.

    `keep` names leftovers that are wanted all the same: a dashboard that was built on a machine with a network.

    EXO is built in the copy: pip and npm write into the folder they build, which is the owner's own checkout and may
    be shared by several nodes on one machine.
    """
    skipped = " ".join(f"--exclude={shlex.quote(name)}" for name in _SKIPPED if name not in keep)
    to = shlex.quote(target)
    return (
        f"set -o pipefail; test -d {shell_path(source)} ||"
        f" {{ echo {shlex.quote(f'there is no folder {source} on this node')} >&2; exit 2; }};"
        f" rm -rf {to} && mkdir -p {to} && tar -C {shell_path(source)} {skipped} -cf - . | tar -C {to} -xf -"
    )


def reason(log: str) -> str:
    """Return a command that shows the end of `log` (shell text) and, as the last line, why pip, uv or npm failed."""
    return f"tail -n 30 {log} >&2; awk {shlex.quote(_TELLING.strip())} {log} | head -n 6 | tr -s '\\n ' ' ' >&2"


def logged(command: str, log: str) -> str:
    """Return `command` with its output kept in `log` (shell text), its last line shown, its reason where it fails."""
    return f"{{ {command}; }} >{log} 2>&1 || {{ code=$?; {reason(log)}; exit $code; }}; tail -n 1 {log}"
