"""One operator at a time: real locks, held by real processes, on this machine as a node."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from records.settings import NodeSpec
from tasks.machines import lock
from tasks.machines.local import LocalNode
from tasks.machines.lock import ClusterLock, FileLock, Holder, LockedError, NodeLock, holder_on, this_call
from tests import PROJECT

ANNA = Holder("anna@laptop", 4242, "2026-01-31 12:00:00 UTC", "fab bench --runs 5")
BERT = Holder("bert\x1b[31m@desk", 7, "2026-01-31 12:05:00 UTC", "fab cleanup")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalNode:
    """Give this machine as a node with a home folder of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return LocalNode("srv1", NodeSpec(host="localhost", local=True))


def until_empty(path: Path) -> None:
    """Wait until the keeper has given the lock back."""
    for _ in range(100):
        if not path.exists() or not path.read_text(encoding="utf-8"):
            return
        time.sleep(0.02)
    raise AssertionError(path.read_text(encoding="utf-8"))


def test_a_folder_with_nothing_but_the_lock_goes_with_it(node: LocalNode) -> None:
    """Whoever changed nothing on a node leaves nothing there; beside anything of ours an empty lock stays."""
    folder = Path(node.home(), ".exo-phase1")
    for other in ("", "scripts"):
        first = NodeLock(node, ANNA, "a")
        first.take()
        assert (folder.stat().st_mode & 0o777, (folder / "lock").stat().st_mode & 0o777) == (0o700, 0o600)
        if other:
            (folder / other).mkdir()
        first.release()
        until_empty(folder / "lock")
        for _ in range(100):
            if folder.exists() is bool(other):
                break
            time.sleep(0.02)
        assert folder.exists() is bool(other)


def test_a_lock_that_is_just_being_given_back_is_waited_for(node: LocalNode) -> None:
    """Over a slow link the holder's word that it is done comes after its end: nobody is refused because of nobody."""
    folder = Path(node.home(), ".exo-phase1")
    folder.mkdir(mode=0o700)
    (folder / "lock").write_bytes(msgspec.json.encode(BERT) + b"\nb\n")
    ends = f"echo held; sleep 0.1; : >{folder / 'lock'}; exec sleep 0.2"
    with subprocess.Popen(["flock", folder / "lock", "sh", "-c", ends], stdout=subprocess.PIPE) as ending:
        assert ending.stdout is not None
        assert ending.stdout.readline() == b"held\n"
        first = NodeLock(node, ANNA, "a")
        first.take()
    first.release()


WAITS = """
import sys
from pathlib import Path
from records.settings import NodeSpec
from tasks.machines.local import LocalNode
from tasks.machines.lock import ClusterLock
nodes = {"srv1": LocalNode("srv1", NodeSpec(host="localhost", local=True))}
for number in range(int(sys.argv[2])):
    lock = ClusterLock(Path(sys.argv[1]), nodes, "srv1")
    lock.take(wait=True)
    with open(sys.argv[1] + "/../alone", "x"):
        pass
    Path(sys.argv[1] + "/../alone").unlink()
    lock.release()
"""


def test_those_who_wait_take_turns_on_a_lock_that_is_removed_each_time(node: LocalNode, tmp_path: Path) -> None:
    """A file that its holder removes is no lock any more for those who had opened it: two never hold it at once."""
    code = f"from tasks.machines import lock; lock.WAIT_POLL_S = 0; lock.random.random = lambda: 0.01\n{WAITS}"
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / name), "20"],
            cwd=PROJECT,
            env=os.environ | {"HOME": node.home()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for name in ("one", "two", "three")
    ]
    for caller in callers:
        assert (caller.communicate(timeout=60)[1], caller.returncode) == (b"", 0)


def test_whoever_looks_is_told_who_holds_the_lock(node: LocalNode) -> None:
    """Of a lock that is held its holder; of one given back, of one whose keeper was killed and of none, nobody."""
    assert holder_on(node) is None
    first = NodeLock(node, ANNA, "a")
    first.take()
    assert holder_on(node) == ANNA
    pid = int(Path(node.home(), ".exo-phase1/lock").read_text(encoding="utf-8").split("\n")[2].split()[0])
    os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        if holder_on(node) is None:
            break
        time.sleep(0.02)
    assert holder_on(node) is None
    second = NodeLock(node, BERT, "b")
    second.take()
    assert holder_on(node) == BERT
    second.release()
    until_empty(Path(node.home(), ".exo-phase1/lock"))
    assert holder_on(node) is None


def test_a_live_operator_is_named_and_keeps_the_lock(node: LocalNode) -> None:
    """The second is told who, what, since when and which PID; when the first gives it back, the second gets it."""
    first, second = NodeLock(node, ANNA, "a"), NodeLock(node, BERT, "b")
    first.take()
    with pytest.raises(LockedError) as refused:
        second.take()
    assert refused.value.problem.what == "srv1"
    assert "`fab bench --runs 5` of anna@laptop, PID 4242, since 2026-01-31 12:00:00 UTC" in str(refused.value)
    assert "--wait" in refused.value.problem.do
    first.release()
    until_empty(Path(node.home(), ".exo-phase1/lock"))
    second.take()
    with pytest.raises(LockedError, match="bert@desk") as refused:
        first.take()
    assert "\x1b" not in str(refused.value)
    second.release()


