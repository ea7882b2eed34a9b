"""Lay out what the nodes install from: complete source trees of the stand-ins, and a folder of wheels for pip.

A source tree is the folder in this package plus the engine it shares with the Ollama stand-in plus the build backend:
`pip install TREE` then needs neither network nor setuptools. Each node has the virtual environment already.
"""

from __future__ import annotations

import shutil
import venv
from importlib.util import find_spec
from pathlib import Path

from rehearsal.wheels import write_wheel

HERE = Path(__file__).parent
TREES = {0: "exo_source/v0.0.15", 1: "exo_source/v1.0.71"}

PACKAGES = HERE / "exo_source" / "packages"


def _package(name: str) -> dict[str, bytes]:
    return {str(path.relative_to(PACKAGES)): path.read_bytes() for path in sorted((PACKAGES / name).rglob("*.py"))}


WHEELS: tuple[tuple[str, str, dict[str, bytes]], ...] = (
    ("numpy", "2.0.0", _package("numpy")),
    ("pyrsmi", "0.2.0", _package("pyrsmi")),
    *(("tinygrad", version, _package("tinygrad")) for version in ("0.10.0", "0.10.2", "0.10.3", "0.11.0")),
    *(("mlx", version, _package("mlx")) for version in ("0.31.1", "0.31.2")),
    ("mlx-cpu", "0.31.1", {"mlx_cpu/__init__.py": b""}),
    ("mlx-cpu", "0.31.2", {"mlx_cpu/__init__.py": b""}),
    ("mlx-lm", "0.31.3", {"mlx_lm/__init__.py": b""}),
    ("uv", "0.8.6", {"uv.py": (HERE / "uv_standin.py").read_bytes()}),
)
"""What the nodes' pip finds beside the source: (name, version, files)."""


def lay_source(generation: int, target: Path) -> Path:
    """Lay the complete source tree of a generation's stand-in into `target` and return it."""
    shutil.copytree(HERE / TREES[generation], target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "engine", target / "exo" / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "wheels.py", target / "wheels.py")
    return target


def lay_yeast(target: Path) -> Path:
    """Lay out a project that is called `exo` too, and is not EXO."""
    shutil.copytree(HERE / "yeast_source", target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "wheels.py", target / "wheels.py")
    return target


def lay_wheels(target: Path) -> Path:
    """Build the wheels that the nodes' pip may need beside the source into `target`."""
    for name, version, files in WHEELS:
        scripts = {"uv": "uv:main"} if name == "uv" else {}
        about = {"name": name, "version": version, "description": f"stand-in for {name}", "scripts": scripts}
        write_wheel(target, about, files)
    return target


def lay_venv(target: Path) -> None:
    """Make the virtual environment that an install would make, with a copy of this program's own pip.

    `python -m venv` byte-compiles pip, some nine seconds of CPU on each node of every rehearsal. Where this program's
    own environment has no pip, nothing is laid and the install makes it.
    """
    pip = find_spec("pip")
    if pip is None or pip.origin is None:
        return
    venv.EnvBuilder(symlinks=True).create(target)
    (packages,) = target.glob("lib/python*/site-packages")
    installed = Path(pip.origin).parent
    for folder in (installed, *installed.parent.glob("pip-*.dist-info")):
        shutil.copytree(folder, packages / folder.name)
