"""The glossary: the words that a report uses as verdicts and statuses are explained."""

from __future__ import annotations

import re
from typing import get_args

from records import record
from reports.checks import check
from reports.verdict.decision import Verdict
from tests import PROJECT


def test_every_verdict_and_status_is_in_the_glossary_once() -> None:
    """Whatever a report can print as a verdict, a check's or a step's status has its line; no word has two."""
    glossary = (PROJECT / "docs/glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", glossary, re.MULTILINE)
    assert {*get_args(Verdict), *get_args(check.Status), *get_args(record.Status)} <= set(words)
    assert len(words) == len(set(words))


def test_the_readme_leads_to_the_glossary() -> None:
    """Whoever meets a word finds its meaning from the front page."""
    assert "(docs/glossary.md)" in (PROJECT / "README.md").read_text(encoding="utf-8")
