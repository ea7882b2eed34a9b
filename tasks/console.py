"""What a person sees while the steps run: a line prefixed by its node, a summary line a step.

Whatever a server or a node has said is shown without terminal escapes. Colour only on a terminal and never under
NO_COLOR (rich sees to both). Lines of nodes that work side by side do not tear: one lock, one line, one write. On a
terminal a live line may stand below them; it is renewed by whoever has news and by no thread of its own, which would
take time from what is measured on this very machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from records.record import Record
from reports.text.escape import clean

if TYPE_CHECKING:
    from rich.console import Console

_lock = threading.Lock()
_consoles: dict[str, Console] = {}
_hidden: list[str] = []
_live = False
"""Whether the live line stands on the screen."""
_ERASE = "\r\x1b[K"
_STATUS_STYLE = {
    "ok": "green",
    "already": "green",
    "failed": "bold red",
    "interrupted": "yellow",
    "skipped": "yellow",
    "broken": "bold red",
}


def note(node: str, text: str) -> None:
    """Show one line of progress of `node`, or of the whole lab where `node` is empty."""
    with _lock:
        _take_live_away()
        _console("out").print(_shown(f"[{node}] {text}" if node else text), style="dim", highlight=False, markup=False)


def summary(record: Record) -> None:
    """Show the summary line of a finished step."""
    # What went wrong is told once, in full, when `fab` ends; here only where.
    words = ", ".join(problem.what for problem in record.errors) if record.errors else record.summary
    line = f"{record.step:>2}  {record.name:<17} {record.status:<11} {record.elapsed_s:>7.1f} s  {words}"
    with _lock:
        _take_live_away()
        console = _console("out")
        console.print(_shown(line), style=_STATUS_STYLE[record.status], highlight=False, markup=False, soft_wrap=True)
        for warning in record.warnings:
            console.print(
                _shown(f"    warning: {warning}"), style="yellow", highlight=False, markup=False, soft_wrap=True
            )


def live(line: str) -> None:
    """Put `line` in place of the live line, cut to the terminal's width; nothing where there is no terminal."""
    global _live
    with _lock:
        console = _console("out")
        if console.is_terminal and not console.is_dumb_terminal:
            _live = True
            shown = "".join(letter if letter.isprintable() else "?" for letter in line)
            console.file.write(_ERASE + shown[: max(20, console.width - 1)])
            console.file.flush()


def no_live() -> None:
    """Take the live line away, if one stands there."""
    with _lock:
        _take_live_away()


def text(line: str) -> None:
    """Show `line` as it is."""
    with _lock:
        _take_live_away()
        _console("out").print(_shown(line), highlight=False, markup=False, soft_wrap=True)


def complaint(line: str) -> None:
    """Show `line` on stderr."""
    with _lock:
        _take_live_away()
        _console("err").print(_shown(line), style="red", highlight=False, markup=False, soft_wrap=True)


def hide(secrets: Iterable[str]) -> None:
    """Have `secrets` shown as *** from now on."""
    _hidden.extend(secrets)


def _shown(text: str) -> str:
    for secret in _hidden:
        text = text.replace(secret, "***")
    return clean(text)


def _take_live_away() -> None:
    """Make room for a line that stays; with the lock held."""
    global _live
    if _live:
        _live = False
        _console("out").file.write(_ERASE)
        _console("out").file.flush()


def _console(which: str) -> Console:
    """Make the console at first use: `fab --list` shall not pay for it."""
    if which not in _consoles:
        from rich.console import Console

        _consoles[which] = Console(stderr=which == "err", soft_wrap=True)
    return _consoles[which]
