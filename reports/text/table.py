"""The pieces every part of the report is made of: tables, cells that are code, bounded foreign text."""

from __future__ import annotations

import msgspec

from reports.text.escape import is_cut, one_line

FOREIGN_CAP = 280
"""Characters of one foreign text that a report shows; the record has the rest."""


class Code(str):
    """A cell shown as code: an id, a path, a command."""

    __slots__ = ()


class Table(msgspec.Struct, frozen=True):
    """One table: `numeric` names the columns (from 0) that are aligned to the right."""

    head: list[str]
    rows: list[list[str]]
    numeric: list[int] = []
    caption: str = ""


def clip(text: str | None, record_file: str = "", cap: int = FOREIGN_CAP) -> str:
    """Return what somebody else said, on one line; a long text is cut and the record named that has all of it."""
    if not text:
        return ""
    line = one_line(text, cap)
    return f"{line}; all of it in {record_file}" if record_file and is_cut(text, cap) else line


def without_empty_columns(table: Table) -> Table:
    """Leave out the columns that no row has anything in."""
    kept = [place for place in range(len(table.head)) if any(row[place] for row in table.rows)]
    return Table(
        [table.head[place] for place in kept],
        [[row[place] for place in kept] for row in table.rows],
        [new for new, place in enumerate(kept) if place in table.numeric],
        table.caption,
    )


def without_empty(head: list[str], columns: list[list[str]], labels: list[str]) -> Table:
    """Turn one column an entity into a table of one row a property; properties that nobody has are left out."""
    rows = [
        [label, *cells]
        for label, cells in zip(labels, (list(row) for row in zip(*columns, strict=True)), strict=True)
        if any(cells)
    ]
    return Table(head, rows)
