"""Files that cannot be read, or are of another schema: named with the reason, and never taken for something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from records import plan
from records.campaign import load_campaign
from reports.checks.catalogue import check_all
from reports.checks.check import Check
from reports.verdict.decision import Decision, decide
from tests.support.campaigns import make_campaign, write_campaign
from tests.support.rendered import view_of

MADE = make_campaign(1.6, 0.01, runs=4)
GOOD = decide(MADE)
RECORDS = {number: json.loads(msgspec.json.encode(record)) for number, record in MADE.records.items()}
GONE = object()


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to every value of a JSON document but the document itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in inner:
        yield (*path, key)
        yield from places(member, (*path, key))


PLACES = [(number, path) for number, record in RECORDS.items() for path in places(record)]


def mutated(record: dict[str, Any], path: tuple[str | int, ...], new: object) -> dict[str, Any]:
    """Return a copy of a record with one value replaced, or taken away where `new` is GONE."""
    copy: dict[str, Any] = json.loads(json.dumps(record))
    holder: Any = copy
    for key in path[:-1]:
        holder = holder[key]
    if new is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return copy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a campaign that says GO."""
    folder = tmp_path_factory.mktemp("logs") / "llama-0015"
    write_campaign(folder, MADE)
    assert decide(load_campaign(folder)).verdict == "GO"
    return folder


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from(PLACES),
    new=st.sampled_from([None, 7, -1, 0.5, "x", [], {}, True, ["x"], {"x": 1}, GONE]),
)
def test_no_changed_value_of_a_record_is_taken_for_something_else(
    folder: Path, place: tuple[int, tuple[str | int, ...]], new: object
) -> None:
    """Whatever one value becomes: GO says what it said, nothing is `still running`, and the report can be made."""
    number, path = place
    file = folder / plan.step_numbered(number).record_name
    whole = file.read_bytes()
    try:
        file.write_text(json.dumps(mutated(RECORDS[number], path, new)), encoding="utf-8")
        found = decide(load_campaign(folder))
        view_of(folder)
    finally:
        file.write_bytes(whole)
    assert "still running" not in " ".join([found.headline, *found.because])
    if found.verdict == "GO":
        assert found.comparisons == GOOD.comparisons
        assert found.limits.target_ratio == GOOD.limits.target_ratio


def spoilt(folder: Path, tmp_path: Path, number: int, path: tuple[str | int, ...], new: object) -> Path:
    """Return a copy of the campaign's folder with one value of one record replaced."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    file = copy / plan.step_numbered(number).record_name
    file.write_text(json.dumps(mutated(RECORDS[number], path, new)), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("path", "new", "reason"),
    [
        (("result", "runs"), "six", "Expected `int`, got `str`"),
        (("schema",), 99, "schema 99"),
        (("result",), {}, "missing required field"),
        (("settings", "limits", "target_ratio"), "1.3", "settings: "),
        (("step",), 11, "it says that it is of step 11"),
    ],
)
def test_an_unreadable_record_of_the_measurement_is_the_headline(
    folder: Path, tmp_path: Path, path: tuple[str, ...], new: object, reason: str
) -> None:
    """One ill-typed field in step 12's record: NOT YET, naming file, reason and what to type; not `still running`."""
    found = decide(load_campaign(spoilt(folder, tmp_path, 12, path, new)))
    assert found.verdict == "NOT YET"
    assert "12-bench-comparison.json" in found.headline
    assert reason in found.headline
    assert "fab bench-comparison" in found.would_change


@pytest.mark.parametrize(
    ("number", "field", "check"),
    [
        (3, "revision", "right software"),
        (7, "device_kind", "device"),
        (10, "calibration", "instrument"),
        (1, "nodes", "one campaign"),
    ],
)
def test_what_an_unreadable_record_would_tell_is_not_known(
    folder: Path, tmp_path: Path, number: int, field: str, check: str
) -> None:
    """The check that needs it is unknown and names the file, so the campaign cannot say GO."""
    found = decide(load_campaign(spoilt(folder, tmp_path, number, ("result", field), 5)))
    assert found.verdict == "INCONCLUSIVE"
    named = checked(found)[check]
    assert named.status == "unknown"
    assert plan.step_numbered(number).record_name in named.evidence


def test_the_steps_table_calls_it_unreadable(folder: Path, tmp_path: Path) -> None:
    """The step is neither `not run` nor done, and the report names the file with the reason."""
    view = view_of(spoilt(folder, tmp_path, 3, ("result", "revision"), 5))
    assert view.steps.rows[2][3] == "UNREADABLE"
    assert any("03-install-srv2.json: result: Expected `str`, got `int`" in words for words in view.trouble.unreadable)


@pytest.mark.parametrize("name", ["12-bench-comparison.samples.jsonl", "12-bench-comparison.conditions.jsonl"])
def test_lines_of_another_schema_are_not_taken(folder: Path, tmp_path: Path, name: str) -> None:
    """One such line is named with file, line and reason, and the campaign no longer says GO."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    lines = (copy / name).read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].replace('"schema":1', '"schema":99')
    (copy / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    campaign = load_campaign(copy)
    assert campaign.unread == [f"{name}, line 4: schema 99, this version reads 1 (left out)"]
    assert decide(campaign).verdict != "GO"


def test_samples_that_are_all_of_another_schema_are_the_headline(folder: Path, tmp_path: Path) -> None:
    """Nothing was measured that could be read: not `has not been run`, but the file, the line and the reason."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    file = copy / "12-bench-comparison.samples.jsonl"
    file.write_text(file.read_text(encoding="utf-8").replace('"schema":1', '"schema":99'), encoding="utf-8")
    found = decide(load_campaign(copy))
    assert found.verdict == "NOT YET"
    assert "12-bench-comparison.samples.jsonl cannot be read: line 1: schema 99" in found.headline
    assert "fab bench-comparison" in found.would_change
    assert len(load_campaign(copy).unread) == 7


def test_a_measurement_under_way_is_still_running(folder: Path, tmp_path: Path) -> None:
    """Samples without any record of their step: that, and only that, is said to be running or killed."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    (copy / "12-bench-comparison.json").unlink()
    assert "still running" in decide(load_campaign(copy)).headline


def checked(decision: Decision) -> dict[str, Check]:
    """Return the checks of a decision by name."""
    return {check.name: check for check in decision.checks}


def test_a_good_campaign_has_no_unknown_essential_check(folder: Path) -> None:
    """What the cases above change is the file alone: before, every essential check is known."""
    assert not [c.name for c in check_all(load_campaign(folder)) if c.essential and c.status == "unknown"]
