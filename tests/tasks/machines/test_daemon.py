"""A background process is started, found and stopped by identity: real processes through a real local shell."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from records.settings import NodeSpec
from tasks.errors import StepError
from tasks.machines import daemon
from tasks.machines.daemon import Launch
from tasks.machines.local import LocalNode
from tasks.machines.ports import _owner, listening, listens, ports_taken
from tests.support import wall_clock


@pytest.fixture
def node() -> LocalNode:
    """Give this machine as a node."""
    return LocalNode("srv1", NodeSpec(host="localhost", local=True))


@pytest.fixture
def folder(tmp_path: Path, node: LocalNode) -> Iterator[Path]:
    """Give a run folder, and end whatever still runs from it afterwards."""
    yield tmp_path / "run dir"
    daemon.stop(node, str(tmp_path / "run dir"))


def program(folder: Path, code: str) -> str:
    """Write an executable Python program next to the run folder and return its path."""
    path = folder.parent / "exo it's"
    path.write_text(f"#!{sys.executable}\n{code}", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(60)\n"
STUBBORN = """import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("up", flush=True)
time.sleep(60)
"""


def launch(argv: list[str], environment: dict[str, str] | None = None, files: dict[str, str] | None = None) -> Launch:
    """Return a launch without ports."""
    return Launch(argv, environment or {}, files or {}, ())


def wait_for_log(node: LocalNode, folder: Path, word: str) -> str:
    """Return the log once it holds `word`."""
    for _ in range(100):
        log = daemon.log_tail(node, str(folder))
        if word in log:
            return log
        time.sleep(0.05)
    raise AssertionError(f"no '{word}' in the log: {log}")


def test_start_find_stop(node: LocalNode, folder: Path) -> None:
    """A started process is found by its note, outlives the shell that started it, and is gone after stop."""
    argv = [program(folder, SLEEPER), "--node-id", "it's $HOME; `id`"]
    started = daemon.start(node, str(folder), launch(argv))
    assert daemon.find(node, str(folder)) == started
    assert os.getsid(started.pid) == started.pid
    ending = daemon.stop(node, str(folder))
    assert ending.how == "TERM"
    assert daemon.find(node, str(folder)) is None
    assert not Path(daemon.note_path(str(folder))).exists()


def test_arguments_and_environment_arrive_unchanged(node: LocalNode, folder: Path) -> None:
    """Quotes, spaces, `$` and newlines in arguments and environment reach the program unchanged; files are there."""
    code = "import os, sys\nprint(repr(sys.argv[1:]), repr(os.environ['ODD']), open(sys.argv[2]).read(), flush=True)\n"
    code += "import time; time.sleep(60)\n"
    odd, file = "a 'b' \"c\" $HOME `id` \\ ;&|\n*", str(folder / "sub" / "discovery.json")
    daemon.start(node, str(folder), launch([program(folder, code), odd, file], {"ODD": odd}, {file: "content"}))
    assert wait_for_log(node, folder, "content").strip() == f"{[odd, file]!r} {odd!r} content"


def test_group_is_ended_even_when_it_ignores_term(
    node: LocalNode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ignores SIGTERM is killed together with the child it started."""
    monkeypatch.setattr(daemon, "TERM_GRACE_S", 1)
    started = daemon.start(node, str(folder), launch([program(folder, STUBBORN)]))
    wait_for_log(node, folder, "up")
    assert daemon.stop(node, str(folder)).how == "KILL"
    left = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", str(started.pid)], capture_output=True, text=True, check=False
    )
    assert [line for line in left.stdout.splitlines() if " Z" not in line] == []


