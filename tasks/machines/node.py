"""A Node runs commands, takes files and dials ports, over SSH or in a local shell behind one interface.

Every command has a time-out that also holds on the node, leaves a line in the journal of the running step, and comes
back with its output whole. `local` and `remote` are the two kinds; `lab` gathers them.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from records.record import Command, capped
from records.settings import NodeSpec
from tasks import console
from tasks.errors import StepError
from tasks.machines.functions import folded
from tasks.machines.shell import Between, Bounded, wrapped
from tasks.machines.wire import shortened

journal: contextvars.ContextVar[list[Command] | None] = contextvars.ContextVar("journal", default=None)
"""The commands of the step that is running; threads of one step share its list."""
POLLED_AT_ONCE = 24
_keeping = threading.Lock()


ASK_HOME = 'printf %s "$HOME"'


@contextlib.contextmanager
def unjournaled() -> Iterator[None]:
    """Keep the commands of a watch out of the step's record, which need not hold a look a second."""
    kept = journal.set(None)
    try:
        yield
    finally:
        journal.reset(kept)


def note(asked: Command) -> None:
    """Tell of a command or request that came back: on the terminal where it wants to see, and in the step's journal.

    One more turn of a poll with the same answer is counted at the last: no record needs hundreds. Only the very same
    words to the same host are one more turn; several hosts may be polled at once, hence the look a little back.
    """
    console.ran(asked.host, asked.command, asked.exit_code, asked.elapsed_s, asked.stdout + asked.stderr)
    commands = journal.get()
    if commands is None:
        return
    with _keeping:
        for place in range(len(commands) - 1, max(-1, len(commands) - 1 - POLLED_AT_ONCE), -1):
            last = commands[place]
            if (last.host, last.command) != (asked.host, asked.command):
                continue
            if (last.exit_code, last.stdout, last.stderr) == (asked.exit_code, asked.stdout, asked.stderr):
                times, elapsed_s = last.times + 1, last.elapsed_s + asked.elapsed_s
                commands[place] = msgspec.structs.replace(last, times=times, elapsed_s=elapsed_s)
                return
            break
        commands.append(asked)


class CommandResult(msgspec.Struct, frozen=True):
    """A command that came back."""

    command: str
    exit_code: int
    elapsed_s: float
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it exited 0."""
        return self.exit_code == 0


class Node:
    """One machine. Subclasses do `_execute`, `put` and `dial`; everything else is here once."""

    def __init__(self, key: str, spec: NodeSpec) -> None:
        self.key = key
        self.spec = spec
        self.remembered: dict[str, Any] = {}
        """What was asked once and does not change while `fab` runs: the home folder, the Pythons."""
        self.on_connect: Callable[[], None] | None = None
        """Called whenever a link was opened, before anything goes over it (tasks.machines.lock)."""

    def run(
        self,
        command: str,
        *,
        timeout_s: float = 30.0,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
        shown: str = "",
        private: bool = False,
    ) -> CommandResult:
        """Run `command` in bash and return what came of it; `shown` stands for it wherever people read.

        It ends with its time-out on the node too, so that nothing is left running there. `on_line` gets every line
        of stdout as it comes, which the journal then does not keep; nor does it of a `private` one, which prints what
        is other people's. Raises StepError where `check` is set and the exit code is not 0, UnreachableError where the
        link fails.
        """
        start, shown = time.monotonic(), shown or folded(command)
        try:
            ran = self._execute(wrapped(command, timeout_s), shown, timeout_s + 10, on_line)
        except StepError as error:
            note(Command(self.key, shown, None, time.monotonic() - start, stderr=capped(error.problem.found)))
            raise
        kept = "" if on_line or private else capped(ran.stdout)
        note(Command(self.key, shown, ran.exit_code, ran.elapsed_s, kept, capped(ran.stderr)))
        if check and not ran.ok:
            raise self.failed(ran, timeout_s)
        return ran

    def failed(self, ran: CommandResult, timeout_s: float = 0.0) -> StepError:
        """Return the error that says a command on this node did not exit 0."""
        last = (ran.stderr.strip() or ran.stdout.strip() or "no output").splitlines()[-1][:500]
        how = f"ended by its time-out of {timeout_s:g} s" if ran.exit_code == 124 else f"exit code {ran.exit_code}"
        short = shortened(ran.command, 120)
        return StepError(f"{how}: {last}", "exit code 0", f"run it on {self.spec.host}: {short}", who=self.key)

    def home(self) -> str:
        """Return the absolute home folder of the user on the node; asked once."""
        if "home" not in self.remembered:
            home = self.run(ASK_HOME).stdout.strip()
            if not home.startswith("/"):
                found = f"its login has no home folder (HOME is '{home}')"
                do = f"on {self.spec.host}: getent passwd; and look for HOME in the login files"
                raise StepError(found, "a home folder, in which everything of ours lies", do, who=self.key)
            self.remembered["home"] = home
        return str(self.remembered["home"])

    def put(self, data: bytes, path: str, mode: int = 0o600) -> None:
        """Write `data` to the absolute `path` on the node, aside first and then renamed; its folder is made.

        Nothing of it passes over a command line.
        """
        raise NotImplementedError

    def dial(self, host: str, port: int, timeout_s: float) -> Any:
        """Return a connected stream from the node to `host:port`, with a socket's methods; OSError where refused."""
        raise NotImplementedError

    def verify_tunnel(self) -> None:
        """Verify that ports of the node can be dialled at all. Raises StepError."""

    def open(self) -> bool:
        """Open the link unless it is open; tell whether it was opened now, and so `on_connect` called."""
        return False

    def talk(self, command: str) -> Any:
        """Start `command` with its standard input and output at a stream that has a socket's methods; no time-out."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection, if one is open."""

    def _execute(
        self, bounded: Bounded, command: str, timeout_s: float, on_line: Callable[[str], None] | None
    ) -> CommandResult:
        raise NotImplementedError

    def _result(self, command: str, started: float, out: Between, err: Between, exited: int) -> CommandResult:
        """Return what stood between the marks. Raises StepError where the command was not run."""
        if not out.begun:
            raise self._not_run(out, err, f"nothing, and exit code {exited}")
        if out.ending == "no-bash":
            raise StepError("has no bash", "bash on the PATH", "install bash there", who=self.key)
        code = exited if out.exit_code is None else out.exit_code
        return CommandResult(command, code, time.monotonic() - started, out.finish(), err.finish())

    def _not_run(self, out: Between, err: Between, nothing: str) -> StepError:
        """Return the error for a login that did something else than to run the command."""
        said = " ".join((out.before.strip() or err.before.strip() or nothing).split())
        return StepError(
            f"its login does not run the command it is given; it says: {said[:300]}",
            "a login shell that runs commands",
            f"on {self.spec.host}: look for ForceCommand in /etc/ssh/sshd_config, command= in"
            " ~/.ssh/authorized_keys, and for exec, exit or read in the login files of the shell",
            who=self.key,
        )


def cannot_write(key: str, path: str, error: Exception | str) -> StepError:
    """Return the error that says a file could not be written on a node."""
    return StepError(
        f"cannot write {path}: {error}", "a writable folder with room", f"df -h on {key}, then type it again", who=key
    )
