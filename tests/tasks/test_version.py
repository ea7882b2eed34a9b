"""`fab version` names the program down to the commit, in a real git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec

from records import VERSION
from tasks.inventory import load_inventory
from tasks.version import NO_CHECKOUT, commit_of, program, releases
from tests import PROJECT
from tests.support.fab import fab


def git(folder: Path, *words: str) -> str:
    """Run git in `folder` as somebody with a name, and return what it prints."""
    named = ["-c", "user.name=A", "-c", "user.email=a@example.invalid"]
    return subprocess.run(
        ["git", *named, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_commit_is_named_and_so_are_changes_to_it(tmp_path: Path) -> None:
    """A clean checkout is its commit, a file that differs adds `+changes`."""
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("a", encoding="utf-8")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert commit_of(tmp_path) == commit[:12]
    (tmp_path / "file").write_text("b", encoding="utf-8")
    assert commit_of(tmp_path) == f"{commit[:12]}+changes"


def test_what_is_no_checkout_has_no_commit(tmp_path: Path) -> None:
    """A plain folder, one unpacked inside another project's checkout, and a checkout without a commit say so."""
    assert commit_of(tmp_path) == NO_CHECKOUT
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) == NO_CHECKOUT
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    (tmp_path / "unpacked").mkdir()
    assert commit_of(tmp_path / "unpacked") == NO_CHECKOUT


def test_every_profile_is_named_with_its_exo() -> None:
    """The release and source of each profile stand there, and which one is in force."""
    inventory = msgspec.structs.replace(load_inventory(PROJECT / "hosts.yaml"), profile="qwen-1x")
    profiles = releases(inventory).splitlines()
    assert [line.partition(":")[0] for line in profiles] == ["llama-0015", "qwen-1x (in force)"]
    assert "EXO 1.0.71 from git+" in profiles[1]


def test_fab_version_prints_the_program_even_where_the_hosts_file_cannot_be_used(tmp_path: Path) -> None:
    """The first line is ours alone; the second needs a hosts file, and without one the exit code is 1."""
    done = fab("version", hosts=tmp_path / "none.yaml")
    assert (done.returncode, done.stdout) == (1, f"{program(PROJECT)}\n")
    assert program(PROJECT).startswith(f"exo-phase1 {VERSION} (")
    whole = fab("version", hosts=PROJECT / "hosts.yaml")
    assert (whole.returncode, len(whole.stdout.splitlines())) == (0, 3)
