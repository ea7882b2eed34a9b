"""What a person sees while the steps run: a line prefixed by its node, a summary line a step.

Colour only on a terminal and never under NO_COLOR (rich sees to both). Lines of nodes that work side by side do not
tear: one lock, one line, one write.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from reports.record import Record

if TYPE_CHECKING:
    from rich.console import Console

_lock = threading.Lock()
_consoles: dict[str, Console] = {}
_STATUS_STYLE = {"ok": "green", "already": "green", "failed": "bold red", "skipped": "yellow", "broken": "bold red"}


def note(node: str, text: str) -> None:
    """Show one line of progress of `node`, or of the whole lab where `node` is empty."""
    with _lock:
        _console("out").print(f"[{node}] {text}" if node else text, style="dim", highlight=False, markup=False)


def summary(record: Record) -> None:
    """Show the summary line of a finished step."""
    line = f"{record.step:>2}  {record.name:<17} {record.status:<8} {record.elapsed_s:>7.1f} s  {record.summary}"
    with _lock:
        console = _console("out")
        console.print(line, style=_STATUS_STYLE[record.status], highlight=False, markup=False, soft_wrap=True)
        for warning in record.warnings:
            console.print(f"    warning: {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def text(line: str) -> None:
    """Show `line` as it is."""
    with _lock:
        _console("out").print(line, highlight=False, markup=False, soft_wrap=True)


def complaint(line: str) -> None:
    """Show `line` on stderr."""
    with _lock:
        _console("err").print(line, style="red", highlight=False, markup=False, soft_wrap=True)


def _console(which: str) -> Console:
    """Make the console at first use: `fab --list` shall not pay for it."""
    if which not in _consoles:
        from rich.console import Console

        _consoles[which] = Console(file=sys.stderr if which == "err" else sys.stdout, soft_wrap=True)
    return _consoles[which]
