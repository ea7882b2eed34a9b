"""What every `fab` call shares: which Lab it means, how its options are read, how it ends.

Exit codes: 0 done, 1 a step failed or hosts.yaml cannot be used, 2 an option cannot be read, 130 interrupted;
`fab report --gate` has its own (reports.export.GATE_EXIT).
"""

from __future__ import annotations

import atexit
import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit

from tasks import console
from tasks.errors import StepError
from tasks.inventory import InventoryError, load_inventory
from tasks.machines.lab import Lab
from tasks.redact import masked, secrets_of

PROJECT = Path(__file__).resolve().parent.parent
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
_labs: dict[tuple[Path, str], Lab] = {}


@contextlib.contextmanager
def operating(c: Any) -> Iterator[Lab]:
    """Give the Lab of this `fab` call and turn what goes wrong into one message and an exit code."""
    with explaining() as shown:
        lab = lab_of(c)
        shown += secrets_of(lab.inventory)
        yield lab


@contextlib.contextmanager
def explaining() -> Iterator[list[str]]:
    """Turn what goes wrong into one message and an exit code; the secrets put into the list it gives are hidden."""
    hidden: list[str] = []
    try:
        yield hidden
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


def whole_number(option: str, text: object, least: int = 1) -> int | None:
    """Read an option that must be a whole number; "" is None. Raises Exit with one line instead of a traceback."""
    if text in ("", None):
        return None
    if not re.fullmatch(r"\d{1,9}", str(text)) or int(str(text)) < least:
        raise usage_error(f"--{option} {text}: needs a whole number of at least {least}")
    return int(str(text))
