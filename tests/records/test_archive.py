"""What has been measured is moved aside and never overwritten, not even by the record of an attempt that failed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from records import plan
from records.archive import Finished, archive_campaign, archive_step, archived, restore
from records.campaign import load_campaign
from records.record import Problem, Record, read_record, write_record
from reports.verdict.decision import decide
from tests.support.full_campaign import write_campaign

STEP = plan.step_named("bench-comparison")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Give the folder of a campaign that has finished."""
    write_campaign(tmp_path, runs=2)
    return tmp_path


def failing(logs: Path) -> Record:
    """Return the record of an attempt that failed."""
    good = read_record(logs / STEP.record_name)
    return msgspec.structs.replace(
        good, status="failed", result={}, errors=[Problem("rog", "it is not there", "rog", "fab start")]
    )


def test_attempt_that_measured_nothing_does_not_replace_what_is_finished(logs: Path) -> None:
    """Its record goes to the archive; the finished one, without which nobody could decide, stays."""
    finished, record = Finished(logs, STEP), failing(logs)
    folder = finished.folder_for(record)
    assert folder.parent == logs / "archive"
    write_record(folder, record)
    assert read_record(logs / STEP.record_name).status == "ok"
    assert read_record(folder / STEP.record_name).status == "failed"


def test_attempt_that_measured_replaces_it(logs: Path) -> None:
    """One more sample, or the old ones moved away: the record belongs to what lies there now."""
    finished = Finished(logs, STEP)
    with (logs / STEP.samples_name).open("ab") as file:
        file.write(b"{}\n")
    assert finished.folder_for(failing(logs)) == logs
    finished = Finished(logs, STEP)
    record = failing(logs)
    archive_step(logs, STEP)
    assert finished.folder_for(record) == logs


def test_success_and_first_attempts_are_recorded_in_place(logs: Path) -> None:
    """Only a failure beside a finished measurement is put aside: not a success, and not where none had finished."""
    assert Finished(logs, STEP).folder_for(read_record(logs / STEP.record_name)) == logs
    broken = failing(logs)
    write_record(logs, broken)
    assert Finished(logs, STEP).folder_for(broken) == logs
    (logs / STEP.record_name).unlink()
    assert Finished(logs, STEP).folder_for(broken) == logs
    (logs / STEP.samples_name).unlink()
    assert Finished(logs, STEP).folder_for(broken) == logs


def test_step_is_archived_whole_or_not_at_all(logs: Path) -> None:
    """Samples, conditions and record move together; a step without samples stays as it is."""
    archive_step(logs, STEP)
    moved = {path.name for path in (logs / "archive").glob("*/*")}
    assert moved == {STEP.samples_name, STEP.conditions_name, STEP.record_name}
    archive_step(logs, plan.step_named("verify-python"))
    assert (logs / "01-verify-python.json").exists()


MEASURED = [plan.step_numbered(number) for number in (11, 12, 13)]


def test_archived_campaign_is_whole_and_comes_back(logs: Path) -> None:
    """Its verdict is in the archive what it was; brought back, every file is as before, what stood there is kept."""
    before = {path.name: path.read_bytes() for path in logs.iterdir()}
    verdict = decide(load_campaign(logs))
    folder = archive_campaign(logs, MEASURED)
    assert folder is not None
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert decide(load_campaign(folder)) == verdict
    assert not any((logs / name).exists() for step in MEASURED for name in (step.samples_name, step.record_name))
    assert (logs / "01-verify-python.json").exists()
    write_campaign(logs, runs=3)
    there = {path.name: path.read_bytes() for path in logs.iterdir() if path.is_file()}
    assert archived(logs) == [folder]
    aside = restore(logs, folder)
    assert {path.name: path.read_bytes() for path in logs.iterdir() if path.is_file()} == before
    assert aside is not None
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == there
    assert archived(logs) == [aside]


def test_a_single_archived_step_replaces_that_step_alone(logs: Path) -> None:
    """The others stay as they are."""
    verdict = decide(load_campaign(logs))
    archive_step(logs, STEP)
    (folder,) = archived(logs)
    assert restore(logs, folder) is None
    assert decide(load_campaign(logs)) == verdict
    assert archive_campaign(logs / "empty", MEASURED) is None