SLOW_TO_END = """import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit()))
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not wall_clock.COMPILER, reason="needs a C compiler")
@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_clock_that_is_set_meanwhile_bears_on_no_wait(
    node: LocalNode, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """A process takes a second to end, and the node's clock is set an hour on or back: it ends, and is not killed."""
    daemon.start(node, str(folder), launch([program(folder, SLOW_TO_END)]))
    wait_for_log(node, folder, "up")
    clock = tmp_path / "clock"
    for name, value in wall_clock.read_from(wall_clock.made(tmp_path), clock).items():
        monkeypatch.setenv(name, value)
    setting = threading.Timer(0.5, wall_clock.set_ahead, (clock, ahead_s))
    setting.start()
    ending = daemon.stop(node, str(folder))
    setting.join()
    assert ending.how == "TERM"
    assert 0.5 < ending.seconds < 8


def alive(pid: int) -> bool:
    """Tell whether a process runs, not as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


PARENT = """import subprocess, sys, time
mine = {} if "bare" in sys.argv else None
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", sys.argv[0]], env=mine)
print("child", child.pid, flush=True)
time.sleep(60)
"""
"""As EXO 1.x: SIGKILL of it leaves its runner (250 MB) in its group."""


@pytest.mark.parametrize(("noted", "bare"), [(True, []), (False, []), (True, ["bare"])])
def test_children_of_a_killed_leader_are_found_and_ended(
    node: LocalNode, folder: Path, noted: bool, bare: list[str]
) -> None:
    """By the mark they inherited, with the note gone too; by the leader's group where they lost the mark."""
    started = daemon.start(node, str(folder), launch([program(folder, PARENT), *bare]))
    child = int(wait_for_log(node, folder, "child").split()[1])
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(folder)]) as stranger:
        os.kill(started.pid, signal.SIGKILL)
        while alive(started.pid):
            time.sleep(0.02)
        if not noted:
            Path(daemon.note_path(str(folder))).unlink()
        assert daemon.find(node, str(folder)) is None
        assert alive(child)
        ending = daemon.stop(node, str(folder))
        assert (ending.how, alive(child)) == ("TERM", False)
        assert stranger.poll() is None
        stranger.kill()
    assert daemon.stop(node, str(folder)).how == "not running"


def test_a_process_whose_note_is_gone_is_ended(node: LocalNode, folder: Path) -> None:
    """A run folder that was emptied by hand does not leave EXO running for good."""
    started = daemon.start(node, str(folder), launch([program(folder, SLEEPER)]))
    Path(daemon.note_path(str(folder))).unlink()
    assert daemon.stop(node, str(folder)).was_running
    assert not alive(started.pid)


