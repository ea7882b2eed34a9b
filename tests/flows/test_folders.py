"""The project lies where people put things: below a blank, a quote or an umlaut, and where nothing may be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from records.record import read_record
from rehearsal.layout import Layout
from tests import PROJECT
from tests.support.fab import fab

ROOMS = ("records", "tasks", "reports", "templates", "scripts", "schemas")
RECORD = Path("logs/llama-0015/01-verify-python.json")


@pytest.fixture
def project(nodes: Layout, tmp_path: Path) -> Iterator[Path]:
    """Give a copy of the program in such a folder, whose hosts.yaml is the running rehearsal's."""
    folder = tmp_path / "mein pröjekt (2) 'neu'"
    for room in ROOMS:
        shutil.copytree(PROJECT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("fabfile.py", "pyproject.toml"):
        shutil.copy(PROJECT / file, folder)
    shutil.copy(Path(nodes.root) / "hosts.yaml", folder)
    yield folder
    subprocess.run(["umount", folder], check=False, capture_output=True)


def test_a_blank_a_quote_and_an_umlaut(project: Path) -> None:
    """A step runs, its record and the report lie in that folder, whatever it is called."""
    done = fab("preflight", "report", project=project)
    assert done.returncode == 0, done.stderr
    assert read_record(project / RECORD).status == "ok"
    assert (project / "docs/exo-phase1-results.md").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_folder_that_may_not_be_written(project: Path) -> None:
    """What cannot be kept is not begun: one message names the folder, what is wrong with it and what to type."""
    for options in (["--bind"], ["-o", "remount,ro,bind"]):
        subprocess.run(["mount", *options, project, project], check=True)
    done = fab("preflight", project=project)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for words in ("found:", "needed:", "do:", str(project), "ead-only file system"):
        assert words in done.stderr, done.stderr
