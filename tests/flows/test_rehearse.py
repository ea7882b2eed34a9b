"""`fab rehearse` alone: a true 1.2 is never GO, and nothing stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from records.campaign import load_campaign
from records.plan import STEPS
from tests.support.fab import fab, marked


@pytest.mark.long
def test_a_true_speedup_of_1_2_is_not_go(tmp_path: Path) -> None:
    """At a true 1.2 the fifteen steps end without a GO, the large model is skipped, and no process is left."""
    root = tmp_path / "rehearsal"
    done = fab("rehearse", "--speedup", "1.2", "--root", str(root))
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads((root / "docs" / "exo-phase1-results.json").read_text(encoding="utf-8"))
    assert results["decision"]["verdict"] in {"NO-GO", "INCONCLUSIVE"}
    records = load_campaign(root / "logs" / "llama-0015").records
    assert list(records) == [step.number for step in STEPS]
    assert records[13].status == "skipped"
    assert "step 12 ended in" in records[13].summary
    assert marked(root) == []


def test_odd_options_are_one_line(tmp_path: Path) -> None:
    """A speed-up that is no number, an unknown trap and a folder of something else: one line, exit 2."""
    (tmp_path / "mine.txt").touch()
    for words in (
        ("rehearse", "--speedup", "fast", "--root", str(tmp_path / "r")),
        ("rehearse", "--trap", "no-such-trap", "--root", str(tmp_path / "r")),
        ("rehearse", "--root", str(tmp_path)),
    ):
        done = fab(*words)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "mine.txt").exists()


def test_a_trap_is_caught_and_reported(tmp_path: Path) -> None:
    """`fab rehearse --trap wrong-extra` stops at the install, says why, reports NOT YET and leaves nothing."""
    root = tmp_path / "rehearsal"
    done = fab("rehearse", "--trap", "wrong-extra", "--root", str(root))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in ("found:", "amd", "needed:", "do:"))
    results = json.loads((root / "docs" / "exo-phase1-results.json").read_text(encoding="utf-8"))
    assert results["decision"]["verdict"] == "NOT YET"  # pip's word, not EXO's: hosts.yaml has a wrong extra
    assert results["decision"]["would_change"].startswith("Going on: ")
    assert marked(root) == []
