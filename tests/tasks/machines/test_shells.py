"""Commands over genuine OpenSSH in the login shells that people have: what was printed comes back, and nothing else."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.settings import NodeSpec
from tasks.errors import StepError
from tasks.machines.local import LocalNode, is_this_machine
from tasks.machines.remote import RemoteNode
from tasks.machines.shell import Between, wrapped
from tests.support.packages import package
from tests.support.sshd import Server, needs_sshd, sshd

ODD = "printf '%s\\n' 'it''s' \"a\\\\b!\" ünï; echo problem >&2; exit 3"
SAID = ("its\na\\b!\nünï\n", "problem\n", 3)


def xonsh(folder: Path) -> Path:
    """Return a program that is xonsh, whose strings are Python's."""
    program = folder / "xonsh"
    environment = f"env PYTHONPATH={package('xonsh==0.25.0')}"
    program.write_text(f'#!/bin/sh\nexec {environment} {sys.executable} -m xonsh --no-rc "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


def said(server: Server) -> tuple[str, str, int]:
    """Return what comes of an odd command and of a file that is put there, over one login."""
    node = RemoteNode("srv1", server.spec)
    try:
        ran = node.run(ODD, check=False)
        node.put(b"\0whole\n" * 9000, f"{server.home}/a folder/file", 0o750)
        file = Path(f"{server.home}/a folder/file")
        assert (file.stat().st_size, file.stat().st_mode & 0o777) == (63_000, 0o750)
        return ran.stdout, ran.stderr, ran.exit_code
    finally:
        node.close()


@needs_sshd
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh", "dash", "xonsh", "ksh93", "mksh", "yash"])
def test_every_login_shell_runs_the_same_command(shell: str, tmp_path: Path) -> None:
    """Quotes, backslashes, exclamation marks and letters survive, and a file arrives without any SFTP there."""
    path = str(xonsh(tmp_path)) if shell == "xonsh" else shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed here")
    # OpenSSH hands this to the login shell; `-c` and the command is what a login shell gets from it.
    with sshd(tmp_path, f'ForceCommand {path} -c "$SSH_ORIGINAL_COMMAND"') as server:
        assert said(server) == SAID


@needs_sshd
def test_login_files_may_print(tmp_path: Path) -> None:
    """A login file that greets, warns, traces and says good-bye changes nothing of what a command said."""
    with sshd(tmp_path) as server:
        noise = "echo 'Welcome to srv2 - conda base active'\nprintf more\necho oops >&2\ntrap 'echo bye' EXIT\nset -x\n"
        (server.home / ".bashrc").write_text(noise, encoding="utf-8")
        assert said(server) == SAID


@needs_sshd
def test_variables_of_the_login_change_no_program_of_ours(tmp_path: Path) -> None:
    """The file that BASH_ENV names is not read between the marks, and no variable leads Python to other modules."""
    with sshd(tmp_path, environment=f"BASH_ENV={tmp_path}/each PYTHONHOME=/nowhere PYTHONPATH={tmp_path}") as server:
        (tmp_path / "each").write_text("echo greeting\n", encoding="utf-8")
        assert said(server) == SAID
        node = RemoteNode("srv1", server.spec)
        assert node.run("python3 -c 'import sys; print(*sys.path)'").stdout.startswith(" /")
        node.close()


@pytest.mark.long
@needs_sshd
def test_a_login_file_that_starts_another_shell_is_named(tmp_path: Path) -> None:
    """That shell waits for good for what somebody types: the login files are named, not the link."""
    with sshd(tmp_path) as server:
        (server.home / ".bashrc").write_text("exec sh\n", encoding="utf-8")
        node = RemoteNode("srv1", server.spec)
        with pytest.raises(StepError, match="says: nothing within 10") as caught:
            node.run("true", timeout_s=0.1)
        node.close()
    assert "login files" in caught.value.problem.do


@needs_sshd
@pytest.mark.skipif(
    not pwd.getpwuid(os.getuid()).pw_shell.endswith("bash"), reason="this user's login shell reads no .bashrc"
)
def test_a_login_file_that_reads_a_file_of_ours_is_named(tmp_path: Path) -> None:
    """What it takes of a file that is put there is missing, and that is said; nothing lands."""
    with sshd(tmp_path) as server:
        (server.home / ".bashrc").write_text("read -n 4 x\n", encoding="utf-8")
        node = RemoteNode("srv1", server.spec)
        with pytest.raises(StepError, match=r"only 8 of its 12 bytes arrived \(does a login file read"):
            node.put(b"123456789012", f"{server.home}/file")
        node.close()
        assert not (server.home / "file").exists()


@needs_sshd
def test_a_wrapper_of_every_command_may_print_and_hide_the_exit_code(tmp_path: Path) -> None:
    """ForceCommand with a wrapper that runs what was asked for: its own words and exit code are not the command's."""
    with sshd(tmp_path, 'ForceCommand echo in; sh -c "$SSH_ORIGINAL_COMMAND"; echo out; exit 9') as server:
        assert said(server) == SAID


@needs_sshd
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ForceCommand internal-sftp", "This service allows sftp connections only"),
        ("ForceCommand echo go away", "go away"),
        ("MaxSessions 0", "MaxSessions"),
    ],
)
def test_a_login_that_runs_no_command_is_named(line: str, words: str, tmp_path: Path) -> None:
    """What it says instead is passed on, with the places where that is set."""
    with sshd(tmp_path, line) as server:
        node = RemoteNode("srv1", server.spec)
        with pytest.raises(StepError, match=words) as caught:
            node.run("true")
        node.close()
    assert "sshd_config" in caught.value.problem.found + caught.value.problem.do


