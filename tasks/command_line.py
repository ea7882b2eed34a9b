"""What every `fab` call shares: which Lab it means, how its options are read, how it ends.

Exit codes: 0 done, 1 a step failed or hosts.yaml cannot be used, 2 an option cannot be read, 130 interrupted;
`fab report --gate` has its own (reports.export.GATE_EXIT). The fabfile loads this file whatever is typed, so what only
a running task needs is imported by the functions.

`fab` is Fabric's program and not ours: `strictly` has it end with 2 for what it cannot parse, refuse those of its own
options that this program does not follow, and check the options of every task before the first of them begins.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fabric import Task, task
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument

if TYPE_CHECKING:
    from tasks.errors import StepError
    from tasks.machines.lab import Lab

PROJECT = Path(__file__).resolve().parent.parent
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
NODES_HELP = {"nodes": "only these nodes of hosts.yaml, e.g. srv1,rog"}
WAIT_HELP = "wait for another operator of this cluster instead of stopping"
_locking = False
_waiting = False
"""Whether the task that runs takes the cluster's lock, and waits for it."""
_labs: dict[tuple[Path, str], Lab] = {}


def command(
    name: str | None = None,
    positional: list[str] | None = None,
    options: Mapping[str, str] | None = None,
    *,
    long: bool = False,
    lock: bool = False,
) -> Callable[[Callable[..., None]], Any]:
    """Make a Fabric task of a function, with the options that commands share beside those it has itself.

    Every one takes `--verbose`, one that takes the cluster's `lock` `--wait`, a `long` one `--notify COMMAND`. With
    `--json`, where a function has that option, stdout is kept for one document. `options` explains its own.
    """

    def decorate(work: Callable[..., None]) -> Any:
        shared: dict[str, tuple[object, str]] = {
            "verbose": (False, "show every command and request, and what came of it")
        }
        if long:
            shared["notify"] = ("", "shell command to run here when it has ended: notify-send, curl, mail")

        if lock:
            shared["wait"] = (False, WAIT_HELP)

        @functools.wraps(work)
        def body(c: Any, **given: Any) -> None:
            from tasks import console

            global _locking, _waiting
            _locking, _waiting = lock, given.pop("wait", False)
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


class _Task(Task):  # type: ignore[misc]
    def get_arguments(self, *arguments: Any, **options: Any) -> list[Argument]:
        """Let a positional argument that has a default be left out, which Invoke does not know by itself."""
        made: list[Argument] = super().get_arguments(*arguments, **options)
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

    value = property(_filled, Argument.value.fset)  # type: ignore[attr-defined]


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
    """Give the Lab of this `fab` call and turn what goes wrong into one message and an exit code.

    Where the command takes the lock, nobody else may change this cluster until `fab` ends.
    """
    from tasks import console
    from tasks.redact import secrets_of

    with explaining() as shown:
        lab = lab_of(c)
        shown += secrets_of(lab.inventory)
        console.hide(shown)
        if _locking:
            lab.lock(wait=_waiting, hidden=shown)
        yield lab


@contextlib.contextmanager
def explaining() -> Iterator[list[str]]:
    """Turn what goes wrong into one message and an exit code; the secrets put into the list it gives are hidden."""
    from reports.text.escape import clean
    from tasks import console
    from tasks.errors import StepError
    from tasks.inventory import InventoryError
    from tasks.redact import masked

    hidden: list[str] = []
    ended_well = False
    _end_as_by_ctrl_c()
    try:
        yield hidden
        ended_well = True
    except StepError as error:
        raise Exit(clean(masked(blocks_of(error), hidden)), code=EXIT_FAILED) from error
    except InventoryError as error:
        raise Exit(clean(masked(f"hosts file: {error}", hidden)), code=EXIT_FAILED) from error
    except OSError as error:  # of this machine: what goes wrong on a node is a StepError
        raise Exit(clean(masked(blocks_of(_this_machine(error)), hidden)), code=EXIT_FAILED) from error
    except KeyboardInterrupt:
        raise Exit(
            "interrupted; what was measured so far is kept, type the same command to go on", code=EXIT_INTERRUPTED
        ) from None
    finally:
        console.no_live()
        if not ended_well:
            console.next_is("")  # what to type is said by what went wrong


