"""The plan's text files: its layout, what was really run, and whatever became of the step."""

from __future__ import annotations

import msgspec

from records.campaign import Campaign, Unreadable
from records.facts import Skipped
from records.samples import Sample
from reports.plan_text import NAMES, plan_text
from tests.support import campaigns
from tests.support.made_records import record


def test_the_layout_is_the_plans() -> None:
    """Heading, columns, one row a request with Ollama first, the plan's speed-up and word."""
    campaign = campaigns.make_campaign(speedup=1.6, runs=2)
    lines = plan_text(campaign, 12).splitlines()
    start = lines.index("=" * 70)
    assert lines[start + 1] == "BENCHMARK RESULTS: EXO vs Ollama"
    assert lines[start + 3] == f"{'Name':<30} {'Model':<15} {'Time':>8} {'Tokens':>8} {'Tok/s':>10}"
    rows = lines[start + 5 : lines.index("-" * 70, start + 5)]
    assert len(rows) == 3 * 2 * 3
    assert rows[0].startswith("Ollama (rog)")
    assert rows[-1].startswith("EXO Cluster")
    assert any(line.startswith("Speedup: +") and line.endswith("% (EXO vs best Ollama)") for line in lines)
    assert "✓ SUCCESS: Target ≥30% speedup achieved!" in lines
    assert any("This is the plan's rule" in line for line in lines)


def test_it_names_the_models_that_were_really_run() -> None:
    """The file keeps the plan's name; the pair that was measured stands at its top."""
    campaign = campaigns.make_campaign(runs=2)
    text = plan_text(campaign, 12)
    assert NAMES[12] == "benchmark-results-qwen3b.txt"
    assert "the plan's model: qwen2.5:3b" in text
    assert "model pair really run: EXO llama-3.2-3b" in text
    assert "this is not the plan's model" in text


def test_a_skipped_step_says_why() -> None:
    """One line `skipped: reason`."""
    skipped = {13: record(13, Skipped("step 12 said NO-GO"))}
    assert "skipped: step 12 said NO-GO" in plan_text(campaigns.with_records(Campaign("p"), skipped), 13).splitlines()


def test_a_failed_step_says_what_was_found_and_shows_what_it_left() -> None:
    """Without samples the error; with samples the rows too, marked."""
    failed = campaigns.with_failed_step(campaigns.make_campaign(runs=2), 12, "Ollama is gone")
    assert "the step did not end well" in plan_text(failed, 12)
    assert "failed: srv2: Ollama is gone" in plan_text(msgspec.structs.replace(failed, samples={}), 12)
    assert "not run yet" in plan_text(Campaign("p"), 12)


def test_an_unreadable_record_is_named() -> None:
    """The text says which file cannot be read and why, not that the step has not run."""
    unreadable = Campaign("p", unreadable=[Unreadable("12-bench-comparison.json", "schema 99", 12)])
    assert "its record cannot be read: 12-bench-comparison.json: schema 99" in plan_text(unreadable, 12)


def test_a_failed_request_is_a_row_and_no_speed_up_comes_from_one_arm() -> None:
    """The plan's ERROR row, cut to its column; with EXO failing altogether no ratio is printed."""
    campaign = campaigns.make_campaign(runs=2)
    text = plan_text(campaigns.changed(campaign, lambda s: broken(s) if s.engine == "exo" else s), 12)
    assert "   ERROR connection reset ..." in text
    assert "No speed-up: only one engine has a finished request." in text


def broken(sample: Sample) -> Sample:
    """Return the sample as a request that failed with a long error over two lines."""
    return msgspec.structs.replace(sample, error="connection reset by\nsomebody far away", total_s=None)
