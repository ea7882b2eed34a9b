"""What a person sees while the steps run: a line prefixed by its node, a summary line a step, and what is waited for.

Whatever a server or a node has said is shown without terminal escapes. Colour only on a terminal and never under
NO_COLOR (rich sees to both). Lines of nodes that work side by side do not tear: one lock, one line, one write. On a
terminal a live line stands below them: what is waited for, how long already, and the last word of each node about it.
It ticks once a second by itself (docs/decisions/0023-a-line-that-ticks.md).
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from records.record import Record
from reports.text.escape import clean

if TYPE_CHECKING:
    from rich.console import Console

TICKS_AFTER_S = 2.0
TICK_S = 1.0
NARROWEST = 20
_lock = threading.RLock()
_consoles: dict[str, Console] = {}
_waits: dict[str, float] = {}
"""What runs now -> since when."""
_doing: dict[str, str] = {}
"""Node (or "" for all) -> its last word on what it does."""
_turn = 0
_ticking = False
_live = False
"""Whether the live line stands on the screen."""
_stdout_is_data = False
_next = ""
_verbose = False
_hidden: list[str] = []
_warned: set[str] = set()
"""What was warned of already: every node of a step may say the same."""
_ERASE = "\r\x1b[K"
_STATUS_STYLE = {
    "ok": "green",
    "already": "green",
    "failed": "bold red",
    "interrupted": "yellow",
    "skipped": "yellow",
    "broken": "bold red",
}


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Let the live line tell, from the second second on, that `what` runs and for how long."""
    global _ticking
    with _lock:
        _waits[what] = time.monotonic()
        if not _ticking and _ticks():
            _ticking = True
            threading.Thread(target=_tick, daemon=True).start()
    try:
        yield
    finally:
        with _lock:
            _waits.pop(what, None)
            if not _waits:
                _doing.clear()
            _take_live_away()


def doing(node: str, text: str) -> None:
    """Tell what `node` is at: in the live line on a terminal, else a line where it is news."""
    with _lock:
        before, _doing[node] = _doing.get(node), text
        if _ticks():
            _show_live()
        elif before != text:
            note(node, text)


def done(node: str) -> None:
    """Forget what `node` was at."""
    with _lock:
        _doing.pop(node, None)


def json_only() -> None:
    """Keep stdout for one JSON document: whatever else is shown goes to stderr from now on."""
    global _stdout_is_data
    _stdout_is_data = True
    _consoles.pop("out", None)


def document(content: object) -> None:
    """Print the one JSON document that `json_only` keeps stdout for."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n")


def next_is(command: str) -> None:
    """Remember what to type next; `closing` shows it when the whole chain of tasks has ended well."""
    global _next
    _next = command


def verbose(on: bool) -> None:
    """Show every command and request from now on, and what came of it, or show none."""
    global _verbose
    _verbose = on


def ran(node: str, command: str, code: int | None, elapsed_s: float, output: str) -> None:
    """Show a command or a request that has come back, where that was asked for."""
    if _verbose:
        ended = "no answer" if code is None else f"= {code}"
        shown = f"$ {command}\n  {ended} after {elapsed_s:.2f} s" + (f"\n{output.rstrip()}" if output.strip() else "")
        note(node, shown)


def closing() -> None:
    """Show what to type next, if anything is."""
    global _next
    command, _next = _next, ""
    if command:
        text(f"next: {command}")


atexit.register(closing)


def clock(seconds: float) -> str:
    """Return a time that has passed, as `0:07` or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def note(node: str, text: str) -> None:
    """Show one line of progress of `node`, or of the whole lab where `node` is empty."""
    with _lock:
        _take_live_away()
        prefix = f"[{node}] " if node else ""
        _print(prefix + text, "dim", len(prefix))


def summary(record: Record) -> None:
    """Show the summary line of a finished step."""
    # What went wrong is told once, in full, when `fab` ends; here only where.
    words = ", ".join(problem.what for problem in record.errors) if record.errors else record.summary
    line = f"{record.step:>2}  {record.name:<17} {record.status:<11} {record.elapsed_s:>7.1f} s  {words}"
    with _lock:
        _take_live_away()
        _print(line, _STATUS_STYLE[record.status], 4)
        for warning in (words for words in record.warnings if words not in _warned):
            _print(f"    warning: {warning}", "yellow", 6)
            _warned.add(warning)


def live(line: str) -> None:
    """Put `line` in place of what the live line says of the whole lab; nothing where there is no terminal."""
    with _lock:
        _doing[""] = line
        if _ticks():
            _show_live()


def no_live() -> None:
    """Take the live line away, if one stands there."""
    with _lock:
        _take_live_away()


def text(line: str) -> None:
    """Show `line` as it is."""
    with _lock:
        _take_live_away()
        _print(line)


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


def _ticks() -> bool:
    console = _console("out")
    return console.is_terminal and not console.is_dumb_terminal


def _tick() -> None:
    """Renew the live line once a second until nothing is waited for; what is measured is another process."""
    global _turn, _ticking
    while True:
        time.sleep(TICK_S)
        with _lock:
            if not _waits:
                _ticking = False
                return
            _turn += 1
            if time.monotonic() - min(_waits.values()) >= TICKS_AFTER_S:
                _show_live()


def _show_live() -> None:
    """Write the live line, cut to the terminal's width; with the lock held."""
    global _live
    console = _console("out")
    _live = True
    console.file.write(_ERASE + live_line(max(NARROWEST, console.width - 1)))
    console.file.flush()


def live_line(width: int) -> str:
    """Return the live line in `width` columns: all that is at work where that fits, else one after the other."""
    from rich.cells import cell_len, set_cell_size

    head = f"{clock(time.monotonic() - min(_waits.values()))} {', '.join(_waits)}: " if _waits else ""
    parts = [f"[{node}] {text}" if node else text for node, text in _doing.items()]
    if cell_len(head) > width / 2:
        head = f"{head.partition(' ')[0]} "
    words = head + "  ".join(parts)
    if parts and cell_len(words) > width:
        words = head + parts[_turn // 2 % len(parts)]
    shown = "".join(letter if letter.isprintable() else "?" for letter in _shown(words)).rstrip(": ")
    return shown if cell_len(shown) <= width else set_cell_size(shown, width - 1).rstrip() + "\u2026"


def _print(line: str, style: str = "", indent: int | None = None) -> None:
    """Show a line that stays; on a terminal it is folded between words, so that 40 columns can be read too."""
    console = _console("out")
    pieces = _shown(line).split("\n")
    if console.is_terminal:
        pieces = [piece for part in pieces for piece in _folded(part, indent, max(NARROWEST, console.width))]
    console.print("\n".join(pieces), style=style or None, highlight=False, markup=False, soft_wrap=True)


def _folded(line: str, indent: int | None, width: int) -> list[str]:
    deep = len(line) - len(line.lstrip()) + 2 if indent is None else indent
    folding = textwrap.TextWrapper(width, subsequent_indent=" " * min(deep, width // 3))
    folding.break_long_words = folding.break_on_hyphens = folding.replace_whitespace = False
    return folding.wrap(line) or [""]


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

        _consoles[which] = Console(stderr=which == "err" or _stdout_is_data, soft_wrap=True)
    return _consoles[which]