def _end_as_by_ctrl_c() -> None:
    """Have SIGTERM and a closed terminal end `fab` as Ctrl-C does, with a record; `nohup` is left alone."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _this_machine(error: OSError) -> StepError:
    """Return what a file of this machine refused as found, needed and do."""
    from tasks.errors import StepError

    where = error.filename or "a file"
    folder = shlex.quote(str(where if isinstance(where, str) and Path(where).is_dir() else Path(str(where)).parent))
    elsewhere = "or copy hosts.yaml to a folder of yours, where logs/ and docs/ go then, and type in it"
    advice = {
        errno.ENOSPC: f"df -h {folder}; make room there, {elsewhere}",
        errno.EDQUOT: f"quota -s; make room in {folder}, {elsewhere}",
        errno.EROFS: f"findmnt -T {folder}; mount it for writing, {elsewhere}",
        errno.EACCES: f"ls -ld {folder}; make it yours: sudo chown -R $USER {folder}",
        errno.EPERM: f"ls -ld {folder}; lsattr -d {folder}",
        errno.ENOTDIR: f"a file is in the way: move {folder} aside",
        errno.EEXIST: f"a file is in the way: move {shlex.quote(str(where))} aside",
        errno.EISDIR: f"a folder is in the way: move {shlex.quote(str(where))} aside",
    }.get(error.errno or 0, f"ls -ld {folder}")
    return StepError(
        f"{where}: {error.strerror or error}",
        "files and folders that can be written",
        f"{advice}; then type it again",
        who="this machine",
    )


def blocks_of(error: StepError) -> str:
    """Return a StepError as a person reads it: one block for each thing or node in trouble."""
    by_who: dict[str, list[str]] = {}
    for problem in dict.fromkeys(error.problems):
        lines = by_who.setdefault(problem.what, [f"{problem.what}: could not go on."])
        lines += [f"  found:  {problem.found}", f"  needed: {problem.needed}"]
        lines += [f"  do:     {line}" for line in problem.do.splitlines()]
    return "\n".join(line for lines in by_who.values() for line in lines)


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


REFUSED = {
    "dry": "it would run nothing and tell nothing; `fab plan` shows what would be run",
    "hosts": "the nodes are those of hosts.yaml; FABRIC_EXO_INVENTORY=FILE names another file",
    "identity": "set nodes.NAME.identity_file in hosts.yaml, or IdentityFile in ~/.ssh/config",
    "prompt-for-login-password": "logins are by key: see nodes.NAME.identity_file in hosts.yaml",
    "prompt-for-passphrase": "load the key into ssh-agent: ssh-add",
    "prompt-for-sudo-password": "nothing here uses sudo",
    "ssh-config": "~/.ssh/config is read; a node's own settings stand in hosts.yaml",
    "connect-timeout": "the time-outs are fixed: 10 s to connect",
    "command-timeout": "every command has its own time-out; those of EXO stand in hosts.yaml",
    "echo": "--verbose after the task shows every command; a step's record in logs/ keeps them",
    "hide": "the commands of a step stand in its record in logs/",
    "pty": "no command here needs a terminal",
    "warn-only": "a step that fails ends the chain; type the next one to go on",
}
"""Options of Fabric that this program does not follow, by name -> what to do instead."""
_GONE = {
    "-P": "nodes are worked side by side by themselves",
    "--parallel": "nodes are worked side by side by themselves",
}
"""Options of older Fabrics."""


def check_bench(
    runs: str = "",
    *,
    until_decided: bool = False,
    control: bool = False,
    concurrency: str = "",
    spread: bool = False,
    **_: object,
) -> None:
    """Refuse options of `fab bench` that cannot be read or exclude each other. Raises Exit with one line."""
    count = whole_number("runs", runs)
    experiments = {"--control": control, "--concurrency": concurrency, "--spread": spread}
    at_most_one({"--until-decided": until_decided, **experiments})
    at_most_one({"--runs": count, "--until-decided": until_decided, "--concurrency": concurrency})
    if concurrency and not re.fullmatch(r"\d{1,2}(,\d{1,2})*", concurrency):
        raise usage_error(f"--concurrency {concurrency}: needs whole numbers like 1,2,4")


def check_runs(runs: str = "", *, until_decided: bool = False, **_: object) -> None:
    """Refuse options of a single benchmark step likewise."""
    whole_number("runs", runs)
    at_most_one({"--runs": runs, "--until-decided": until_decided})


def strictly(checks: Mapping[str, Callable[..., object]]) -> None:
    """Change how Fabric's own program reads this call. Called by the fabfile, which it loads before it parses tasks.

    `checks` has for a task's name what refuses its options (given by name) with an Exit, before any task begins.

    Fabric offers no hook for any of this: the two methods of its class are replaced, once.
    """
    from fabric.main import Fab

    if getattr(Fab, "_exo_phase1", False):
        return
    parse, execute = Fab.parse_tasks, Fab.execute

    def parse_tasks(self: Any) -> None:
        try:
            parse(self)
        except ParseError as error:
            words = next((f"{option}: {why}" for option, why in _GONE.items() if option in self.core.unparsed), "")
            raise usage_error(words or str(error)) from error

    def check_and_execute(self: Any) -> None:
        for option, instead in REFUSED.items():
            if self.args[option].value:
                dashes = f"--{option}" if len(option) > 1 else f"-{option}"
                raise usage_error(f"{dashes}: is not followed here; {instead}")
        if self.config.run.dry:
            raise usage_error(f"run.dry (FABRIC_RUN_DRY): is not followed here; {REFUSED['dry']}")
        for context in self.tasks:
            if check := checks.get(context.name):
                known = inspect.signature(check).parameters
                given = {name.replace("-", "_"): argument.value for name, argument in context.args.items()}
                check(**{name: value for name, value in given.items() if name in known})
        execute(self)

    Fab.parse_tasks, Fab.execute, Fab._exo_phase1 = parse_tasks, check_and_execute, True
