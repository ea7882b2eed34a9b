"""Whatever a server, a node or a model says: the report shows it as words, in Markdown, HTML, charts and text files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reports.render import render_html, render_markdown, write_report
from tests.support import campaigns
from tests.support.full_campaign import fail_step, write_campaign
from tests.support.rendered import PARSER, Page, marks_up, shape, view_of

PROFILE = "llama-0015"
HOSTILE = [
    " a|b|c||",
    " `x ``y ``` ~~~",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "](javascript:alert(1)) ![x](http://evil.example/x.png) [y]: http://evil.example",
    "\nline\n\n# heading\n- item\n> quote\n    code\n```\nfence\n",
    "x" * 10_000,
    "\x00\x07\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "\u202egnp.exe\u2066\u200f",
    " $x$ **b** _i_ ~~s~~ <!-- c --> &lt;b&gt; &#60;b&#62;",
    "\" onmouseover=\"alert(1)' autofocus='",
    " http://evil.example www.evil.example {{ 7*7 }} {% raw %} {# c #}",
]


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_no_foreign_word_breaks_out(said: str, tmp_path: Path) -> None:
    """Thrown through every field, a hostile text leaves the page's structure as a harmless one does."""
    for name, end in (("plain", " zzz"), ("hostile", said)):
        write_campaign(tmp_path / name, runs=2, text=lambda text, end=end: text + end, profile=PROFILE)  # type: ignore[misc]
        fail_step(tmp_path / name, 7, text=lambda text, end=end: text + end)  # type: ignore[misc]
    plain, hostile = view_of(tmp_path / "plain"), view_of(tmp_path / "hostile")
    pages = [render_markdown(view, []) for view in (plain, hostile)]
    assert marks_up(pages[1]) == marks_up(pages[0])
    kinds = [[t for t in shape(PARSER.parse(page)) if t not in ("html_inline", "code_inline")] for page in pages]
    assert kinds[1] == kinds[0]
    htmls = [Page(render_html(view, [])) for view in (plain, hostile)]
    assert htmls[1].misnested == htmls[1].open == []
    assert htmls[1].attributes == htmls[0].attributes
    assert htmls[1].addresses == htmls[0].addresses
    assert [e for e in htmls[1].elements if e != "code"] == [e for e in htmls[0].elements if e != "code"]
    for page in (*pages, render_html(hostile, [])):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200e\u200f]", page)
    assert max(map(len, pages[1].splitlines())) < 12_000


def test_hostile_arms_reach_charts_and_text_files_as_words(tmp_path: Path) -> None:
    """An arm and a model named to do harm are drawn and printed, and do none."""
    campaign = campaigns.make_campaign(runs=3)
    folder = tmp_path / "logs" / PROFILE
    campaigns.write_campaign(folder, campaign)
    samples = folder / "12-bench-comparison.samples.jsonl"
    named = samples.read_text(encoding="utf-8").replace('"rog"', '"$\\\\frac{</svg><script>|`\\u202e\\n#"')
    samples.write_text(named, encoding="utf-8")
    write_report(tmp_path / "logs", tmp_path / "docs", profile=PROFILE, html=True)
    for name in ("exo-phase1-results.md", "exo-phase1-results.html", "charts/requests.svg"):
        assert "<script" not in (tmp_path / "docs" / name).read_text(encoding="utf-8")
    text = (tmp_path / "docs/benchmark-results-qwen3b.txt").read_text(encoding="utf-8")
    rows = text.split("-" * 70 + "\n")[1].splitlines()
    assert len(rows) == 3 * 3 * 3
    assert "\u202e" not in text
