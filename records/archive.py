"""What has been measured is never overwritten: a campaign is moved aside, or a failed attempt is, and can come back.

Everything lies below `logs/PROFILE/archive/`, in a folder named by the time. A campaign there is whole, with the
records of the steps before it, so that it is read, compared and rendered as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from records.facts import Benchmark
from records.plan import STEPS, PlanStep
from records.record import Record, RecordUnreadableError, decoded_result, read_record


class Finished:
    """A step's finished measurement as it was before the step began again, if there was one."""

    def __init__(self, logs: Path, step: PlanStep) -> None:
        self._logs = logs
        self._samples = logs / step.samples_name
        self._before = _stamp(self._samples)
        self._there = self._before is not None and _may_be_finished(logs / step.record_name)

    def folder_for(self, record: Record) -> Path:
        """Return where `record` goes: to the logs, or aside where it would take a finished measurement's place.

        That is so where the new attempt failed before it measured anything: the samples are untouched, and without
        the record that belongs to them nobody could decide on them any more.
        """
        failed = record.status in ("failed", "interrupted", "broken")
        if failed and self._there and _stamp(self._samples) == self._before:
            return new_folder(self._logs)
        return self._logs


def archive(logs: Path, files: Sequence[Path]) -> Path:
    """Move `files` into a folder of their own below `archive/`, named by the time; nothing is ever overwritten."""
    folder = new_folder(logs)
    folder.mkdir(parents=True)
    for file in files:
        if file.exists():
            file.rename(folder / file.name)
    return folder


def archive_step(logs: Path, step: PlanStep) -> None:
    """Move what a step has measured, with its record, to the archive; nothing where it has measured nothing."""
    if (logs / step.samples_name).exists():
        archive(logs, [logs / name for name in _names(step)])


def archive_campaign(logs: Path, steps: Collection[PlanStep]) -> Path | None:
    """Put the campaign in `logs` into the archive, whole, and take what `steps` measured out of `logs`.

    Returns its folder there; None where none of `steps` has measured anything.
    """
    if not any((logs / step.samples_name).exists() for step in steps):
        return None
    gone = {name for step in steps for name in _names(step)}
    folder = new_folder(logs)
    folder.mkdir(parents=True)
    for file in _files(logs):  # copies first: a crash in between leaves everything where it was
        if file.name not in gone:
            shutil.copy2(file, folder / file.name)
    for file in _files(logs):
        if file.name in gone:
            file.rename(folder / file.name)
    return folder


def archived(logs: Path) -> list[Path]:
    """Return the folders of the archive in which something measured lies, the oldest first."""
    folders = sorted((logs / "archive").iterdir()) if (logs / "archive").is_dir() else []
    return [folder for folder in folders if any((folder / step.samples_name).is_file() for step in STEPS)]


def restore(logs: Path, folder: Path) -> Path | None:
    """Bring what lies in `folder` of the archive back to `logs`; what is there now goes to the archive.

    Returns where that went, None where there was nothing. A folder that holds single steps replaces these alone.
    """
    names = {file.name for file in _files(folder)}
    whole = any(step.record_name in names for step in STEPS if step.samples_name not in names)
    before = None
    if replaced := [file for file in _files(logs) if whole or file.name in names]:
        before = archive(logs, replaced)
    for file in _files(folder):
        shutil.copy2(file, logs / file.name)
    shutil.rmtree(folder)
    return before


def _names(step: PlanStep) -> tuple[str, str, str]:
    return step.samples_name, step.conditions_name, step.record_name


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def new_folder(logs: Path) -> Path:
    """Return a folder below `archive/` that is not there yet, named by the time."""
    return logs / "archive" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _may_be_finished(path: Path) -> bool:
    """Tell whether a record says that its measurement came to its end; one that cannot be read may say so."""
    try:
        return isinstance(decoded_result(read_record(path)), Benchmark)
    except FileNotFoundError:
        return False
    except RecordUnreadableError:
        return True


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
