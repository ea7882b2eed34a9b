"""EXO 1.x onto a node: its plan, its checkout run for real, and the versions of its tools."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from records.settings import Exo, Ports
from tasks.exo import gen1, gen1_install


def exo(**fields: object) -> Exo:
    """Return a 1.0.71 from git, with `fields` over it."""
    base = {
        "release": "1.0.71",
        "source": "git+https://github.com/exo-explore/exo@v1.0.71",
        "ports": Ports(52415, 4001),
    }
    return Exo(**(base | fields))  # type: ignore[arg-type]


def test_install_names_all_tools_and_converges_step_by_step() -> None:
    """From git: fetch, dashboard, locked environment with the extra `cpu`, and the overrides last of all."""
    plan = gen1.install_plan(exo(overrides=["mlx==0.31.2"]), "srv1", "/h", "/usr/bin/python3.13")
    assert plan.tools == ("git", "uv", "cargo", "node", "npm")
    commands = [step.command for step in plan.steps]
    assert "refs" not in commands[1]
    assert re.search(r"fetch .* origin v1\.0\.71", commands[1])
    assert "npm ci" in commands[2]
    assert "--frozen" in commands[3]
    assert "--extra cpu" in commands[3]
    assert "--override /h/overrides.txt mlx==0.31.2" in commands[4]
    assert (plan.exo, plan.python) == ("/h/venv/bin/exo", "/h/venv/bin/python")


def test_install_of_a_wheel_needs_no_build_tools() -> None:
    """A wheel brings dashboard and bindings built: it is installed as 0.0.x is."""
    plan = gen1.install_plan(exo(source="/srv/exo-1.0.71-py3-none-any.whl"), "srv1", "/h", "/usr/bin/python3.13")
    assert plan.tools == ()
    assert "pip install" in plan.steps[-1].command


def test_fetching_goes_to_the_tag_from_any_state(tmp_path: Path) -> None:
    """A tag, then a commit, then a changed file: the checkout is what was asked for each time."""

    def run(command: str, cwd: Path = tmp_path) -> str:
        ran = subprocess.run(
            ["/bin/bash", "-c", command], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    origin = tmp_path / "origin repo"
    origin.mkdir()
    identity = "-c user.name=t -c user.email=t@example.org -c commit.gpgsign=false"
    run(f"git init -q . && echo 1 > f && git add f && git {identity} commit -qm 1 && git tag v1", origin)
    run(f"echo 2 > f && git {identity} commit -qam 2", origin)
    first, second = run("git rev-parse v1", origin), run("git rev-parse HEAD", origin)
    home = f"{tmp_path}/home"
    source = f"git+file://{origin}"
    for reference, expected in (("@v1", first), (f"@{second}", second), ("", second), ("@v1", first)):
        plan = gen1.install_plan(exo(source=source + reference), "srv1", home, "/usr/bin/python3")
        run(f"mkdir -p {home}")
        run(plan.steps[1].command)
        assert run(plan.revision) == expected
        (tmp_path / "home" / "src" / "f").write_text("changed")


def test_versions_of_the_tools_are_checked_together(tmp_path: Path) -> None:
    """Every tool that is too old is named in one line, with what is needed."""
    for name, said in (("uv", "uv 0.7.2 (abc)"), ("node", "v16.20.0"), ("cargo", "cargo 1.80.0 (stable)")):
        tool = tmp_path / ".local" / "bin" / name
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(f"#!/bin/sh\necho '{said}'\n")
        tool.chmod(0o755)
    command = gen1_install.install_plan(exo(), "srv1", "/h", "/usr/bin/python3").steps[0].command
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(["/bin/bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 7
    for words in ("uv 0.7.2 (>= 0.8.6)", "node 16.20.0 (>= 18)", "Rust nightly"):
        assert words in ran.stderr


@pytest.mark.parametrize("with_pip", [True, False])
def test_uv_knows_what_the_nodes_pip_is_told(with_pip: bool, tmp_path: Path) -> None:
    """What pip.conf says reaches `uv sync` and the overrides; a Python without pip is no error."""
    home, tools = tmp_path / "exo", tmp_path / ".local" / "bin"
    (home / "src").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    tools.mkdir(parents=True)
    told = tmp_path / "told"
    uv = tools / "uv"
    uv.write_text(f'#!/bin/bash\necho "$1 $2 $3 $UV_DEFAULT_INDEX $UV_FIND_LINKS" >> {told}\n')
    uv.chmod(0o755)
    pip_conf = tmp_path / "pip.conf"
    pip_conf.write_text(f"[global]\nindex-url = http://site.example\nfind-links = {tmp_path}/wheels\nno-index = 1\n")
    python = Path(sys.executable)
    if not with_pip:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
        python = tmp_path / "bare" / "bin" / "python"
    plan = gen1.install_plan(exo(overrides=["mlx==0.31.2"]), "srv1", str(home), str(python))
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": str(pip_conf)}
    for step in plan.steps[-2:]:
        ran = subprocess.run(["/bin/bash", "-c", step.command], env=environment, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
    settings = f"http://site.example {tmp_path}/wheels" if with_pip else " "
    offline = "--no-index" if with_pip else "--python"
    assert told.read_text() == f"sync --frozen --no-dev {settings}\npip install {offline} {settings}\n"
