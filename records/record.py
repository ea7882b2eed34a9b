"""The fence: one step's record, its writer and its reader.

`tasks` writes records, everything in `reports` reads them, and nothing else crosses. A record is a JSON file in
`logs/<profile>/`, replaced whole on every rerun; a missing file means "not run".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from records import plan
from records.facts import RESULTS, Skipped
from records.files import write_whole
from records.settings import Settings

SCHEMA_VERSION = 2
"""2: `errors` is a list, a problem a node; an interrupted step says so in its status. Schema 1 is read as well."""
OUTPUT_CAP = 4000
"""Characters of one command's stdout or stderr that a record keeps; the middle of a longer one is cut."""

Status = Literal["ok", "already", "failed", "interrupted", "skipped", "broken"]
"""ok: done now. already: it was so before. failed: a StepError. interrupted: by a person. skipped: on purpose.
broken: a bug of ours."""


CONNECTING = "open the SSH connection"
"""Stands for a command where a connection was opened; a dozen round trips, where a command takes two."""


class Command(msgspec.Struct, frozen=True):
    """One command that a step ran on a host; `exit_code` is None where it never came back."""

    host: str
    command: str
    exit_code: int | None
    elapsed_s: float
    stdout: str = ""
    """Empty where it was read line by line into a file of its own: the samples."""
    stderr: str = ""
    times: int = 1
    """How often it was asked in a row with the same answer: a poll; `elapsed_s` is of all."""


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
    exo_said: str = ""
    """The line in which EXO itself says that it cannot; empty where EXO said nothing of it, or a person can mend it."""


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
    round_trips: dict[str, int] = {}
    """Host -> how often the step waited for it: connections, commands, requests. Absent in older records."""
    deviations: list[Deviation] = []
    warnings: list[str] = []
    errors: list[Problem] = []
    """Empty where the step did its work; else a problem for every node or thing in trouble."""
    traceback: str = ""
    """Only for status "broken"."""

    @property
    def trouble(self) -> str:
        """What went wrong, of every node or thing in trouble, on one line; the summary where no error was kept."""
        words = "; ".join(f"{p.what}: {p.found}" if p.what else p.found for p in self.errors)
        return words or self.summary or f"the step ended as {self.status}"


class RecordUnreadableError(Exception):
    """A file in `logs/` is not a record that this version reads; the message is the reason."""


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
            raise RecordUnreadableError(f"schema {raw.get('schema')}, this version reads 1 and {SCHEMA_VERSION}")
        record = msgspec.convert(raw, Record)
    except msgspec.DecodeError as error:
        raise RecordUnreadableError(str(error)) from error
    if not 1 <= record.step <= len(plan.STEPS) or path.name != plan.step_numbered(record.step).record_name:
        raise RecordUnreadableError(f"it says that it is of step {record.step}")
    return record


def _from_schema_1(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a record of schema 1 as one of schema 2: it had one `error`, whose words told an interruption."""
    error = raw.get("error")
    interrupted = isinstance(error, dict) and error.get("needed") == "to be let finish"
    return raw | {
        "schema": SCHEMA_VERSION,
        "errors": [error] if error else [],
        "status": "interrupted" if interrupted else raw.get("status"),
    }


def decoded_result(record: Record) -> msgspec.Struct | None:
    """Return the record's result as the struct of its step, None where the step did not get to one.

    Raises RecordUnreadableError where it is none of those, or is missing from a step that says it is done.
    """
    kind = Skipped if record.status == "skipped" else RESULTS[record.step]
    if not record.result and record.status in ("failed", "interrupted", "broken"):
        return None
    try:
        return msgspec.convert(record.result, kind)
    except msgspec.ValidationError as error:
        raise RecordUnreadableError(f"result: {error}") from error


def decoded_settings(record: Record) -> Settings:
    """Return what a report reads of the settings that the record carries. Raises RecordUnreadableError."""
    try:
        return msgspec.convert(record.settings, Settings)
    except msgspec.ValidationError as error:
        raise RecordUnreadableError(f"settings: {error}") from error
