"""Words of servers, nodes and models -> text that cannot break out of Markdown or HTML.

The templates escape everything by default (`finalize` of the Markdown environment, autoescape of the HTML one); what
is meant as markup is a `Md`. Sources: CommonMark 0.31 sections 2.4, 2.5 and 6.1, GitHub Flavored Markdown 4.10
(tables) and 6.9 (autolinks).
"""

from __future__ import annotations

import re
import unicodedata

CAP = 1500
"""Characters of one text that a report shows at most; views cut earlier and name the record that has the rest."""

# CSI, then OSC (hyperlinks, titles) up to BEL or ST, then the two-character escapes.
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]")
_MARKDOWN = {
    "\\": "\\\\",
    "`": "\\`",
    "*": "\\*",
    "[": "\\[",
    "]": "\\]",
    "|": "\\|",
    "~": "\\~",
    "#": "\\#",
    "!": "\\!",
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
    "$": "&#36;",  # GitHub reads $...$ as a formula, a backslash would not stop it
}
_BLOCK_START = re.compile(r"^(\d{1,9})([.)])(?=\s|$)|^([-+=])(?=[-+=\s]|$)")
_PLAIN_CODE = re.compile(r"`([A-Za-z0-9/~][A-Za-z0-9 ._/=:,+~-]*)`")
_OUTER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


class Md(str):
    """Text that is Markdown already and is left alone by `markdown`."""

    __slots__ = ()


def clean(text: str) -> str:
    """Return `text` without terminal escapes; other invisible or direction-changing characters become U+FFFD.

    Newlines and tabs stay. Unassigned and private characters stay too: they show as boxes and do nothing.
    """
    if text.isprintable():  # so is nearly everything, the base64 of the charts included
        return text
    without = _ANSI.sub("", text.replace("\r\n", "\n"))
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _UNSEEN else "�" for c in without)


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def one_line(text: str, cap: int = CAP) -> str:
    """Return cleaned `text` on one line, cut after `cap` characters with a word on how many are missing."""
    line = _line(text, cap)
    if not is_cut(text, cap):
        return line
    return f"{line[:cap].rstrip()} [... cut, {len(text)} characters in all]"


def is_cut(text: str, cap: int = CAP) -> bool:
    """Tell whether `one_line` leaves something of `text` out."""
    return len(text) > 4 * cap + 400 or len(_line(text, cap)) > cap


def _line(text: str, cap: int) -> str:
    return " ".join(clean(text[: 4 * cap + 400]).split())


def markdown(value: object) -> str:
    """Return `value` as Markdown that shows its text, on one line; safe in a table cell. `Md` passes as it is.

    Words in backticks that are nothing but a plain command or path stay code, as our own sentences mean them.
    """
    if isinstance(value, Md):
        return value
    if value is None:
        return ""
    escaped = "".join(f"`{text}`" if is_code else _escaped(text) for text, is_code in pieces(one_line(str(value))))
    return _BLOCK_START.sub(lambda match: f"{match[1]}\\{match[2]}" if match[1] else f"\\{match[3]}", escaped)


def pieces(text: str) -> list[tuple[str, bool]]:
    """Split `text` into plain pieces and pieces of code (without their backticks), in order."""
    parts = _PLAIN_CODE.split(text)
    return [(part, bool(number % 2)) for number, part in enumerate(parts) if part]


def _escaped(text: str) -> str:
    escaped = "".join(_MARKDOWN.get(character, character) for character in text)
    escaped = _OUTER_UNDERSCORE.sub(r"\\_", escaped)
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def code(value: object) -> Md:
    """Return `value` as a code span, on one line; safe in a table cell."""
    line = one_line("" if value is None else str(value))
    if not line:
        return Md("")
    if "`" not in line and "|" not in line and "\\" not in line:
        return Md(f"`{line}`")
    # A code span in a table cannot hold a pipe or, reliably, a backtick: entities inside an HTML element can.
    special = re.sub(r"[^\w .,/:()\-]|_", lambda match: f"&#{ord(match[0])};", line)
    return Md(f"<code>{special.replace('://', '&#58;//').replace('www.', 'www&#46;')}</code>")


def block(value: str, language: str = "") -> Md:
    """Return `value` as a fenced code block whose fence is longer than any run of backticks inside."""
    body = clean(value).strip("\n")
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return Md(f"{fence}{language}\n{body}\n{fence}")
