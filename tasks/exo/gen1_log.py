"""What a log of EXO 1.x says, by its levels: loguru writes `[ 12:20:31.6818PM | WARNING ] text`, then any traceback.

A traceback below a WARNING is normal: on a fresh machine there is one for the folder of models that is not there yet.
What ends EXO is CRITICAL (`| CRITICAL]`, the longest level, has no blank). A task group wraps what happened in two or
three exception groups, of which the innermost exception alone says anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.exo.logtext import start_problems, without_escapes

_RECORD = re.compile(r"^\[ [\d: .-]+(?:AM|PM)? \| (\w+) *(?:\| \S+ )?\] ?(.*)$")
_EXCEPTION = re.compile(r"^[\s|+-]*((?:[\w.]+\.)?(\w*(?:Error|Exception|Exit|Interrupt|ExceptionGroup))(?:: .*)?)$")
_CAMPAIGN = "Waiting for other campaign to finish"
"""Written at every campaign of the election but the first, which every node wins alone at its start."""
_ENDED = "EXO Shutdown complete"


def problems(log: str) -> list[str]:
    """Return what says that EXO has ended or half ended, in order, each once; a log without records is read as text."""
    records = list(_records(log))
    if not records:
        return start_problems(log)  # it ended before it could log: the command line, an import
    found = []
    for level, text, below in records:
        if text == _ENDED:
            break  # what follows is the end of this process, told already
        if level == "CRITICAL":
            found.append("; ".join([text, *innermost(below)]))
        found += [line for line in below if "panicked at" in line]
    return list(dict.fromkeys(found))


def elections(log: str) -> int:
    """Return how many campaigns for a new election the log holds; the API answers nothing while one goes on."""
    return sum(text == _CAMPAIGN for _, text, _ in _records(log))


def innermost(lines: list[str]) -> list[str]:
    """Return the exceptions of a traceback that are no groups of others, each once."""
    found = (match for line in lines if (match := _EXCEPTION.match(line)))
    return list(dict.fromkeys(match[1] for match in found if not match[2].endswith("ExceptionGroup")))


def _records(log: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield level, text and the lines below each record; what a cut log has before its first record is left out."""
    record: tuple[str, str, list[str]] | None = None
    for line in without_escapes(log).splitlines():
        if match := _RECORD.match(line):
            if record:
                yield record
            record = match[1], match[2].strip(), []
        elif record:
            record[2].append(line)
    if record:
        yield record
