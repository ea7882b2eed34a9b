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

SCHEMA_VERSION = 2
"""2: `errors` is a list, a problem a node; an interrupted step says so in its status. Schema 1 is read as well."""
OUTPUT_CAP = 4000
"""Characters of one command's stdout or stderr that a record keeps; the middle of a longer one is cut."""

Status = Literal["ok", "already", "failed", "interrupted", "skipped", "broken"]
"""ok: done now. already: it was so before. failed: a StepError. interrupted: by a person. skipped: on purpose.
broken: a bug of ours."""


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
    """What a StepError says to a person of one thing: who, what was found, what was needed, what to type next."""

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
    commands: list[Command] = []
    deviations: list[Deviation] = []
    warnings: list[str] = []
    errors: list[Problem] = []
    """Empty where the step did its work; else a problem for every node or thing in trouble."""
    traceback: str = ""
    """Only for status "broken"."""

    @property
    def trouble(self) -> str:
        """What went wrong, of every node or thing in trouble, on one line; the summary where no error was kept."""
        said = "; ".join(f"{p.what}: {p.found}" if p.what else p.found for p in self.errors)
        return said or self.summary or f"the step ended as {self.status}"


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
        raw = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if raw.get("schema") == 1:
            raw = _from_schema_1(raw)
        if raw.get("schema") != SCHEMA_VERSION:
            said = f"schema {raw.get('schema')}, this version reads 1 and {SCHEMA_VERSION}"
            raise RecordUnreadableError(f"{path}: {said}")
        return msgspec.convert(raw, Record)
    except msgspec.DecodeError as error:
        raise RecordUnreadableError(f"{path}: {error}") from error


def _from_schema_1(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a record of schema 1 as one of schema 2: it had one `error`, whose words told an interruption."""
    error = raw.get("error")
    interrupted = isinstance(error, dict) and error.get("needed") == "to be let finish"
    return raw | {
        "schema": SCHEMA_VERSION,
        "errors": [error] if error else [],
        "status": "interrupted" if interrupted else raw.get("status"),
    }


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
