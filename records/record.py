"""The fence: one step's record, its writer and its reader.

`tasks` writes records, everything in `reports` reads them, and nothing else crosses. A record is a JSON file in
`logs/<profile>/`, replaced whole on every rerun; a missing file means "not run".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from records import plan
from records.files import write_whole

SCHEMA_VERSION = 1
OUTPUT_CAP = 4000
"""Characters of one command's stdout or stderr that a record keeps; the middle of a longer one is cut."""

Status = Literal["ok", "already", "failed", "skipped", "broken"]
"""ok: done now. already: it was so before. failed: a StepError. skipped: on purpose. broken: a bug of ours."""


class Command(msgspec.Struct, frozen=True):
    """One command that a step ran on a host; `exit_code` is None where it never came back."""

    host: str
    command: str
    exit_code: int | None
    elapsed_s: float
    stdout: str = ""
    stderr: str = ""


class Deviation(msgspec.Struct, frozen=True):
    """One departure from the plan: what it said, what was done instead, and why."""

    plan: str
    done: str
    why: str


class Problem(msgspec.Struct, frozen=True):
    """What a StepError says to a person: who, what was found, what was needed, what to type next."""

    what: str
    found: str
    needed: str
    do: str


class Record(msgspec.Struct, frozen=True, omit_defaults=False):
    """What one step did. `result` holds the step's struct from `records.facts`, as plain JSON."""

    schema: int
    step: int
    name: str
    status: Status
    summary: str
    profile: str
    started_utc: str
    elapsed_s: float
    tool_version: str
    campaign: str = ""
    """Identity of the campaign: the hash of the inventory that was in force (nodes, profile, bench, decision)."""
    rehearsal: dict[str, Any] | None = None
    """Set when the nodes are the embedded rehearsal: its true speed-up, its trap. A report then bears a banner."""
    settings: dict[str, Any] = {}
    """The profile and the limits of hosts.yaml in force, as plain JSON."""
    result: dict[str, Any] = {}
    hosts: dict[str, dict[str, Any]] = {}
    commands: list[Command] = []
    deviations: list[Deviation] = []
    warnings: list[str] = []
    error: Problem | None = None
    traceback: str = ""
    """Only for status "broken"."""


class RecordUnreadableError(Exception):
    """A file in `logs/` is not a record this version reads; the message names the file and the reason."""


ResultT = TypeVar("ResultT")


def capped(text: str, limit: int = OUTPUT_CAP) -> str:
    """Return `text` with the middle cut out where it is longer than `limit` characters, and says how much."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters cut ...]\n{text[-half:]}"


def write_record(folder: Path, record: Record) -> Path:
    """Write `record` into `folder` under its step's name, whole or not at all, and return the path."""
    path = folder / plan.step_numbered(record.step).record_name
    write_whole(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path


def read_record(path: Path) -> Record:
    """Read one record. Raises RecordUnreadableError; FileNotFoundError where the step has not run."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except msgspec.DecodeError as error:
        raise RecordUnreadableError(f"{path}: {error}") from error
    if record.schema != SCHEMA_VERSION:
        raise RecordUnreadableError(f"{path}: schema {record.schema}, this version reads {SCHEMA_VERSION}")
    return record


def read_records(folder: Path) -> dict[int, Record]:
    """Read every record of the plan's steps in `folder`, by step number; absent ones are left out."""
    found = {}
    for step in plan.STEPS:
        path = folder / step.record_name
        if path.is_file():
            found[step.number] = read_record(path)
    return found


def result_of(record: Record | None, kind: type[ResultT]) -> ResultT | None:
    """Return the record's result as the struct `kind`, or None where there is no such result to read."""
    if record is None or not record.result:
        return None
    try:
        return msgspec.convert(record.result, kind)
    except msgspec.ValidationError:
        return None
