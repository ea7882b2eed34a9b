"""`fab report --commit`: the report's files and nothing else, once, in the repository that holds them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.errors import StepError
from tasks.report import COMMIT_MESSAGE, commit_docs


def git(folder: Path, *words: str) -> str:
    """Run git in `folder` and return what it says."""
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Give `docs/` in a fresh repository, with a report in it and somebody's unrelated work staged beside it."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.name", "Owner")
    git(tmp_path, "config", "user.email", "owner@example.org")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "report.md").write_text("GO\n", encoding="utf-8")
    (tmp_path / "mine.txt").write_text("not for this commit\n", encoding="utf-8")
    git(tmp_path, "add", "mine.txt")
    return tmp_path / "docs"


def test_only_the_report_is_committed(docs: Path) -> None:
    """The plan's message, the report's file, and the owner's staged work still staged."""
    sha = commit_docs(docs, ["report.md"])
    assert git(docs, "show", "--format=%H %s", "--name-only", sha).split("\n\n") == [
        f"{sha} {COMMIT_MESSAGE}",
        "docs/report.md\n",
    ]
    assert git(docs, "diff", "--cached", "--name-only").split() == ["mine.txt"]


def test_the_same_bytes_are_committed_once(docs: Path) -> None:
    """Committing an unchanged report again adds no commit."""
    assert commit_docs(docs, ["report.md"]) == commit_docs(docs, ["report.md"])


def test_no_repository_is_said(tmp_path: Path) -> None:
    """Outside a repository the message has git's own word and what to type."""
    (tmp_path / "report.md").touch()
    with pytest.raises(StepError, match="not a git repository") as caught:
        commit_docs(tmp_path, ["report.md"])
    assert "fab report" in caught.value.problem.do
