"""The stand-in for uv: what an install of EXO 1.x asks of it, offline."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal import cluster
from rehearsal.layout import Layout


@pytest.fixture(scope="module")
def nodes1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Lay out a rehearsal of generation 1 and start nothing of it."""
    layout = cluster.lay_out(tmp_path_factory.mktemp("uv"), generation=1)
    yield layout
    cluster.down(layout.root)


def test_uv_stand_in_installs_it(nodes1: Layout, tmp_path: Path) -> None:
    """`uv sync` needs the dashboard and makes a venv with `exo` and the locked mlx, which an override replaces."""
    project = tmp_path / "src"
    subprocess.run(["cp", "-r", str(nodes1.source), str(project)], check=True)
    uv = [str(nodes1.node("srv1").bin / "uv")]
    own = {"PATH": "/usr/bin:/bin", "PIP_FIND_LINKS": str(nodes1.wheels), "UV_PROJECT_ENVIRONMENT": str(tmp_path / "v")}
    sync = [*uv, "sync", "--frozen", "--no-dev", "--python", sys.executable, "--extra", "cpu"]

    def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, cwd=project, env=own, capture_output=True, text=True)

    assert "dashboard/build is missing" in run(sync).stderr
    npm = str(nodes1.node("srv1").bin / "npm")
    assert subprocess.run([npm, "run", "build"], cwd=project / "dashboard", env=own).returncode == 0
    assert run(sync).returncode == 0
    python = str(tmp_path / "v/bin/python")
    asks = "from importlib.metadata import version as v; print(v('mlx'), v('exo'))"
    assert run([python, "-c", asks]).stdout == "0.31.1 0.3.70\n"
    overrides = tmp_path / "overrides.txt"
    overrides.write_text("mlx==0.31.2\n")
    assert run([*uv, "pip", "install", "--python", python, "--override", str(overrides), "mlx==0.31.2"]).returncode == 0
    assert run([python, "-c", asks]).stdout == "0.31.2 0.3.70\n"
    assert "--libp2p-port" in run([str(tmp_path / "v/bin/exo"), "--help"]).stdout
    refused = run([*sync, "--extra", "amd"])
    assert (refused.returncode, "Extra `amd` is not defined" in refused.stderr) == (2, True)