@needs_sshd
def test_one_session_a_connection_is_enough(tmp_path: Path) -> None:
    """`MaxSessions 1` while a long command runs: a short one goes over a connection of its own."""
    with sshd(tmp_path, "MaxSessions 1") as server:
        node = RemoteNode("srv1", server.spec)
        started = threading.Event()
        long = threading.Thread(
            target=lambda: node.run(
                f"echo up; until [ -e {server.home}/go ]; do sleep 0.02; done", on_line=lambda _: started.set()
            )
        )
        long.start()
        assert started.wait(20)
        assert node.run("echo quick").stdout == "quick\n"
        node.run(f"touch {server.home}/go")
        long.join()
        node.close()


@needs_sshd
def test_a_login_without_a_home_is_named(tmp_path: Path) -> None:
    """Nothing of ours lands in the root folder."""
    with sshd(tmp_path, "SetEnv HOME=") as server:
        node = RemoteNode("srv1", server.spec)
        with pytest.raises(StepError, match="no home folder"):
            node.home()
        node.close()


@needs_sshd
def test_bash_is_looked_for_on_the_path(tmp_path: Path) -> None:
    """No /bin/bash is asked for (NixOS has none); where PATH has no bash at all, that is the message."""
    (tmp_path / "bin").mkdir()
    for name in ("env", "timeout", "sh"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    assert "/bin/bash" not in wrapped("true", 1).text
    with sshd(tmp_path, environment=f"PATH={tmp_path}/bin") as server:
        node = RemoteNode("srv1", server.spec)
        with pytest.raises(StepError, match="has no bash"):
            node.run("true")
        (tmp_path / "bin" / "bash").symlink_to(shutil.which("bash") or "")
        assert node.run("echo $0").stdout == "bash\n"
        node.close()


WORDS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
    | st.text("'\"\\\\$`!;&|<>(){}[]*?~#%^=-, \t\r\n\x1b\u202e\xffü", max_size=8)
    | st.sampled_from(
        ["$(touch x)", "`touch x`", "';touch x;'", "!!", "-n", "--", "%s", "a\\0b", "@@exo-phase1 ends 0@@"]
    ),
    min_size=60,
    max_size=120,
)


@pytest.mark.long
@settings(max_examples=120)
@given(WORDS)
def test_whatever_is_quoted_arrives_as_it_was(words: list[str]) -> None:
    """Some 10 000 words as a hosts.yaml or a node may hold them: each login shell there is hands every byte on."""
    command = f"printf '%s\\0' {shlex.join(words)}"
    whole = "".join(f"{word}\0" for word in words)
    for shell in filter(None, map(shutil.which, ("bash", "zsh", "fish", "tcsh", "dash", "ksh93", "mksh"))):
        text, token = wrapped(command, 60)
        ran = subprocess.run([shell, "-c", text], capture_output=True, check=False)
        assert ran.stdout.decode() == f"@@{token} begins@@{whole}@@{token} ends 0@@", (shell, ran.stderr)


def test_marks_may_come_in_pieces() -> None:
    """However a link cuts its output, lines come as soon as they are whole, and no mark is taken for output."""
    whole = "hello\n@@mine begins@@one\n@@other ends 0@@\ntwo@@mine ends 7@@bye\n"
    for size in range(1, len(whole)):
        lines: list[str] = []
        out = Between("mine", lines.append)
        for start in range(0, len(whole), size):
            out.write(whole[start : start + size])
        assert (out.finish(), out.exit_code, lines) == ("one\n@@other ends 0@@\ntwo", 7, ["one", "@@other ends 0@@"])
        assert out.before == "hello\n"


@pytest.mark.parametrize(
    ("host", "address", "is_here"),
    [
        ("laptop", None, True),
        ("LAPTOP.office.example.", "100.77.248.9", True),
        ("ndnlinuxsrv1", "100.77.248.9", False),
        ("localhost", None, True),
        ("localhost", "100.77.248.9", False),
        ("no-such-name.invalid", None, False),
        ("no-such-name.invalid", "127.0.0.1", True),
        ("::1", "127.0.0.9", True),
    ],
)
def test_this_machine_is_told_by_its_name_or_an_address(host: str, address: str | None, *, is_here: bool) -> None:
    """`localhost` proves nothing where hosts.yaml gives an address that this machine has not."""
    assert is_this_machine(host, address, "laptop") == is_here


def test_local_is_proven_before_anything_runs(tmp_path: Path) -> None:
    """Who types from a laptop installs no srv1 there: neither a command nor a file gets through, and both are named."""
    node = LocalNode("srv1", NodeSpec(host="ndnlinuxsrv1", local=True, address="192.0.2.1"))
    for act in (lambda: node.run(f"touch {tmp_path}/ran"), lambda: node.put(b"x", f"{tmp_path}/put")):
        with pytest.raises(StepError, match=r"not ndnlinuxsrv1 \(192\.0\.2\.1\)"):
            act()
    assert list(tmp_path.iterdir()) == []
