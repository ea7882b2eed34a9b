"""What has been measured is never overwritten: a finished campaign is moved aside, or a failed attempt is.

Everything lies below `logs/PROFILE/archive/`, in a folder named by the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from records.facts import Benchmark
from records.plan import PlanStep
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
        archive(logs, [logs / name for name in (step.samples_name, step.conditions_name, step.record_name)])


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
