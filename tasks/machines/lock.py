"""One operator at a time: whoever changes a cluster holds a lock on this machine and one on every node.

A lock is flock(2) on a file, so the kernel gives it back when the process that holds it has ended or its machine was
booted again; nothing stale can stand in the way. On this machine `fab` holds it itself. On a node a small shell (the
keeper) holds it at the other end of the SSH link: it ends with the link, and where the link dies in silence, once it
has heard nothing for LEASE_S. A link that `fab` opens again takes its own lock from the keeper of the dead one, and so
does a later `fab` of the same machine where the one before has ended. A folder of ours in which nothing but the lock
lies goes with it.

Format of the file: what the holder says of itself (JSON), its token, and the keeper's PID and start time.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import random
import secrets
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from reports.text.escape import one_line
from tasks import console
from tasks.decode import decode
from tasks.errors import StepError, UnreachableError, all_of
from tasks.machines.node import Node
from tasks.machines.paths import LOCK, ROOT
from tasks.machines.threads import run_all

LEASE_S = 900
"""A controller may sleep or lose its network for this long without losing its locks."""
BEAT_S = 30
RETAKE_S = 10
WAIT_POLL_S = 2.0
ANSWER_S = 30
_SAYS = "exo-phase1-lock"
"""Before the keeper's answer; a login's own greeting may come first."""

_TICKS = r"""ticks() {  # when process $1 began, where it lives
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return
  set -- ${line##*) }; [ "$1" = Z ] || echo "${20}"
}"""
_LOOK = r"""
@TICKS@
cd && { read -r told; read -r token; read -r pid start; } 2>/dev/null <@FILE@
[ -n "$start" ] && [ "$(ticks "$pid")" = "$start" ] && printf '%s\n' "$told"
"""
# $1 what the holder says of itself, $2 its token, $3 1 where it had the lock before, $4 what one that is gone had said.
_KEEPER = r"""
umask 077; cd && type flock >/dev/null || { echo '@SAYS@ error'; exit 1; }
@TICKS@
tries=3
until [ @FILE@ -ef /dev/fd/9 ]; do  # else whoever had it before has removed it
  mkdir -p @ROOT@ && chmod 700 @ROOT@ && exec 9>>@FILE@ ||
    { [ $((tries -= 1)) -gt 0 ] && continue; echo '@SAYS@ error'; exit 1; }
  flock -n 9 && continue
  { read -r told; read -r token; read -r pid start; } 2>/dev/null <@FILE@
  { [ "$token" = "$2" ] || [ "$told" = "$4" ]; } && [ -n "$start" ] && [ "$(ticks "$pid")" = "$start" ] && kill "$pid"
  { [ "$token" = "$2" ] || [ "$told" = "$4" ] || [ "$3" != 0 ]; } && flock -w @RETAKE@ 9 && continue
  sleep 0.2; told=; read -r told 2>/dev/null <@FILE@
  [ -z "$told" ] && [ $((tries -= 1)) -gt 0 ] && continue  # it is just being given back, or taken
  printf '@SAYS@ busy %s\n' "$told"; exit 1
done
read -r told <@FILE@; printf '@SAYS@ held %s\n' "$told"
printf '%s\n%s\n%s %s\n' "$1" "$2" $$ "$(ticks $$)" >@FILE@
while read -r -t @LEASE@ line; do [ "$line" = bye ] && break; done
[ "$line" = bye ] && : >@FILE@ && [ "$(ls -A @ROOT@)" = @LOCK@ ] && rm @FILE@ && rmdir @ROOT@
"""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock, as the file tells it to others."""

    who: str
    """`user@machine`."""
    pid: int
    since: str
    command: str
    place: str = ""
    """The boot and the PID namespace in which its PID means something; empty where that cannot be known."""
    start: str = ""
    """When it began, as the kernel of its machine counts."""

    @property
    def gone(self) -> bool:
        """Whether it surely has ended: it ran where this process runs, and nothing there has its PID and start."""
        return bool(self.place) and self.place == _place() and _start_of(self.pid) != self.start

    @property
    def words(self) -> str:
        """Return it as a clause, safe for a terminal: another operator's program wrote it."""
        return one_line(f"`{self.command}` of {self.who}, PID {self.pid}, since {self.since}", 300)


class LockedError(StepError):
    """Somebody else works on this cluster."""


def this_call(hidden: Iterable[str] = ()) -> Holder:
    """Return what this `fab` says of itself to others, without what is `hidden`."""
    command = shlex.join(["fab", *sys.argv[1:]])[:200]
    for secret in hidden:
        command = command.replace(secret, "***")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    pid = os.getpid()
    return Holder(f"{user}@{socket.gethostname()}", pid, since, command, _place(), _start_of(pid))


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""  # no Linux


def _start_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def holder_on(node: Node) -> Holder | None:
    """Return who holds the lock of a node now, None where nobody does. Raises UnreachableError."""
    return _read(node.run(_filled(_LOOK), check=False).stdout)


class FileLock:
    """A lock on this machine, held by this very process."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        self._descriptor: int | None = None

    def take(self, holder: Holder) -> None:
        """Take it. Raises LockedError where a living process has it, OSError where its file cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = os.pread(descriptor, 4000, 0).decode("utf-8", "replace")
            os.close(descriptor)
            raise _refused(self.what, told) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(holder) + b"\n", 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


class NodeLock:
    """The lock of one node, as this `fab` holds it."""

    def __init__(self, node: Node, holder: Holder, token: str) -> None:
        self.node = node
        self._holder = holder
        self._token = token
        self._stream: Any = None
        self._had = False

    def take(self) -> None:
        """Take it, and again whenever the link is opened anew. Raises LockedError, UnreachableError."""
        self.node.on_connect = self._take
        if not self.node.open():  # else the link was open before, and nothing was taken on the way
            self._take()

    def _take(self) -> None:
        answer, told = self._ask()
        if answer == "busy" and (before := _read(told)) is not None and before.gone:
            answer, told = self._ask(gone=told)
        if answer == "busy":
            self.node.on_connect = None
            raise _refused(self.node.key, told)
        if answer != "held":
            console.note(
                self.node.key, f"has no lock (no flock, or ~/{ROOT} cannot be written); nobody else is kept out"
            )
            return
        if told.strip() and not self._had and (before := _read(told)) is not None:
            console.note(self.node.key, f"took over the lock of {before.words}: it has ended without giving it back")
        self._had = True

    def _ask(self, gone: str = "") -> tuple[str, str]:
        words = [msgspec.json.encode(self._holder).decode(), self._token, str(int(self._had)), gone]
        self._stream = self.node.talk(f"exec bash -c {shlex.quote(_filled(_KEEPER))} keeper {shlex.join(words)}")
        return self._answer()

    def _answer(self) -> tuple[str, str]:
        self._stream.settimeout(ANSWER_S)
        try:
            for line in self._stream.makefile("rb"):
                said, _, rest = line.decode("utf-8", "replace").partition(" ")
                if said == _SAYS:
                    answer, _, told = rest.strip().partition(" ")
                    return answer, told
        except OSError:
            pass
        return "", ""

    def beat(self, word: bytes = b"\n") -> None:
        """Tell the keeper that this end lives, or with `bye` that it is done; a dead link is found elsewhere."""
        try:
            if self._stream is not None:
                self._stream.sendall(word)
        except (OSError, EOFError):
            pass

    def release(self) -> None:
        """Give it back."""
        self.node.on_connect = None
        self.beat(b"bye\n")
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class ClusterLock:
    """The locks that keep other operators out while this `fab` changes things."""

    def __init__(self, logs: Path, nodes: dict[str, Node], first: str, hidden: Iterable[str] = ()) -> None:
        self._holder = this_call(hidden)
        self._here = FileLock(logs / ".lock", "this machine")
        token = secrets.token_hex(16)
        self._nodes = {key: NodeLock(node, self._holder, token) for key, node in nodes.items()}
        self._first = first
        """The node that decides between two who come at the same time."""
        self._ended = threading.Event()

    def take(self, *, wait: bool = False) -> None:
        """Take all of them or none. Raises LockedError naming who has one, unless it may `wait` for that.

        A node that does not answer is left out; it is locked when it answers, and the step that needs it says so.
        """
        told = ""
        while True:
            try:
                self._try()
                break
            except LockedError as error:
                self.release()
                if not wait:
                    raise
                if str(error) != told:
                    told = str(error)
                    console.note("", f"waits: {told}")
            time.sleep(WAIT_POLL_S + random.random())  # noqa: S311 - so that two who wait do not keep step
        threading.Thread(target=self._beat, daemon=True).start()

    def release(self) -> None:
        """Give all of them back."""
        self._ended.set()
        for lock in self._nodes.values():
            lock.release()
        self._here.release()

    def _try(self) -> None:
        self._ended.clear()
        self._here.take(self._holder)
        others = {key: lock for key, lock in self._nodes.items() if key != self._first}
        first = {self._first: self._nodes[self._first].take}
        _all(first | {key: lock.node.open for key, lock in others.items()})  # links are opened while the first decides
        _all({key: lock.take for key, lock in others.items()})

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            for lock in self._nodes.values():
                lock.beat()


def _all(jobs: Mapping[str, Callable[[], object]]) -> None:
    """Do all `jobs` side by side; raise who is locked as one error, and pass over who does not answer."""
    locked: list[StepError] = []
    for outcome in run_all(jobs).values():
        try:
            outcome.value()
        except LockedError as error:
            locked.append(error)
        except UnreachableError:
            continue
    if locked:
        raise all_of(locked)


def _refused(what: str, told: str) -> LockedError:
    holder = _read(told)
    found = f"in use: {holder.words}" if holder else "in use by another `fab`, which has not said yet who it is"
    end = f", or end it: on {holder.who.rpartition('@')[2]}: kill {holder.pid}" if holder else ""
    return LockedError(
        one_line(found, 400),
        "nobody else who installs, starts, measures or cleans up on this cluster",
        one_line(f"wait for it (the same command with --wait){end}", 300),
        who=what,
    )


def _read(told: str) -> Holder | None:
    try:
        return decode(told.strip() or "null", Holder)
    except msgspec.DecodeError:
        return None


def _filled(script: str) -> str:
    names = {"ROOT": ROOT, "LOCK": LOCK, "FILE": f"{ROOT}/{LOCK}", "SAYS": _SAYS, "TICKS": _TICKS}
    names |= {"RETAKE": str(RETAKE_S), "LEASE": str(LEASE_S)}
    for name, value in names.items():
        script = script.replace(f"@{name}@", value)
    return script