LEADERLESS = """import ctypes, os, socket, threading, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
threading.Thread(target=time.sleep, args=(60,)).start()
print("port", s.getsockname()[1], flush=True)
while not os.path.exists("daemon.json"): time.sleep(0.01)  # until it is noted as started
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_stop_without_a_note_looks_at_no_process_one_by_one(folder: Path) -> None:
    """Where nothing was noted the shell does a dozen things, not some for each thread of the kernel (group 0)."""
    script = daemon.stop_script(str(folder), None)
    ran = subprocess.run(["bash", "-xc", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "none\n"
    assert len(ran.stderr.splitlines()) < 20


def test_a_zombie_leader_whose_threads_live_is_not_gone(node: LocalNode, folder: Path) -> None:
    """A process whose first thread has ended still holds its ports; it is found, and its port is free after stop."""
    started = daemon.start(node, str(folder), launch([program(folder, LEADERLESS)]))
    port = int(wait_for_log(node, folder, "port").split()[1])
    while " Z " not in f" {Path(f'/proc/{started.pid}/stat').read_text(encoding='utf-8').rpartition(')')[2][1]} ":
        time.sleep(0.02)
    assert daemon.find(node, str(folder)) == started
    assert set(ports_taken(node, "127.0.0.1", (port,))) == {port}
    daemon.stop(node, str(folder))
    assert ports_taken(node, "127.0.0.1", (port,)) == {}


def test_the_logins_proxies_do_not_reach_the_process(
    node: LocalNode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every proxy variable of the login is kept from the process; what its launch names arrives."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy", "wss_proxy"):
        monkeypatch.setenv(name, "http://proxy.example")
        monkeypatch.setenv(name.upper(), "http://proxy.example")
    code = "import os, time\nprint({k: v for k, v in os.environ.items() if 'proxy' in k.lower()}, 'end', flush=True)\n"
    told = {"https_proxy": "http://wanted.example"}
    daemon.start(node, str(folder), launch([program(folder, code + "time.sleep(60)")], told))
    assert wait_for_log(node, folder, "end").strip() == f"{told} end"


def test_a_note_holds_what_the_process_was_started_with(node: LocalNode, folder: Path) -> None:
    """Every flag, variable and file is a digest beside the process; a change of one changes that one alone."""
    argv, file = [program(folder, SLEEPER)], str(folder / "discovery.json")
    first = launch(argv, {"A": "1"}, {file: "one"})
    started = daemon.start(node, str(folder), first, {"revision": "abc"})
    assert daemon.find(node, str(folder)) == started
    found = daemon.noted(node, str(folder))
    assert found == msgspec.structs.replace(started, parts=first.parts | {"revision": "abc"})
    for other, name in [
        (launch([*argv, "-v"], {"A": "1"}, {file: "one"}), "flag -v"),
        (launch(argv, {"A": "2"}, {file: "one"}), "variable A"),
        (launch(argv, {"A": "1"}, {file: "two"}), "discovery.json"),
    ]:
        assert [part for part in other.parts if other.parts[part] != found.parts.get(part)] == [name]


COMPILER = """import subprocess, sys, time
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"])
print("compiled", flush=True)
time.sleep(60)
"""


def test_the_work_of_children_that_have_ended_counts(node: LocalNode, folder: Path) -> None:
    """EXO's compiler runs in children that end: their CPU time is work of the process that waits for them."""
    started = daemon.start(node, str(folder), launch([program(folder, COMPILER)]))
    wait_for_log(node, folder, "compiled")
    pulse, _ = daemon.pulse(node, str(folder), started, 0)
    assert pulse.alive
    assert pulse.cpu_s >= 0.5


STARVED = """import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.fork()
while True: pass
"""


