"""Processes of ours are found with or without a note, and nobody else is: real processes on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from records.record import Command
from records.settings import NodeSpec
from tasks.errors import StepError
from tasks.machines import daemon, ports, survey
from tasks.machines.daemon import Launch
from tasks.machines.local import LocalNode
from tasks.machines.node import journal
from tasks.machines.survey import Process, read_scan

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalNode]:
    """Give this machine as a node with a home folder of its own; whatever is ours there ends afterwards."""
    home = tmp_path / "home it's"
    (home / ".exo-phase1/p/run").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    given = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    yield given
    survey.end(given, survey.survey(given))


def started(*argv: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own."""
    running = subprocess.Popen(argv, env=os.environ | environment, start_new_session=True)
    time.sleep(0.1)
    return running


def _ignored(pid: int) -> int:
    """Return the signals that a process ignores, as the bits that proc(5) tells."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("SigIgn:")[2].split()[0], 16)


def test_ours_without_a_note_and_nobody_else(node: LocalNode) -> None:
    """A child that went away, a program of our folder, an interpreter at work there: all found; a reader is not."""
    ours = Path(node.home(), ".exo-phase1")
    parent = f"import subprocess, sys; subprocess.Popen(['sleep', '61'], start_new_session=True); {SLEEP}"
    launch = Launch([sys.executable, "-c", parent], {"A": "1"}, {}, ())
    noted = daemon.start(node, str(ours / "p/run"), launch)
    Path(daemon.note_path(str(ours / "p/run"))).unlink()
    script, log, tool = ours / "scripts/work.py", ours / "p/run/exo.log", ours / "p/tool"
    script.parent.mkdir()
    script.write_text(SLEEP, encoding="utf-8")
    shutil.copy("/bin/sleep", tool)
    mine = [started(sys.executable, str(script)), started(str(tool), "62")]
    others = [started("tail", "-f", str(log)), started(sys.executable, "-c", SLEEP), started("sleep", "63")]
    found = {process.pid: process for process in survey.survey(node)}
    assert {noted.pid, *(process.pid for process in mine)} <= found.keys()
    assert ["sleep", "61"] in [process.argv for process in found.values()]
    assert not {process.pid for process in others} & found.keys()
    ended = survey.end(node, list(found.values()))
    assert {process.pid for process in ended} == found.keys()
    assert [process.wait(5) for process in mine] == [-15, -15]
    assert survey.survey(node) == []
    for process in others:
        assert process.poll() is None
        process.kill()
        process.wait()


def test_no_journal_keeps_the_command_lines_of_others(node: LocalNode) -> None:
    """The scan reads every process of the node; what stands on another's command line reaches no record."""
    commands: list[Command] = []
    other = started(sys.executable, "-c", SLEEP, "--token=hf_of_somebody_else")
    try:
        assert "hf_of_somebody_else" in node.run(survey.scan_command()).stdout
        token = journal.set(commands)
        try:
            survey.survey(node)
        finally:
            journal.reset(token)
    finally:
        other.kill()
        other.wait()
    assert [command.stdout for command in commands] == [""]


def test_a_pid_that_somebody_else_has_by_now_is_not_signalled(node: LocalNode) -> None:
    """The start time that was seen must still be that PID's."""
    stranger = started("sleep", "64")
    survey.end(node, [Process(stranger.pid, 1, stranger.pid, ["exo"])])
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_one_that_ignores_term_is_killed(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM, then KILL; what survives both is named with what to type."""
    monkeypatch.setattr(survey, "TERM_GRACE_S", 1)
    monkeypatch.setattr(survey, "KILL_GRACE_S", 1)
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
    deaf = started(sys.executable, "-c", code, EXO_PHASE1_RUN=f"{node.home()}/.exo-phase1/p/run")
    while not _ignored(deaf.pid) & 1 << signal.SIGTERM - 1:
        time.sleep(0.05)  # Python has not come to the code yet
    survey.end(node, survey.survey(node))
    assert deaf.wait(5) == -9
    monkeypatch.setattr(survey, "_END", "echo 4242")
    with pytest.raises(StepError, match="4242 of ours survive SIGKILL"):
        survey.end(node, [Process(4242, 1, 4242, [])])


def test_the_ports_of_what_is_found_are_known(node: LocalNode) -> None:
    """A port that ours listens on is found although no hosts.yaml names it."""
    code = f"import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); {SLEEP}"  # noqa: E501
    marked = os.environ | {"EXO_PHASE1_RUN": f"{node.home()}/.exo-phase1/p/run"}
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=marked, start_new_session=True)
    assert running.stdout is not None
    port = int(running.stdout.readline())
    assert survey.listening_ports(node, survey.survey(node)) == {port}
    survey.end(node, survey.survey(node))
    running.wait()
    running.stdout.close()


def test_odd_names_do_not_confuse_the_scan() -> None:
    """Newlines, blanks and parentheses in names and arguments; a zombie does not count."""
    records = [
        "/home/u/.exo-phase1",
        "7 exe /home/u/.exo-phase1/a b\nc/exo", "8 exe /usr/bin/python3", "9 exe /home/u/.exo-phase1/exo",
        "7/stat:7 (a) S (b\n) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4321 0\n",
        "8/stat:8 (python3) S 1 8 8 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 11 0\n",
        "9/stat:9 (exo) Z 1 9 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12 0\n",
        "7/cmdline:exo", "7/cmdline:--x\ny", "8/cmdline:python3", "8/cmdline:/home/u/.exo-phase1x/s.py", "",
    ]  # fmt: skip
    assert read_scan("\0".join(records)) == [Process(7, 4321, 7, ["exo", "--x\ny"])]


def test_half_a_look_is_never_taken_for_nothing(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan or a table of ports that ended early is named, and nobody is told that all is gone and free."""
    monkeypatch.setattr(survey, "_SCAN", "printf 'half'; exit 3")
    with pytest.raises(StepError, match="list of its processes ended early, with exit code 3"):
        survey.survey(node)
    monkeypatch.undo()
    monkeypatch.setattr(ports, "WHO_LISTENS", "exit 4")
    with pytest.raises(StepError, match="no table of its ports came, with exit code 4"):
        ports.ports_taken(node, "127.0.0.1", (52415,))


def test_foreign_command_lines_do_not_cut_the_scan(node: LocalNode) -> None:
    """What somebody writes into a command line, our marks of another call included, hides nothing of ours."""
    hiding = started(sys.executable, "-c", SLEEP, "@@exo-phase1 ends 0@@", "looked at all", "====\n")
    ours = started(sys.executable, "-c", SLEEP, EXO_PHASE1_RUN=f"{node.home()}/.exo-phase1/p/run")
    try:
        assert [process.pid for process in survey.survey(node)] == [ours.pid]
    finally:
        hiding.kill()
        hiding.wait()
        ours.kill()
        ours.wait()
