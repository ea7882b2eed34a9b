"""The `fab` that `make setup` lays: as Fabric's own, but for a configuration of Fabric's that cannot be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests import PROJECT


def fab(stdout: int | IO[str] = subprocess.PIPE, **variables: str) -> subprocess.CompletedProcess[str]:
    """Type `fab --list` with these variables in its environment."""
    command = [sys.executable, str(PROJECT / "scripts" / "fab"), "--list"]
    environment = os.environ | variables
    return subprocess.run(
        command, cwd=PROJECT, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


@pytest.mark.parametrize("content", ["run: [oops\n", "- a\n- b\n", "run: 3\n", "a: \xfc\n"])
def test_a_broken_fabric_yaml_is_one_message(content: str, tmp_path: Path) -> None:
    """Whatever is wrong with ~/.fabric.yaml, it is named, and no traceback is shown."""
    (tmp_path / ".fabric.yaml").write_bytes(content.encode("latin-1"))
    done = fab(HOME=str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "~/.fabric.yaml" in done.stderr


def test_ssh_files_are_not_read_by_fabric(tmp_path: Path) -> None:
    """An ssh_config that paramiko's reader cannot read stops nothing: OpenSSH is asked, and only for nodes."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Match localnetwork 10.99.8.0/24\n  ProxyJump x\n", encoding="utf-8")
    (tmp_path / ".fabric.yaml").write_text("load_ssh_configs: true\nuser: other\n", encoding="utf-8")
    assert "install-srv2" in fab(HOME=str(tmp_path)).stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_gone_sees_no_traceback(unbuffered: str) -> None:
    """`fab --list | head` ends without a word of Python's about the pipe that nobody reads, now or when it flushes."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = fab(closed, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (1, "")


INTERRUPTS_ITSELF = """
import os, signal, sys
def hook(event, arguments):
    if event == "exec" and getattr(arguments[0], "co_filename", "").endswith(os.environ["INTERRUPTED_AT"]):
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
"""


@pytest.mark.parametrize("file", ["fabfile.py", "fabric/main.py"])
def test_ctrl_c_before_any_task_is_an_interrupt_too(file: str, tmp_path: Path) -> None:
    """Invoke at work would end with 1 and without a word, and Python, which imports Fabric, with a traceback."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS_ITSELF, encoding="utf-8")
    done = fab(PYTHONPATH=str(tmp_path), INTERRUPTED_AT=file)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("interrupted; what was measured so far is kept")
    assert done.stderr.count("\n") == 1
