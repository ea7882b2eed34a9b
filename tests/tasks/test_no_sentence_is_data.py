"""Nothing is decided by what a sentence says: the step layer does the same whatever words it uses."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import PROJECT

PROSE = {
    *("found", "needed", "do", "summary", "trouble", "reason", "reasons", "words", "phrase", "detail", "note"),
    *("telling", "blocking", "go_unreachable_because", "alternatives", "said", "why", "done", "title", "network"),
}
"""Attributes that hold sentences of ours. A status, a kind or a name is none."""
ASKING = {"startswith", "endswith", "find", "index", "count", "split", "partition", "rpartition", "removeprefix"}


def decided(folder: Path, *words: str) -> Any:
    """Return the decisions that the step layer makes in a process of its own."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.support.decisions", str(folder), *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "decisions.json").read_text(encoding="utf-8"))


def test_other_words_change_no_decision(tmp_path: Path) -> None:
    """Statuses, exit codes, verdicts, ways, devices, stops and refusals are the same with every sentence reworded."""
    plain, other = decided(tmp_path / "plain"), decided(tmp_path / "other", "reworded")
    assert (plain["reworded"], other["reworded"] > 150) == (0, True)
    assert other["decisions"] == plain["decisions"]
    assert "~ other words" in (tmp_path / "other/steps/interrupted/logs/llama-0015/01-verify-python.json").read_text()
    ends = plain["decisions"]["endings of a step"]
    assert {name: (end["status"], end["exit"]) for name, end in ends.items()} == {
        "interrupted": ("interrupted", 130),
        "failed": ("failed", 1),
        "several_failed": ("failed", 1),
        "unreachable": ("failed", 1),
        "stopped": ("interrupted", 1),
        "mistyped": (None, 2),
        "broken": ("broken", "traceback"),
        "skipped": ("skipped", 0),
    }
    assert plain["decisions"]["feasibility"]["on the CPU"]["GO out of reach"] is True
    assert plain["decisions"]["stops"] == [["TERM", True], ["not running", False]]


@pytest.mark.parametrize("path", sorted((PROJECT / "tasks").rglob("*.py")), ids=lambda p: p.stem)
def test_no_sentence_is_compared_or_searched(path: Path) -> None:
    """No code of `tasks` compares, searches or takes apart a field that holds a sentence."""
    wrong = [f"line {node.lineno}: {ast.unparse(node)}" for node in decisions_on_prose(ast.parse(path.read_text()))]
    assert wrong == []


@pytest.mark.parametrize(
    "code",
    [
        "if record.summary == 'stopped': pass",
        "if 'let finish' in record.errors[0].needed: pass",
        "if way.phrase.startswith('relayed'): pass",
        "[n for n, row in rows if row.words.lower().startswith('cpu')]",
        "re.search('time-out', error.problem.found)",
    ],
)
def test_a_decision_on_prose_is_seen(code: str) -> None:
    """What the test above looks for, it finds."""
    assert list(decisions_on_prose(ast.parse(code)))


def decisions_on_prose(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield comparisons, searches and matches of sentences."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(_holds_prose(side) for side in (node.left, *node.comparators)):
            yield node
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            pattern = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            if (node.func.attr in ASKING and _holds_prose(node.func.value)) or (
                pattern and any(_holds_prose(argument) for argument in node.args)
            ):
                yield node


def _holds_prose(expression: ast.expr) -> bool:
    """Tell whether an expression is a sentence's field, or a text method's result on one."""
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute):
        return _holds_prose(expression.func.value)
    if isinstance(expression, ast.Subscript):
        return _holds_prose(expression.value)
    return isinstance(expression, ast.Attribute) and expression.attr in PROSE
