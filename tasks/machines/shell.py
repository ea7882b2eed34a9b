"""One command as every login shell takes it, and its output read between marks of our own.

sshd hands a command to the user's login shell: bash, zsh, fish, tcsh and xonsh agree on words in single quotes, as long
as no quote, backslash, exclamation mark or line end is in them. So the command travels as octal numbers, and bash (from
PATH: NixOS has no /bin/bash) puts it together again and runs it. What a login file prints stands before the first
mark, what follows the last is not ours, and the last one carries the exit code: a wrapper may return one of its own.
The marks of every command are its own: it may print files, logs and foreign command lines that hold another's.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import NamedTuple

_UNSAFE = re.compile(rb"[^A-Za-z0-9 _./,:;=+@#~{}\[\]()<>|&$*?\"%-]")

# What the file prints that BASH_ENV names would stand between the marks; a Python that the user's variables lead
# elsewhere would run EXO with other modules, or not at all.
_UNSET = "unset BASH_ENV PYTHONHOME PYTHONPATH PYTHONWARNINGS;"
# The marks are put together at the end, so that a shell which shows what it runs (`set -x`) does not show a mark.
_RUN = (
    f"{_UNSET} "
    'm() { printf "@@%s %%s" "$1"; }; m begins@@; m begins@@ >&2;'
    ' command -v bash >/dev/null || { m "ends no-bash@@"; exit; };'
    ' umask 077; timeout -k 5 %g bash -c "$2" bash "$1"; r=$?; m "ends $r@@"; m "ends $r@@" >&2; exit $r'
)

# How bash writes a blank tells what a backslash is, which for xonsh begins an escape even here.
_READ = 'printf -v b %q " "; printf -v c %b "${1//^/"${b% }"}"; exec bash -c "$c"'


class Bounded(NamedTuple):
    """A command as a login shell takes it, and what its marks are told by."""

    text: str
    token: str


def wrapped(command: str, timeout_s: float) -> Bounded:
    """Return `command` for any login shell; it ends with its time-out on the node too.

    What our commands write is nobody else's business: 0600 and 0700.
    """
    # SHLVL: a bash that sshd runs reads the login files once more where it takes itself for the first.
    token = f"exo-phase1-{secrets.token_hex(8)}"
    run = _RUN % (token, timeout_s)
    return Bounded(_given_to_sh(run, command), token)


def bare(command: str) -> str:
    """Return `command` for any login shell without time-out and marks: who talks with it knows its words."""
    return _given_to_sh(f'{_UNSET} exec bash -c "$2" bash "$1"', command)


def _given_to_sh(run: str, command: str) -> str:
    """Return the words of a login shell that runs `run` in /bin/sh, with `command` as $1 and what reads it as $2."""
    octal = _UNSAFE.sub(lambda match: b"^0%03o" % match[0][0], command.encode("utf-8", "surrogateescape")).decode()
    return f"exec env LC_ALL=C SHLVL=1 /bin/sh -c '{run}' sh '{octal}' '{_READ}'"


class Between:
    """A text sink for a command's output: keeps what stands between the marks, hands complete lines on as they come."""

    def __init__(self, token: str, on_line: Callable[[str], None] | None = None) -> None:
        self._begin, self._end = f"@@{token} begins@@", f"@@{token} ends "
        self._end_mark = re.compile(rf"{self._end}(\d+|no-bash)@@")
        self._begun_mark = re.compile(rf"{self._end}[\w-]{{0,9}}@?\Z")
        self._on_line = on_line
        self._before = ""
        self._begun = False
        self._pieces: list[str] = []
        self._held = ""
        """The last piece of an output that may yet turn out to be a mark."""
        self._open = ""
        self.refused: Exception | None = None
        """What whoever takes the lines raised: a disk of this machine that is full, and the like."""
        self.ending = ""
        """As the mark at the end tells it: an exit code, or `no-bash`; "" where the command did not come to its end."""

    @property
    def begun(self) -> bool:
        """Whether the command was run at all."""
        return self._begun

    @property
    def before(self) -> str:
        """What was printed before, or instead of, the command's own output."""
        return self._before

    @property
    def exit_code(self) -> int | None:
        """The command's exit code; None where it did not come to its end."""
        return int(self.ending) if self.ending.isdigit() else None

    def write(self, text: str) -> None:
        """Take the next piece of output."""
        if not self._begun:
            self._before += text
            noise, mark, text = self._before.partition(self._begin)
            if not mark:
                return
            self._begun, self._before = True, noise
        if not self.ending:
            self._take(self._held + text)

    def flush(self) -> None:
        """Do nothing; Invoke calls it."""

    def finish(self) -> str:
        """Return everything that was written between the marks."""
        if not self.ending:
            self._keep(self._held)
            self._held = ""
        return "".join(self._pieces)

    def _take(self, text: str) -> None:
        end = self._end_mark.search(text)
        if end:
            self._held, self.ending = "", end[1]
            self._keep(text[: end.start()])
            return
        # What may be the beginning of the mark is held back until more comes.
        tail = range(max(0, len(text) - len(self._end)), len(text))
        maybe = [start for start in tail if self._end.startswith(text[start:])]
        begun = self._begun_mark.search(text)
        cut = begun.start() if begun else maybe[0] if maybe else len(text)
        self._held = text[cut:]
        self._keep(text[:cut])

    def _keep(self, text: str) -> None:
        self._pieces.append(text)
        if self._on_line is None:
            return
        *lines, self._open = (self._open + text).split("\n")
        try:
            for line in lines:
                self._on_line(line)
        except Exception as error:
            self.refused = error
            raise
