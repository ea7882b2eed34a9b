"""What a log says went wrong at the start, for both generations.

The log holds colours and OSC-8 links even without a terminal; they are taken out first. A peer that is not up yet
makes EXO print whole tracebacks and heal afterwards, so those exception types are no problem of this node.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_ESCAPES = re.compile(
    r"""
    (?:\x1b|\^\[)\][^\x07\x1b^]*(?:\x07|(?:\x1b|\^\[)\\)   # OSC, a hyperlink
  | (?:\x1b|\^\[)\[[0-?]*[ -/]*[@-~]                        # CSI, a colour; `cat -v` writes ESC as ^[
  | \x1b[@-_]
    """,
    re.VERBOSE,
)
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Exit)|(?<=socket\.)(?:gai|h)error)(?::\s.*|)$")
_HEALS = {
    "CancelledError",
    "TimeoutError",
    "AioRpcError",
    "UsageError",
    "ConnectionRefusedError",
    "ConnectionResetError",
}
_PLAIN = re.compile(
    r"address already in use|^Error: |^Error when loading network config|: error: |failed to bind"
    r"|Segmentation fault|panicked at|^Killed$|\| CRITICAL +\]",
    re.IGNORECASE,
)
_ABOUT_A_PEER = re.compile(r"^Error (?:connecting peer|collecting topology|sending|broadcasting)\b")
_IN_A_TRACEBACK = re.compile(r"^(?:Traceback |The above exception |During handling )")
_STOPPING = "Received exit signal"
_SOUNDS_WRONG = re.compile(
    r"\b(?:\w*error|\w*exception|fatal|failed|cannot|could not|required|denied)\b", re.IGNORECASE
)


_OPERATORS = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied|address already in use"
    r"|failed to bind|name resolution|Name or service not known|getaddrinfo|command not found|: error: "
    r"|No such file or directory: '|No module named '|urlopen error|initilization failed"
    r"|undefined symbol: (?:rsmi_init|atomic_)"
    r"|No interface for AMD|usable interface for AMD|autogen\.\w+' has no attribute|requires LLVM|No LLVM library"
    r"|lib(?:cuda|nvrtc|hsa-runtime64)|is deprecated, use DEV=|multiple devices set in env|sqlite3\.|readonly database"
    r"|unable to open database|host-visible VRAM|Cannot resize BAR",
    re.IGNORECASE,
)
"""A full disk, a name that does not resolve, a port, a right, a missing tool or driver, a mistyped option: no finding
about EXO, its operator mends it and goes on."""


def exo_said(line: str) -> str:
    """Return a line of EXO's as its own word that it cannot; "" where what it names is for its operator to mend."""
    return "" if _OPERATORS.search(line) else line.strip()


def without_escapes(log: str) -> str:
    """Return `log` as a terminal would show it, without colours and link targets."""
    return _ESCAPES.sub("", log)


def start_problems(log: str) -> list[str]:
    """Return the lines that mean a failed or half-dead start, each once, in their order."""
    problems: list[str] = []
    about_peer = False
    for raw in without_escapes(log).splitlines():
        line = raw.strip()
        if line.startswith(_STOPPING):
            break  # what follows is the end of this process, not its start
        about_peer = bool(_ABOUT_A_PEER.match(raw)) or (about_peer and _goes_on(raw))
        if not about_peer and _is_problem(raw, line) and line not in problems:
            problems.append(line)
    return problems


def without_blocks(log: str, unwanted: Callable[[str], bool]) -> str:
    """Return `log` without the lines that are `unwanted` and the tracebacks below them."""
    kept, dropping = [], False
    for raw in log.splitlines():
        dropping = unwanted(raw) or (dropping and _goes_on(raw))
        if not dropping:
            kept.append(raw)
    return "\n".join(kept)


def likely_cause(log: str) -> str:
    """Return what a log without a known problem says of an end: its last line that sounds wrong, else its last line."""
    line, wrong = last_word(log)
    if not line:
        return "its log is empty"
    return f"its log says: {line}" if wrong else f"last line of its log: {line}"


def last_word(log: str) -> tuple[str, bool]:
    """Return a log's last line that sounds wrong and True, else its last line and False; "" of an empty log."""
    lines = [line.strip()[:200] for line in without_escapes(log).splitlines() if line.strip()]
    wrong = [line for line in lines if _SOUNDS_WRONG.search(line)]
    return (wrong[-1], True) if wrong else (lines[-1] if lines else "", False)


def _goes_on(raw: str) -> bool:
    """Tell whether a line still belongs to the traceback before it."""
    return not raw or raw[0] in " \t>" or bool(_IN_A_TRACEBACK.match(raw) or _EXCEPTION.match(raw))


def _is_problem(raw: str, line: str) -> bool:
    exception = _EXCEPTION.match(raw)
    if exception:
        return exception.group(1) not in _HEALS
    return bool(_PLAIN.search(line))
