"""What is read back from `logs/`: everything that is there, and the name of everything that cannot be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from records.campaign import load_campaign
from records.facts import Documented
from records.samples import compact
from records.settings import Limits
from reports.verdict.decision import decide
from tests.support.campaigns import make_campaign, with_records, write_campaign
from tests.support.made_records import record


def test_a_campaign_reads_back_as_it_was(tmp_path: Path) -> None:
    """Records, samples and conditions survive the way over the disk, and so does the verdict, word for word."""
    made = make_campaign(1.5, 0.03)
    write_campaign(tmp_path / "llama-0015", made)
    read = load_campaign(tmp_path / "llama-0015")
    samples = {step: [compact(sample) for sample in of_step] for step, of_step in made.samples.items()}
    assert (read.records, read.samples, read.conditions) == (made.records, samples, made.conditions)
    assert decide(read) == decide(made)
    assert read.profile == "llama-0015"


def test_an_empty_or_missing_folder_is_a_campaign_that_has_not_begun(tmp_path: Path) -> None:
    """No folder at all reads as nothing done yet."""
    read = load_campaign(tmp_path / "never")
    assert (read.records, read.samples, read.hashes, read.limits) == ({}, {}, {}, Limits())
    assert decide(read).verdict == "NOT YET"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A torn record and a torn line are named by file; the rest is read; a torn step counts as not run."""
    write_campaign(tmp_path, make_campaign())
    (tmp_path / "12-bench-comparison.json").write_bytes(b'{"schema": 1, "st')
    samples = tmp_path / "12-bench-comparison.samples.jsonl"
    samples.write_bytes(samples.read_bytes() + b'{"schema": 1, "arm": "ex')
    read = load_campaign(tmp_path)
    assert [entry.file for entry in read.unreadable] == ["12-bench-comparison.json"]
    assert [line.line for line in read.torn[samples.name]] == [len(read.samples[12]) + 1]
    found = decide(read)
    assert found.verdict == "NOT YET"
    assert any("12-bench-comparison.json" in reason for reason in found.because)


def test_hashes_are_of_the_raw_files_and_leave_out_the_reports_own_record(tmp_path: Path) -> None:
    """Every file has its SHA-256; the record that each report rewrites is left out, so that a report repeats itself."""
    write_campaign(tmp_path, make_campaign())
    (tmp_path / ".12.tmp.json").write_bytes(b"aside")
    read = load_campaign(tmp_path)
    name = "12-bench-comparison.samples.jsonl"
    assert read.hashes[name] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert "14-document-results.json" not in read.hashes
    assert list(read.hashes) == sorted(read.hashes)
    assert not any(name.startswith(".") for name in read.hashes)


def test_limits_are_those_in_force_when_it_was_measured(tmp_path: Path) -> None:
    """Editing hosts.yaml and reporting again does not move a verdict: step 12's limits count, not step 14's."""
    made = make_campaign(limits=Limits(target_ratio=1.5))
    later = record(14, Documented("GO", []), limits=Limits(target_ratio=1.01))
    write_campaign(tmp_path, with_records(made, {**made.records, 14: later}))
    assert load_campaign(tmp_path).limits.target_ratio == 1.5


def test_before_step_12_the_newest_record_has_the_limits(tmp_path: Path) -> None:
    """Without a measurement the last step that ran says what is in force."""
    made = make_campaign(last_step=3)
    newest = record(3, made.installed["srv2"], limits=Limits(confidence=0.99))
    write_campaign(tmp_path, with_records(made, {**made.records, 3: newest}))
    assert load_campaign(tmp_path).limits.confidence == 0.99
