"""The report: complete, the same bytes from the same logs, and no foreign word can break out of it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from records.samples import read_samples
from reports.render import Written, render_markdown, write_report
from tests.support.full_campaign import fail_step, write_campaign
from tests.support.rendered import Page, view_of

PROFILE = "llama-0015"
SECTIONS = [
    "Decision: GO",
    "Why",
    "Benchmark results",
    "Scale-up: the larger model (the plan's 32B)",
    "Cluster formation: success",
    "Issues encountered",
    "Deviations from the plan",
    "The fifteen steps",
    "Environment",
    "Methods in short",
    "Limits",
    "Raw data",
    "Reproduce",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written]:
    """One whole rehearsed campaign, rendered once with everything."""
    root = tmp_path_factory.mktemp("whole")
    write_campaign(root / "logs" / PROFILE, rehearsal={"speedup": 1.6, "trap": None, "seed": 3})
    return root, write_report(root / "logs", root / "docs", profile=PROFILE, html=True)


def test_every_section_and_every_file_is_there(whole: tuple[Path, Written]) -> None:
    """The Markdown has all sections in order and every image it shows; the names returned are the files written."""
    root, written = whole
    page = (root / "docs/exo-phase1-results.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS
    images = re.findall(r"\]\((charts/[a-z-]+\.(?:svg|png))\)", page)
    assert len(images) == 14
    assert set(images) <= set(written.files)
    assert all((root / "docs" / name).stat().st_size > 0 for name in written.files)
    on_disk = {path.relative_to(root / "docs").as_posix() for path in (root / "docs").rglob("*") if path.is_file()}
    assert on_disk == set(written.files)


def test_key_lines_of_a_go(whole: tuple[Path, Written]) -> None:
    """The banner and the decision come first, with ratio, interval, target and the plan's word."""
    root, written = whole
    assert written.decision.verdict == "GO"
    lines = (root / "docs/exo-phase1-results.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# REHEARSAL: EXO Phase 1: results"
    assert lines[3] == "> **REHEARSAL — true speed-up 1.6 was set by hand; nothing here is about your machines**"
    assert lines[5] == "## Decision: GO"
    assert lines[9] == "| Recommendation for Phase 2 | GO: go on to Phase 2 |"
    box = "\n".join(lines[9:16])
    assert re.search(
        r"Ollama rog \| \*\*1\.\d\d× \(\+\d+\.\d%\), between 1\.\d\d and 1\.\d\d \(90% interval, 95% each way\)",
        box,
    )
    assert "target 1.30×: reached" in box
    assert "| In the plan's word | **SUCCESS** |" in box
    assert "What would change it" in box


def test_the_same_logs_give_the_same_bytes(whole: tuple[Path, Written], tmp_path: Path) -> None:
    """A second rendering, elsewhere, and one with another record of step 14, change no byte of any file."""
    root, written = whole
    (root / "logs" / PROFILE / "14-document-results.json").write_bytes(b"{}")
    write_report(root / "logs", tmp_path, profile=PROFILE, html=True)
    for name in written.files:
        assert (tmp_path / name).read_bytes() == (root / "docs" / name).read_bytes(), name


def test_html_needs_nothing_else(whole: tuple[Path, Written]) -> None:
    """The HTML has no script, no address but data, anchors and a file beside it, closes what it opens, can be dark."""
    root, _ = whole
    text = (root / "docs/exo-phase1-results.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.misnested
    assert not page.open
    assert not {"script", "link", "iframe", "object", "form"} & set(page.elements)
    assert all(address.startswith(("data:image/svg+xml;base64,", "#", "methodology.md")) for address in page.addresses)
    assert page.elements.count("img") == 7
    for needed in ("prefers-color-scheme: dark", "@media print", 'name="viewport"', "REHEARSAL — true speed-up 1.6"):
        assert needed in text


def test_an_empty_folder_is_a_report_too(tmp_path: Path) -> None:
    """Nothing has run: the report says so, and no chart of an earlier campaign stays beside it."""
    (tmp_path / "docs/charts").mkdir(parents=True)
    (tmp_path / "docs/charts/speedup.png").write_bytes(b"old")
    (tmp_path / "docs/charts/own.png").write_bytes(b"the owner's")
    written = write_report(tmp_path / "logs", tmp_path / "docs", profile=PROFILE, html=True)
    assert written.decision.verdict == "NOT YET"
    page = (tmp_path / "docs/exo-phase1-results.md").read_text(encoding="utf-8")
    assert "## Decision: NOT YET" in page
    assert page.count("| not run |") == 14
    assert sorted(path.name for path in (tmp_path / "docs/charts").iterdir()) == ["own.png"]
    for name in ("benchmark-results-qwen3b.txt", "benchmark-results-qwen32b.txt"):
        assert "not run yet" in (tmp_path / "docs" / name).read_text(encoding="utf-8")


def test_a_failed_step_is_told_with_what_it_said(tmp_path: Path) -> None:
    """After step 4 failed: blocked, with found, needed, what to do, and the last words of the command."""
    write_campaign(tmp_path / "logs" / PROFILE, steps=range(1, 4))
    fail_step(tmp_path / "logs" / PROFILE, 4)
    written = write_report(tmp_path / "logs", tmp_path / "docs", profile=PROFILE)
    page = (tmp_path / "docs/exo-phase1-results.md").read_text(encoding="utf-8")
    assert written.decision.verdict == "NO-GO (blocked)"
    assert "| Blocked at | **step 4" in page
    for said in (
        "### Step 4 (install-rog) failed",
        "- Found: no witness names the Radeon 8060S",
        "- Needed: ROCm on rog",
        "- Do: install ROCm",
        "on rog-flow-z13: rocm-smi --json (exit code 127); all of it in `04-install-rog.json`",
        "```\nrocm-smi: not found\n```",
    ):
        assert said in page


def test_ratios_that_are_no_evidence_cannot_be_read_as_a_result(tmp_path: Path) -> None:
    """INVALID: no page and no text file says that the target was reached without saying what that is worth."""
    folder = tmp_path / "logs" / PROFILE
    write_campaign(folder)
    file = folder / "12-bench-comparison.samples.jsonl"
    short = [msgspec.structs.replace(s, output_tokens=9) if s.arm == "exo" else s for s in read_samples(file)[0]]
    file.write_bytes(b"".join(msgspec.json.encode(sample) + b"\n" for sample in short))
    written = write_report(tmp_path / "logs", tmp_path / "docs", profile=PROFILE, html=True)
    assert written.decision.verdict == "INVALID"
    assert written.decision.comparisons
    page = (tmp_path / "docs/exo-phase1-results.md").read_text(encoding="utf-8")
    box = page.split("## Why")[0]
    assert "×" not in box
    assert "| Speed-up | **not known. INVALID: these numbers do not compare like with like" in box
    assert "### Ratios that are no evidence (INVALID)" in page
    assert "Speed-up achieved" not in page
    table = page.split("### Ratios that are no evidence (INVALID)")[1].split("\n#")[0]
    ratios = [line for line in table.splitlines() if line.startswith("| Ollama")]
    assert len(ratios) == 2
    assert all("| no evidence |" in line for line in ratios)
    assert "reached" not in "".join(ratios)
    assert re.search(r"!\[INVALID: .*\]\(charts/speedup\.svg\)", page)
    assert "Ratios that are no evidence" in (tmp_path / "docs/exo-phase1-results.html").read_text(encoding="utf-8")
    plain = (tmp_path / "docs/benchmark-results-qwen3b.txt").read_text(encoding="utf-8")
    assert "The decision that the data carries:\n    INVALID: " in plain


@pytest.mark.parametrize("last", [1, 4, 7, 8, 9, 10, 11, 12, 13, 15])
def test_any_prefix_of_a_campaign_renders(last: int, tmp_path: Path) -> None:
    """However far a campaign came, its report is written and names the steps that have not run."""
    write_campaign(tmp_path / PROFILE, steps=range(1, last + 1), runs=2)
    page = render_markdown(view_of(tmp_path / PROFILE), [])
    assert page.count("| not run |") == sum(1 for step in range(last + 1, 16) if step != 14)
    assert "## The fifteen steps" in page


def test_broken_files_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    """A record that is no record, another schema, a result of another shape and a torn line stop nothing."""
    folder = tmp_path / "logs" / PROFILE
    write_campaign(folder, runs=2)
    (folder / "03-install-srv2.json").write_bytes(b"{torn")
    text = (folder / "06-start-srv2.json").read_text(encoding="utf-8")
    (folder / "06-start-srv2.json").write_text(text.replace('"schema": 2', '"schema": 99'), encoding="utf-8")
    text = (folder / "08-verify-cluster.json").read_text(encoding="utf-8")
    (folder / "08-verify-cluster.json").write_text(text.replace('"expected_edges"', '"odd"'), encoding="utf-8")
    with (folder / "12-bench-comparison.samples.jsonl").open("ab") as file:
        file.write(b'{"schema": 1, "arm": "ex')
    write_report(tmp_path / "logs", tmp_path / "docs", profile=PROFILE, html=True)
    page = (tmp_path / "docs/exo-phase1-results.md").read_text(encoding="utf-8")
    broken = page.split("### Files that could not be read")[1].split("\n## ")[0]
    for named in (
        "03-install-srv2.json",
        "06-start-srv2.json",
        "08-verify-cluster.json",
        "12-bench-comparison.samples.jsonl, line 25",
    ):
        assert named in broken
    assert "## Cluster formation: not known" in page
    assert page.count("| UNREADABLE |") == 3
    assert str(tmp_path) not in page


def test_without_a_single_node_there_is_no_ratio(tmp_path: Path) -> None:
    """The larger model that only EXO can run: its rate is told, and the word speed-up only to deny it."""
    write_campaign(tmp_path / PROFILE, runs=2, large_baselines=())
    section = render_markdown(view_of(tmp_path / PROFILE), []).split("## Scale-up")[1].split("\n## ")[0]
    assert "No single node could run this model, so there is no ratio and this is not a speed-up." in section
    assert re.search(r"ran over the cluster at \d\d\.\d tokens per second in 2 runs", section)
    assert "×" not in section


def test_other_profiles_are_summarised(tmp_path: Path) -> None:
    """Two profiles in `logs`: the report is about one, the other has a row; archives and strangers have none."""
    write_campaign(tmp_path / "logs" / PROFILE, runs=2, steps=range(1, 3))
    write_campaign(tmp_path / "logs/qwen-1x", runs=2, profile="qwen-1x", steps=range(1, 9))
    write_campaign(tmp_path / "logs/archive/old", runs=2, steps=range(1, 2))
    (tmp_path / "logs/notes").mkdir()
    write_report(tmp_path / "logs", tmp_path / "docs", profile=PROFILE)
    page = (tmp_path / "docs/exo-phase1-results.md").read_text(encoding="utf-8")
    rows = page.split("## Other profiles")[1].split("\n## ")[0].strip().splitlines()
    assert len(rows) == 3
    assert rows[2].startswith("| `qwen-1x` |")
    assert "8 of 14" in rows[2]


def test_the_banner_needs_only_one_record(tmp_path: Path) -> None:
    """A single rehearsed record among others is enough for the banner, in Markdown, HTML and the text files."""
    write_campaign(tmp_path / "logs" / PROFILE, steps=range(2, 5))
    write_campaign(tmp_path / "logs" / PROFILE, steps=range(1, 2), rehearsal={"speedup": 1.2, "trap": "amd-mask"})
    write_report(tmp_path / "logs", tmp_path / "docs", profile=PROFILE, html=True)
    banner = "REHEARSAL — true speed-up 1.2 was set by hand, with the trap amd-mask; nothing here is about your"
    for name in ("exo-phase1-results.md", "exo-phase1-results.html", "benchmark-results-qwen3b.txt"):
        assert banner in (tmp_path / "docs" / name).read_text(encoding="utf-8")
