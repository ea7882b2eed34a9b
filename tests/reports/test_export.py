"""The report for programs: valid against its own schema, complete, and the gate's exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from records.campaign import Campaign, load_campaign
from reports.export import GATE_EXIT, results_json, results_of, results_schema
from reports.verdict.decision import Verdict, decide
from reports.verdict.estimates import estimates_of
from tests.support import campaigns
from tests.support.full_campaign import fail_step, write_campaign


def exported(campaign: Campaign) -> dict[str, Any]:
    """Return the JSON of a campaign, as a program reads it, valid against the schema."""
    data = results_json(results_of(campaign, decide(campaign, 12), estimates_of(campaign)))
    assert b"Infinity" not in data
    assert b"NaN" not in data
    found: dict[str, Any] = json.loads(data)
    jsonschema.Draft202012Validator(results_schema()).validate(found)
    return found


def test_the_schema_is_one() -> None:
    """The generated schema is valid JSON Schema and refuses a file without a verdict."""
    jsonschema.Draft202012Validator.check_schema(results_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(results_schema()).validate({"schema": 1})


def test_a_whole_campaign_is_in_it(tmp_path: Path) -> None:
    """Verdict, comparisons, arms and runs, checks, estimate, steps, environment and hashes are there as numbers."""
    write_campaign(tmp_path, rehearsal={"speedup": 1.6})
    found = exported(load_campaign(tmp_path))
    assert found["verdict"] == found["decision"]["verdict"] == "GO"
    assert found["gate_exit"] == 0
    assert found["rehearsal"] == {"speedup": 1.6}
    assert found["decision"]["comparisons"][0]["ratio"] == pytest.approx(1.6, rel=0.05)
    assert [arm["arm"] for arm in found["arms"]["12"]] == ["exo", "rog", "srv1"]
    assert len(found["arms"]["12"][0]["runs"]) == 5
    assert {check["status"] for check in found["decision"]["checks"]} >= {"pass"}
    assert 0 < found["ceiling"]["ratio"] < 1
    assert [step["step"] for step in found["steps"]] == [*range(1, 14), 15]
    assert found["environment"]["installed"]["rog"]["gpu"]["present"] is True
    assert found["environment"]["script"]["calibration"][0]["tokens_per_s"] == 50
    assert "12-bench-comparison.samples.jsonl" in found["sha256"]
    assert "14-document-results.json" not in found["sha256"]


@pytest.mark.parametrize("last", [0, 1, 8, 11, 15])
def test_partial_campaigns_are_valid_too(last: int) -> None:
    """However far it came, the JSON keeps its schema."""
    found = exported(campaigns.make_campaign(last_step=last))
    assert found["verdict"] == ("GO" if last == 15 else "NOT YET")


def test_an_infinite_bound_is_null() -> None:
    """One run an arm bounds nothing: JSON has no infinity, so the bound is null."""
    found = exported(campaigns.make_campaign(runs=1))
    assert found["decision"]["comparisons"][0]["upper"] is None


def test_a_failed_step_is_in_it(tmp_path: Path) -> None:
    """Its status and all four parts of its error."""
    fail_step(tmp_path, 4)
    found = exported(load_campaign(tmp_path))
    step = next(step for step in found["steps"] if step["step"] == 4)
    assert step["status"] == "failed"
    assert [problem["do"] for problem in step["errors"]] == ["install ROCm"]
    assert found["decision"]["blocked_step"] == 4
    assert found["gate_exit"] == 10


def test_the_gate_knows_every_verdict() -> None:
    """0 only for GO, 10 NO-GO, 11 undecided, 12 invalid; no verdict is without a code."""
    assert set(GATE_EXIT) == set(get_args(Verdict))
    assert [verdict for verdict, code in GATE_EXIT.items() if code == 0] == ["GO"]
    assert (GATE_EXIT["NO-GO"], GATE_EXIT["INCONCLUSIVE"], GATE_EXIT["INVALID"]) == (10, 11, 12)