def test_the_own_lock_is_taken_again_over_a_new_link(node: LocalNode) -> None:
    """A keeper whose link died in silence stands in nobody's way who has its token; to others it is still held."""
    first = NodeLock(node, ANNA, "a")
    first.take()
    dead, first._stream = first._stream, None  # nobody closes it: sshd has not noticed yet
    first.take()
    with pytest.raises(LockedError):
        NodeLock(node, BERT, "b").take()
    dead.close()
    first.release()


def test_an_operator_who_is_gone_is_said_and_followed(node: LocalNode, capsys: pytest.CaptureFixture[str]) -> None:
    """A link that ends without a word gives the lock back; who takes it over says whose it was."""
    first, second = NodeLock(node, ANNA, "a"), NodeLock(node, BERT, "b")
    first.take()
    first._stream.close()
    for _ in range(100):
        try:
            second.take()
            break
        except LockedError:
            time.sleep(0.02)
    assert "took over the lock of `fab bench --runs 5` of anna@laptop" in capsys.readouterr().out
    second.release()


def test_a_keeper_that_hears_nothing_gives_up(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller without power leaves a lock for its lease alone; one that beats keeps it."""
    monkeypatch.setattr(lock, "LEASE_S", 1)
    first = NodeLock(node, ANNA, "a")
    first.take()
    for _ in range(4):
        time.sleep(0.5)
        first.beat()
    with pytest.raises(LockedError):
        NodeLock(node, BERT, "b").take()
    time.sleep(1.5)
    second = NodeLock(node, BERT, "b")
    second.take()
    second.release()


def test_the_lock_of_a_dead_call_of_this_machine_is_taken_over(node: LocalNode) -> None:
    """Its link died in silence and its keeper waits; whoever can see that its process has ended need not.

    A holder of another place is refused although nothing here has its PID: there it may live.
    """
    with subprocess.Popen(["sleep", "60"]) as ended:
        place, start = lock._place(), lock._start_of(ended.pid)
        anna = Holder("anna@laptop", ended.pid, "2026-01-31 12:00:00 UTC", "fab bench", place, start)
        silent = NodeLock(node, anna, "a")
        silent.take()
        with pytest.raises(LockedError):
            NodeLock(node, BERT, "b").take()
        ended.kill()
    second = NodeLock(node, BERT, "b")
    second.take()
    second.release()
    silent._stream.close()
    until_empty(Path(node.home(), ".exo-phase1/lock"))
    elsewhere = NodeLock(node, Holder("anna@laptop", ended.pid, anna.since, "fab bench", "elsewhere", start), "c")
    elsewhere.take()
    with pytest.raises(LockedError):
        NodeLock(node, BERT, "d").take()
    elsewhere.release()


HOLDS = """
import sys, time
from pathlib import Path
from tasks.machines.lock import FileLock, this_call
FileLock(Path(sys.argv[1]), "this machine").take(this_call())
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_of_this_machine_ends_with_its_process(tmp_path: Path) -> None:
    """Held by another living process it is refused with that PID; SIGKILL gives it back, whatever its file says."""
    path = tmp_path / "logs/.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"PID {other.pid}"):
            FileLock(path, "this machine").take(this_call())
        other.send_signal(signal.SIGKILL)
    mine = FileLock(path, "this machine")
    mine.take(this_call())
    assert str(os.getpid()) in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o777 == 0o600
    mine.release()


class HomedNode(LocalNode):
    """The same machine once more, with another home folder."""

    def talk(self, command: str) -> socket.socket:
        """Start `command` at home."""
        return super().talk(f'export HOME="$HOME"/{self.key}; mkdir -p "$HOME"; {command}')


def test_all_or_none(node: LocalNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two controllers see each other on the nodes: who is refused on one holds none, and who waits gets them all."""
    monkeypatch.setattr(lock, "WAIT_POLL_S", 0.1)
    nodes = {key: HomedNode(key, node.spec) for key in ("srv1", "rog")}
    first, second = (ClusterLock(tmp_path / name, dict(nodes), "srv1") for name in ("one", "two"))
    theirs = NodeLock(HomedNode("rog", node.spec), BERT, "b")
    theirs.take()
    with pytest.raises(LockedError, match="bert@desk") as refused:
        first.take()
    assert [problem.what for problem in refused.value.problems] == ["rog"]
    theirs.release()
    second.take(wait=True)
    with pytest.raises(LockedError) as refused:
        first.take()
    assert refused.value.problem.what == "srv1"
    waiting = threading.Thread(target=lambda: first.take(wait=True))
    waiting.start()
    second.release()
    waiting.join(10)
    assert not waiting.is_alive()
    first.release()
