"""Which genuine EXO 0.0.15 the environment names, and the bed on which the product meets it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.real import amd_gpu, tiny_model
from tests.real.bed import Bed, brought_up, shipped, shipped_hosts
from tests.support import lab

EXO_SOURCE = os.environ.get("EXO_SOURCE", "")
"""A checkout of EXO v0.0.15-alpha."""
EXO_PYTHON = os.environ.get("EXO_PYTHON") or shutil.which("python3.12") or ""
"""A Python 3.12; EXO's pins have wheels for it."""
EXO_WHEELS = os.environ.get("EXO_WHEELS", "")
"""A folder with all that EXO needs, for the nodes reach no package index: `pip download` fills one."""


def absent() -> str:
    """Return what is missing for the real program on the real machines, "" where nothing is."""
    return unnamed(
        ("EXO_SOURCE", "checkout of EXO v0.0.15-alpha", f"{EXO_SOURCE}/exo/main.py"),
        ("EXO_PYTHON", "Python 3.12", EXO_PYTHON),
        ("EXO_WHEELS", "folder of wheels for it", EXO_WHEELS),
    )


def unnamed(*wanted: tuple[str, str, str]) -> str:
    """Return which of `wanted` (variable, what it is to name, a path that must be there) is missing, or of the lab."""
    gaps = [f"{name} names no {what}" for name, what, path in wanted if not path or not Path(path).exists()]
    lacking = lab.missing()
    return "; ".join([*gaps, *([f"the lab needs {lacking}"] if lacking else [])])


@contextmanager
def bed(root: Path) -> Iterator[Bed]:
    """Bring everything up below `root`, and take it down again."""
    checkout = root / "exo"
    shutil.copytree(EXO_SOURCE, checkout, ignore=shutil.ignore_patterns(".git", "build", "*.egg-info"))
    tiny_model.scale_down(checkout)
    tiny_model.write_models(root / "models", tiny_model.MODELS.values())
    hosts = hosts_of(checkout)
    with brought_up(root, hosts, {"python3.12": EXO_PYTHON}) as up:
        for machine in lab.NODES:
            pip = up.lab.folder(machine) / "home/.config/pip/pip.conf"
            pip.write_text(f"[global]\nno-index = true\nfind-links = {EXO_WHEELS}\n")
        yield up


def hosts_of(checkout: Path, *, amd: bool = False) -> dict[str, Any]:
    """Return the shipped hosts file for this bed; `amd`: rog computes on its emulated GPU, not like a node without."""
    hosts = shipped_hosts("llama-0015")
    exo = hosts["profiles"]["llama-0015"]["exo"]
    exo["source"] = str(checkout)
    if amd:
        hosts["nodes"]["rog"]["gpu"] = shipped()["nodes"]["rog"]["gpu"]
        exo["nodes"]["rog"]["environment"] |= amd_gpu.environment()
    else:
        exo["nodes"]["rog"] = exo["nodes"]["srv2"]
    return hosts
