"""What is waited for ticks by itself on a terminal, and is right on a narrow one."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests import PROJECT
from tests.support.terminal import on_terminal

WAIT = """
import time
from tasks import console
with console.waiting("install-srv1"):
    console.doing("srv1", "install EXO from git+https://github.com/exo-explore/exo@v0.0.15-alpha")
    console.doing("rog", "make a virtual environment")
    time.sleep(3.4)
console.note("srv1", "a line that stays, of which not all can stand on a line of forty columns")
"""


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_wait_ticks_by_itself_and_fits(columns: int) -> None:
    """From the second second on the elapsed time is renewed, no live line is wider than the terminal, none stays."""
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    shown = on_terminal([sys.executable, "-c", WAIT], cwd=PROJECT, env=environment).decode()
    live = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in shown.split("\r\x1b[K")[1:-1]]
    assert any(line.startswith("0:02") for line in live)
    assert any(line.startswith("0:03") for line in live)
    assert max(map(len, live)) < columns
    last = re.sub(r"\x1b\[[\d;]*m", "", shown.rpartition("\r\x1b[K")[2])
    assert last.startswith("[srv1] a line that stays")
    assert max(map(len, last.splitlines())) <= columns


def test_without_a_terminal_only_news_are_lines() -> None:
    """A log file gets each node's word once, however often it is repeated, and no ticking."""
    code = WAIT.replace("time.sleep(3.4)", 'console.doing("rog", "make a virtual environment")')
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert [line[:6] for line in done.stdout.splitlines()] == ["[srv1]", "[rog] ", "[srv1]"]


SUMMARIES = """
from records.record import SCHEMA_VERSION, Record
from tasks import closing, console
words = "EXO's API listens on every address"
names = [(7, "start-rog"), (5, "start-srv1"), (6, "start-srv2")]
records = [Record(SCHEMA_VERSION, number, name, "ok", "serves", "p", "", 1.0, "0.1.0", warnings=[words, name])
           for number, name in names]
for record in records:
    console.summary(record)
closing.after_group("start", records)
"""


def test_what_every_node_warns_of_is_said_once() -> None:
    """Three nodes that warn of the same are one warning; what one of them adds is shown. They end in their order."""
    done = subprocess.run(
        [sys.executable, "-c", SUMMARIES], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert done.count("EXO's API listens") == 1
    assert all(f"warning: {name}\n" in done for name in ("start-rog", "start-srv1", "start-srv2"))
    assert "done: start-srv1, start-srv2, start-rog\nnext: fab bench\n" in done
