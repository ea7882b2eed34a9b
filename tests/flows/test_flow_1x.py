"""The same flow on the other generation: fifteen steps against the stand-in for EXO 1.0.71."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from records.campaign import load_campaign
from records.plan import STEPS
from tests.support.fab import fab, marked


@pytest.mark.long
def test_generation_1_ends_in_go_at_one_and_a_half(tmp_path: Path) -> None:
    """Clone, build, bootstrap peers, placed instances: the same steps and records, GO at a true 1.5."""
    root = tmp_path / "rehearsal"
    done = fab("rehearse", "--generation", "1", "--root", str(root))
    assert (done.returncode, done.stderr) == (0, "")
    records = load_campaign(root / "logs" / "qwen-1x").records
    assert list(records) == [step.number for step in STEPS]
    assert records[2].result["generation"] == "1.x"
    assert records[9].result["exo_answered"] == "mlx-community/Qwen2.5-3B-Instruct-4bit"
    results = json.loads((root / "docs" / "exo-phase1-results.json").read_text(encoding="utf-8"))
    assert results["decision"]["verdict"] == "GO"
    precision = next(check for check in results["decision"]["checks"] if check["name"] == "same weights")
    assert precision["status"] == "warn"
    assert marked(root) == []
