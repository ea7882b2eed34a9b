"""What every `fab` call shares: which Lab it means, how its options are read, how it ends.

Exit codes: 0 done, 1 a step failed or hosts.yaml cannot be used, 2 an option cannot be read, 130 interrupted;
`fab report --gate` has its own (reports.export.GATE_EXIT). The fabfile loads this file whatever is typed, so what only
a running task needs is imported by the functions.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabric import Task, task
from invoke.exceptions import Exit
from invoke.parser import Argument

if TYPE_CHECKING:
    from tasks.errors import StepError
    from tasks.machines.lab import Lab

PROJECT = Path(__file__).resolve().parent.parent
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
NODES_HELP = {"nodes": "only these nodes of hosts.yaml, e.g. srv1,rog"}
_labs: dict[tuple[Path, str], Lab] = {}


def command(
    name: str | None = None,
    positional: list[str] | None = None,
    options: Mapping[str, str] | None = None,
    *,
    long: bool = False,
) -> Callable[[Callable[..., None]], Any]:
    """Make a Fabric task of a function, with the options that commands share beside those it has itself.

    Every one takes `--verbose`; a `long` one `--notify COMMAND`; with `--json`, where a function has that option,
    stdout is kept for one document. `options` explains the function's own.
    """

    def decorate(work: Callable[..., None]) -> Any:
        shared = {"verbose": (False, "show every command and request, and what came of it")}
        if long:
            shared["notify"] = ("", "shell command to run here when it has ended: notify-send, curl, mail")

        @functools.wraps(work)
        def body(c: Any, **given: Any) -> None:
            from tasks import console

            console.verbose(given.pop("verbose"))
            notify = given.pop("notify", "")
            if given.get("json"):
                console.json_only()
            with notifying(notify, work.__name__):
                work(c, **given)

        own = list(inspect.signature(work).parameters.values())
        keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
        more = [inspect.Parameter(option, keyword, default=default) for option, (default, _) in shared.items()]
        body.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        told = {**(options or {}), **{option: words for option, (_, words) in shared.items()}}
        if "json" in inspect.signature(work).parameters:
            told["json"] = "print one JSON document instead, see schemas/"
        return task(name=name, positional=positional, help=told, klass=_Task)(body)

    return decorate


class _Task(Task):  # type: ignore[type-arg]
    def get_arguments(self, *arguments: Any, **options: Any) -> list[Argument]:
        """Let a positional argument that has a default be left out, which Invoke does not know by itself."""
        made = super().get_arguments(*arguments, **options)
        for argument in made:
            if argument.positional and argument.default is not None:
                argument.__class__ = _Optional
        return made


class _Optional(Argument):
    """A positional argument as `fab logs [NODE]` has it: missing only while the parser holds a word that may be it."""

    def _filled(self) -> Any:
        given = super().value if self.raw_value is not None else None
        frame: Any = sys._getframe(1)
        while frame and frame.f_code.co_name != "handle":
            frame = frame.f_back
        word = str(frame.f_locals.get("token", "-")) if frame else "-"
        return given or (self.default if word.startswith("-") else None)

    value = property(_filled, Argument.value.fset)  # type: ignore[assignment,attr-defined]


@contextlib.contextmanager
def notifying(command: str, name: str) -> Iterator[None]:
    """Run a shell command of the user's when what is done here has ended, with the outcome in its environment."""
    from tasks import console

    outcome = "failed"
    try:
        yield
        outcome = "done"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        if command:
            told = {"EXO_PHASE1_COMMAND": name, "EXO_PHASE1_OUTCOME": outcome}
            ended = subprocess.run(
                ["/bin/sh", "-c", command], env=os.environ | told, stdin=subprocess.DEVNULL, check=False
            )
            if ended.returncode:
                console.complaint(f"--notify: the command ended with exit code {ended.returncode}")


@contextlib.contextmanager
def operating(c: Any) -> Iterator[Lab]:
    """Give the Lab of this `fab` call and turn what goes wrong into one message and an exit code."""
    from tasks import console
    from tasks.redact import secrets_of

    with explaining() as shown:
        lab = lab_of(c)
        shown += secrets_of(lab.inventory)
        console.hide(shown)
        yield lab


@contextlib.contextmanager
def explaining() -> Iterator[list[str]]:
    """Turn what goes wrong into one message and an exit code; the secrets put into the list it gives are hidden."""
    from tasks import console
    from tasks.errors import StepError
    from tasks.inventory import InventoryError
    from tasks.redact import masked

    hidden: list[str] = []
    ended_well = False
    try:
        yield hidden
        ended_well = True
    except StepError as error:
        raise Exit(masked(blocks_of(error), hidden), code=EXIT_FAILED) from error
    except InventoryError as error:
        raise Exit(f"hosts file: {error}", code=EXIT_FAILED) from error
    except KeyboardInterrupt:
        raise Exit(
            "interrupted; what was measured so far is kept, type the same command to go on", code=EXIT_INTERRUPTED
        ) from None
    finally:
        console.no_live()
        if not ended_well:
            console.next_is("")  # what to type is said by what went wrong


def blocks_of(error: StepError) -> str:
    """Return a StepError as a person reads it: one block for each thing or node in trouble."""
    lines: list[str] = []
    for problem in error.problems:
        lines += [f"{problem.what}: could not go on.", f"  found:  {problem.found}", f"  needed: {problem.needed}"]
        lines += [f"  do:     {line}" for line in problem.do.splitlines()]
    return "\n".join(lines)


def lab_of(c: Any) -> Lab:
    """Return the Lab that Fabric's configuration names; one for the whole chain of tasks, so links are kept.

    `exo.inventory` is a path (from where `fab` was typed, else from the project's folder), `exo.profile` a name.
    """
    from tasks.inventory import load_inventory
    from tasks.machines.lab import Lab

    named = Path(str(c.config.exo.inventory)).expanduser()
    path = named if named.is_file() or named.is_absolute() else PROJECT / named
    path = path.resolve()
    key = (path, str(c.config.exo.profile))
    if key not in _labs:
        _labs[key] = Lab(load_inventory(path, key[1] or None), path)
        atexit.register(_labs[key].close)
    return _labs[key]


def usage_error(line: str) -> Exit:
    """Return the end of a call whose options cannot be read: one line, exit 2."""
    return Exit(line, code=EXIT_USAGE)


def at_most_one(options: Mapping[str, object]) -> None:
    """Refuse options of which each says something else about the same thing. Raises Exit with one line."""
    given = [option for option, value in options.items() if value]
    if len(given) > 1:
        raise usage_error(f"{' and '.join(given)}: choose one of them")


def nodes_named(lab: Lab, nodes: str) -> list[str] | None:
    """Read `--nodes srv1,rog`; None where it was left out. Raises Exit where one is not in hosts.yaml."""
    named = [key for key in re.split(r"[,\s]+", nodes) if key]
    unknown = [key for key in named if key not in lab.nodes]
    if unknown:
        raise usage_error(f"--nodes {nodes}: {', '.join(unknown)} is not one of {', '.join(lab.nodes)}")
    return named or None


def whole_number(option: str, text: object, least: int = 1) -> int | None:
    """Read an option that must be a whole number; "" is None. Raises Exit with one line instead of a traceback."""
    if text in ("", None):
        return None
    if not re.fullmatch(r"\d{1,9}", str(text)) or int(str(text)) < least:
        raise usage_error(f"--{option} {text}: needs a whole number of at least {least}")
    return int(str(text))
