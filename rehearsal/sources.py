"""Lay out what the nodes install from: complete source trees of the stand-ins, and a folder of wheels for pip.

A source tree is the folder in this package plus the engine it shares with the Ollama stand-in plus the build backend:
`pip install TREE` then needs neither network nor setuptools.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rehearsal.wheels import write_wheel

HERE = Path(__file__).parent
TREES = {0: "exo_source/v0.0.15", 1: "exo_source/v1.0.71"}

ROCML = b'''"""Stand-in for pyrsmi: what the node's rehearsal says of its GPU."""

import json
from pathlib import Path


def _gpu():
    try:
        return json.loads((Path.home() / ".rehearsal.json").read_text())["gpu"]
    except (OSError, ValueError, KeyError):
        return {}


def smi_initialize():
    if not _gpu():
        raise RuntimeError("ROCm SMI found no device")


def smi_shutdown():
    pass


def smi_get_device_name(_index):
    return _gpu().get("name", "AMD Radeon Graphics")


def smi_get_device_memory_total(_index):
    return _gpu().get("memory_bytes", 0)
'''

WHEELS: tuple[tuple[str, str, dict[str, bytes]], ...] = (
    ("pyrsmi", "0.2.0", {"pyrsmi/__init__.py": b"", "pyrsmi/rocml.py": ROCML}),
    ("tinygrad", "0.10.0", {"tinygrad/__init__.py": b""}),
    ("tinygrad", "0.10.2", {"tinygrad/__init__.py": b""}),
    ("tinygrad", "0.11.0", {"tinygrad/__init__.py": b""}),
    ("mlx", "0.31.1", {"mlx/__init__.py": b""}),
    ("mlx", "0.31.2", {"mlx/__init__.py": b""}),
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
