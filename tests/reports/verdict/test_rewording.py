"""No sentence is data: every free text of every record and sample reads otherwise, and nothing is decided otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from records import plan
from records.campaign import load_campaign
from records.facts import Skipped
from records.record import read_record, write_record
from reports.verdict.decision import Decision, decide
from reports.verdict.estimates import estimates_of
from tests.support.full_campaign import fail_step, write_campaign
from tests.support.rendered import view_of

FREE_TEXT = {
    "summary", "warnings", "deviations", "errors", "traceback", "commands",  # of every record
    "network", "go_unreachable_because", "alternatives", "reasons", "said", "device", "devices", "downloaded",
    "left", "ollama_changes", "error", "reason", "command", "log", "notes", "os", "kernel", "cpu", "title",
    "text_head",
}  # fmt: skip
"""Keys of records, samples and conditions below which stand words for people, or what a server or a node said."""
KEPT = {"host", "exit_code"}
"""Below `commands`: which machine it was is no sentence."""


def reworded(value: Any, *, free: bool = False) -> Any:
    """Return JSON in which every text for people is another one."""
    if isinstance(value, dict):
        return {k: reworded(v, free=(free or k in FREE_TEXT) and k not in KEPT) for k, v in value.items()}
    if isinstance(value, list):
        return [reworded(member, free=free) for member in value]
    return f"other words, {len(value)} letters before" if free and isinstance(value, str) and value else value


def reword(folder: Path) -> None:
    """Reword every file of a campaign in place."""
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(reworded(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    for path in folder.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("".join(json.dumps(reworded(json.loads(line))) + "\n" for line in lines), encoding="utf-8")


def decided(folder: Path) -> tuple[object, ...]:
    """Return everything of the decisions on both models that is no sentence."""
    campaign = load_campaign(folder)
    assert campaign.unread == []
    decisions: list[Decision] = [decide(campaign), *filter(None, [estimates_of(campaign).large])]
    view = view_of(folder)
    return (
        [(d.verdict, d.plan_word, d.comparisons, d.blocked_step, d.further_rounds) for d in decisions],
        [(check.name, check.status) for d in decisions for check in d.checks],
        view.cluster.outcome,
        [row[3] for row in view.steps.rows],
        len(view.trouble.problems),
        view.reproduce,
    )


def interrupted(folder: Path) -> None:
    """Have a person stop step 3, with nothing after it."""
    write_campaign(folder, steps=range(1, 4))
    record = read_record(folder / plan.step_numbered(3).record_name)
    write_record(folder, msgspec.structs.replace(record, status="interrupted", result={}))


def failed(folder: Path) -> None:
    """Have step 4 fail."""
    write_campaign(folder, steps=range(1, 4))
    fail_step(folder, 4)


def skipped(folder: Path) -> None:
    """Have step 13 left out."""
    write_campaign(folder, steps=range(1, 13))
    record = read_record(folder / plan.step_numbered(12).record_name)
    skip = {"step": 13, "name": "bench-scale-up", "status": "skipped"}
    write_record(folder, msgspec.structs.replace(record, **skip, result=msgspec.to_builtins(Skipped("no GO"))))


def with_failing_requests(folder: Path) -> None:
    """Have some of EXO's requests fail: too many for the numbers to count."""
    write_campaign(folder)
    path = folder / plan.step_numbered(12).samples_name
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines[::7]:
        line |= {"error": "the stream ended without finish_reason", "output_tokens": None, "total_s": None}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (write_campaign, "GO"),
        (interrupted, "NOT YET"),
        (failed, "NO-GO (blocked)"),
        (skipped, "GO"),
        (with_failing_requests, "INVALID"),
    ],
)
def test_other_words_decide_nothing_else(made: Callable[[Path], None], verdict: str, tmp_path: Path) -> None:
    """Verdict, ratios, every check's status, the blocked step and the report's structure are the same."""
    folder = tmp_path / "llama-0015"
    made(folder)
    before = decided(folder)
    assert decide(load_campaign(folder)).verdict == verdict
    reword(folder)
    assert decided(folder) == before
    assert "no GO" not in str(view_of(folder))