def test_a_wait_for_a_processor_is_told(node: LocalNode, folder: Path) -> None:
    """Two that compute on one processor wait for each other: starved is not idle."""
    started = daemon.start(node, str(folder), launch([program(folder, STARVED)]))
    deadline = time.monotonic() + 30
    while daemon.pulse(node, str(folder), started, 0)[0].waited_s < 0.2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_recycled_pid_is_never_signalled(node: LocalNode, folder: Path) -> None:
    """A note whose PID belongs to another process by now finds nothing, and stop leaves that process alone."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        real = daemon.start(node, str(folder), launch([program(folder, SLEEPER)]))
        os.killpg(real.pid, signal.SIGKILL)
        forged = msgspec.structs.replace(real, pid=stranger.pid)
        node.put(msgspec.json.encode(forged), daemon.note_path(str(folder)))
        assert daemon.state(node, forged) == "foreign"
        assert daemon.stop(node, str(folder)).how == "not running"
        assert stranger.poll() is None
        stranger.kill()


def test_a_strangers_command_line_is_not_printed(node: LocalNode, folder: Path) -> None:
    """What is printed reaches a record: of a process that has the noted PID by now, its words stay where they are."""
    real = daemon.start(node, str(folder), launch([program(folder, SLEEPER)]))
    note, look = Path(daemon.note_path(str(folder))), daemon.find_command(shlex.quote(str(folder)))
    assert real.executable in node.run(look).stdout.splitlines()[-1]
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "hf_secret"]) as stranger:
        note.write_text(note.read_text().replace(f'"pid": {real.pid}', f'"pid": {stranger.pid}'))
        printed = node.run(look, check=False).stdout
        assert f"\n{stranger.pid} (" in printed
        assert "hf_secret" not in printed
        stranger.kill()
    os.killpg(real.pid, signal.SIGKILL)


def test_other_boot_is_gone(node: LocalNode, folder: Path) -> None:
    """After a reboot the same PID and start time mean nothing: the boot id differs."""
    real = daemon.start(node, str(folder), launch([program(folder, SLEEPER)]))
    assert daemon.state(node, msgspec.structs.replace(real, boot_id="another")) == "gone"
    assert daemon.state(node, real) == "alive"


def test_ended_process_is_not_found(node: LocalNode, folder: Path) -> None:
    """A process that ended by itself is not running, even while nobody has reaped it."""
    daemon.start(
        node, str(folder), launch([program(folder, "print('up', flush=True)\nimport time; time.sleep(0.3)\n")])
    )
    for _ in range(60):
        if daemon.find(node, str(folder)) is None:
            return
        time.sleep(0.05)
    raise AssertionError("still found")


def test_program_that_is_not_there(node: LocalNode, folder: Path) -> None:
    """A missing executable is a StepError with what the shell said, and leaves no note behind."""
    with pytest.raises(StepError, match="No such file"):
        daemon.start(node, str(folder), launch([str(folder.parent / "absent")]))
    assert daemon.find(node, str(folder)) is None


def test_broken_note_is_nothing(node: LocalNode, folder: Path) -> None:
    """A note that is not JSON of ours counts as nothing running."""
    node.put(b"{half", daemon.note_path(str(folder)))
    assert daemon.find(node, str(folder)) is None
    assert daemon.stop(node, str(folder)).how == "not running"


def test_previous_log_is_kept(node: LocalNode, folder: Path) -> None:
    """A restart moves the old log aside instead of losing why the last start failed."""
    first = program(folder, "print('first', flush=True)\nimport time; time.sleep(60)\n")
    daemon.start(node, str(folder), launch([first]))
    wait_for_log(node, folder, "first")
    daemon.stop(node, str(folder))
    daemon.start(node, str(folder), launch([program(folder, SLEEPER)]))
    assert "first" in Path(daemon.log_path(str(folder)) + ".previous").read_text(encoding="utf-8")


def test_who_listens(node: LocalNode, folder: Path) -> None:
    """A port is taken while something listens at the node's address, and only our own process counts as ours."""
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", 0))
        theirs.listen()
        port = theirs.getsockname()[1]
        assert set(ports_taken(node, "127.0.0.1", (port, 1))) == {port}
        assert ports_taken(node, "127.0.0.2", (port,)) == {}
        code = (
            "import socket, time\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
            "print('port', s.getsockname()[1], flush=True)\ntime.sleep(60)\n"
        )
        ours = daemon.start(node, str(folder), launch([program(folder, code)]))
        number = int(wait_for_log(node, folder, "port").split()[1])
        assert listens(node, ours, "127.0.0.1", number)
        assert not listens(node, ours, "127.0.0.1", port)


def test_another_user_is_named_only_where_one_was_seen(node: LocalNode) -> None:
    """The owner of a port is told by number from the kernel's table, where `ss` is absent or does not name him."""
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        port = ours.getsockname()[1]
        (owner,) = ports_taken(node, "127.0.0.1", (port,)).values()
        assert "another user" not in owner
    assert _owner("", 1, "1000", "1000") == "a process that cannot be named"
    assert _owner("", 1, "0", "1000") == "a process of another user (number 0)"
    assert _owner('LISTEN 0 5 127.0.0.1:1 0.0.0.0:* users:(("exo",pid=7,fd=3))', 1, "0", "1000") == "exo (PID 7)"


def test_listening_table() -> None:
    """Of /proc/net/tcp and tcp6 only LISTEN lines count; `::` and mapped addresses are IPv4, others are left out."""
    table = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 0100007F:2CAB 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 100 0 0 10 0
   0: 00000000000000000000000000000000:CCC0 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
00000000     0        0 77 1 0 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
00000000     0        0 78 1 0 100 0 0 10 0
   2: B80D01200000000067452301EFCDAB89:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
00000000     0        0 79 1 0 100 0 0 10 0
"""
    assert {listener[:3] for listener in listening(table)} == {
        ("127.0.0.1", 11434, "4242"),
        ("0.0.0.0", 52416, "77"),
        ("127.0.0.1", 80, "78"),
    }
