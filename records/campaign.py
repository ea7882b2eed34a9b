"""One campaign as it lies in `logs/<profile>/`: everything that a report is made from, read once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from records import plan
from records.record import Record, RecordUnreadableError, read_record
from records.samples import Conditions, Sample, TornLine, read_conditions, read_samples
from records.settings import Limits

CONTROL_NAME = "control.samples.jsonl"
"""Samples of `fab bench --control`: Ollama against itself, two arms, through the same pipeline."""
CONCURRENCY_NAME = "concurrency.samples.jsonl"
"""Samples of `fab bench --concurrency`: several requests at once, a separate experiment that never votes."""
REPORT_STEP = 14


class Campaign(msgspec.Struct, frozen=True):
    """Records and raw samples of one profile. Keys of the dicts are step numbers unless said otherwise."""

    profile: str
    records: dict[int, Record]
    samples: dict[int, list[Sample]]
    conditions: dict[int, list[Conditions]]
    torn: dict[str, list[TornLine]]
    """File name -> the lines of it that cannot be read."""
    hashes: dict[str, str]
    """File name -> SHA-256. The report's own record is left out: it changes with every report."""
    limits: Limits
    unreadable: list[str]
    """Records that this version cannot read, `file: reason`; their steps count as not run."""
    control: list[Sample] = []
    concurrent: list[Sample] = []
    """Of the concurrency experiment; those asked alone are marked as warm-ups."""


def load_campaign(folder: Path) -> Campaign:
    """Read `folder`; whatever is missing is left out, whatever cannot be read is named. An empty folder is fine.

    The limits are those in force when step 12 was measured, so that editing hosts.yaml afterwards moves no verdict;
    before step 12 the newest record's.
    """
    records, unreadable = _read_records(folder)
    samples: dict[int, list[Sample]] = {}
    conditions: dict[int, list[Conditions]] = {}
    torn: dict[str, list[TornLine]] = {}
    for step in plan.STEPS:
        lines, bad = read_samples(folder / step.samples_name)
        if lines:
            samples[step.number] = lines
        if bad:
            torn[step.samples_name] = bad
        notes, bad = read_conditions(folder / step.conditions_name)
        if notes:
            conditions[step.number] = notes
        if bad:
            torn[step.conditions_name] = bad
    control, bad = read_samples(folder / CONTROL_NAME)
    if bad:
        torn[CONTROL_NAME] = bad
    concurrent, bad = read_samples(folder / CONCURRENCY_NAME)
    if bad:
        torn[CONCURRENCY_NAME] = bad
    return Campaign(
        profile=next((record.profile for record in records.values()), folder.name),
        records=records,
        samples=samples,
        conditions=conditions,
        torn=torn,
        hashes=_hashes(folder),
        limits=_limits(records),
        unreadable=unreadable,
        control=control,
        concurrent=concurrent,
    )


def _read_records(folder: Path) -> tuple[dict[int, Record], list[str]]:
    records: dict[int, Record] = {}
    unreadable: list[str] = []
    for step in plan.STEPS:
        path = folder / step.record_name
        if not path.is_file():
            continue
        try:
            records[step.number] = read_record(path)
        except RecordUnreadableError as error:
            unreadable.append(str(error).replace(str(path), path.name))
    return records, unreadable


def _limits(records: dict[int, Record]) -> Limits:
    measured = [records[12]] if 12 in records else []
    earlier = sorted((r for n, r in records.items() if n < REPORT_STEP), key=lambda r: r.started_utc, reverse=True)
    for record in [*measured, *earlier]:
        if "limits" in record.settings:
            try:
                return msgspec.convert(record.settings["limits"], Limits)
            except msgspec.ValidationError:
                continue
    return Limits()


def _hashes(folder: Path) -> dict[str, str]:
    own = plan.step_numbered(REPORT_STEP).record_name
    files = [*folder.glob("*.json"), *folder.glob("*.jsonl")] if folder.is_dir() else []
    wanted = sorted(path for path in files if path.is_file() and path.name != own and not path.name.startswith("."))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in wanted}
