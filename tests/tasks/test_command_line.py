"""What Fabric offers and this program does not mean is refused, and a mistake in an option changes nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.exceptions import Exit

from tasks.command_line import REFUSED, explaining
from tests import PROJECT
from tests.support.fab import fab

IN_PROCESS = """
import io, sys
from contextlib import redirect_stderr
from fabric.main import program
for words in {calls!r}:
    said = io.StringIO()
    with redirect_stderr(said):
        try:
            program.run(["fab", *words])
        except SystemExit as end:
            print(end.code, said.getvalue().strip().replace("\\n", " / "))
"""
CALLS = {
    ("--dry", "cleanup"): "2 --dry: is not followed here; it would run nothing and tell",
    ("-R", "install", "start"): "2 --dry: is not followed here",
    ("-H", "srv1", "bench"): "2 --hosts: is not followed here; the nodes are those of hosts.yaml",
    ("-i", "key", "start"): "2 --identity: is not followed here",
    ("-w", "cleanup"): "2 --warn-only: is not followed here",
    ("-P", "bench"): "2 -P: nodes are worked side by side",
    ("bench", "--nosuch"): "2 No idea what '--nosuch' is!",
    ("nosuch",): "2 No idea what 'nosuch' is!",
    ("bench", "--runs"): "2 ",
    ("install", "bench", "--runs", "many"): "2 --runs many: needs a whole number",
    ("cleanup", "bench", "--concurrency", "1;2"): "2 --concurrency 1;2: needs whole numbers",
    ("bench-comparison", "--runs", "3", "--until-decided"): "2 --runs and --until-decided: choose one",
    ("cleanup", "rehearse", "--trap", "nosuch"): "2 rehearsal: trap nosuch",
    ("rehearsal-up", "--noise", "x"): "2 --noise x: needs a number",
}


def test_what_is_not_meant_is_refused_before_anything_begins() -> None:
    """One line and exit 2 for each, and no task of the chain has begun: there is no hosts file that one could read."""
    code = IN_PROCESS.replace("{calls!r}", repr([list(words) for words in CALLS]))
    variables = os.environ | {"FABRIC_EXO_INVENTORY": "/nonexistent/hosts.yaml"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=variables, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    for line, wanted in zip(lines, CALLS.values(), strict=True):
        assert line.startswith(wanted), (line, wanted)
    assert REFUSED.keys() >= {"dry", "hosts", "identity", "ssh-config", "warn-only"}


def test_a_mistyped_trap_leaves_the_rehearsal_alone(tmp_path: Path) -> None:
    """A finished rehearsal in that very folder is as it was."""
    (tmp_path / "rehearsal.json").write_text("{}", encoding="utf-8")
    (tmp_path / "logs").mkdir()
    done = fab("rehearse", "--trap", "nosuch", "--root", str(tmp_path))
    assert done.returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "rehearsal.json"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "df -h /x; make room"),
        (errno.EDQUOT, "quota -s"),
        (errno.EROFS, "findmnt -T"),
        (errno.EACCES, "chown"),
        (errno.ENOTDIR, "a file is in the way"),
        (errno.EIO, "ls -ld /x"),
    ],
)
def test_a_file_of_this_machine_that_refuses_is_one_block(number: int, advice: str) -> None:
    """Found, needed and the advice that fits, exit 1, for whatever this machine's disk says."""
    with pytest.raises(Exit) as ended, explaining():
        raise OSError(number, os.strerror(number), "/x/logs")
    assert ended.value.code == 1
    assert "found:  /x/logs: " in str(ended.value.message)
    assert advice in str(ended.value.message)


def test_terminal_escapes_in_an_error_do_not_reach_the_terminal() -> None:
    """A server's words may move the cursor or turn the text; what is shown may not."""
    from tasks.errors import StepError

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a tracer may have one of its own
    try:
        with pytest.raises(Exit) as ended, explaining():
            raise StepError("\x1b[2Jsaid \u202eevil\x07", "text", "look")
        assert not {"\x1b", "\u202e", "\x07"} & set(str(ended.value.message))
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
