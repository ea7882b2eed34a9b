"""Which genuine EXO 1.0.71 the environment names, and the bed on which the product builds it and meets it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real import tiny_model
from tests.real.bed import Bed, brought_up, shipped_hosts
from tests.real.genuine import unnamed

EXO1_SOURCE = os.environ.get("EXO1_SOURCE", "")
"""A checkout of EXO v1.0.71 with its dashboard built: `cd dashboard && npm ci && npm run build`."""
EXO1_PYTHON = os.environ.get("EXO1_PYTHON") or shutil.which("python3.13") or ""
EXO1_CACHE = os.environ.get("EXO1_CACHE", "")
"""uv's cache with all that EXO needs, for the nodes reach no package index: one `fab install` elsewhere fills it."""
BUILT_WITH = ("CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR")
"""Handed on to the nodes where they are set. A CARGO_TARGET_DIR that has been used spares most of the Rust part: each
node's Python has pyo3 and what uses it compiled anew. MATURIN_PEP517_ARGS is left out: it may ask for a dev build.
"""


def absent() -> str:
    """Return what is missing for the real program on the real machines, "" where nothing is."""
    return unnamed(
        (
            "EXO1_SOURCE",
            "checkout of EXO v1.0.71 with its dashboard built",
            f"{EXO1_SOURCE}/dashboard/build/index.html",
        ),
        ("EXO1_PYTHON", "Python 3.13", EXO1_PYTHON),
        ("EXO1_CACHE", "cache of uv's", EXO1_CACHE),
        ("PATH", "uv", shutil.which("uv") or ""),
        ("PATH", "cargo of rustup's", shutil.which("cargo") or ""),
    )


@contextmanager
def bed(root: Path) -> Iterator[Bed]:
    """Bring everything up below `root`, and take it down again."""
    hosts = shipped_hosts("qwen-1x")
    profile = hosts["profiles"]["qwen-1x"]
    profile["exo"]["source"] = EXO1_SOURCE
    names = [pair["exo"] for pair in profile["models"].values()]
    tiny_model.write_models(root / "models", enumerate(names))
    homes = {"CARGO_HOME": Path.home() / ".cargo", "RUSTUP_HOME": Path.home() / ".rustup"}
    variables = {name: str(path) for name, path in homes.items()}
    variables |= {name: os.environ[name] for name in BUILT_WITH if name in os.environ}
    variables |= {"UV_CACHE_DIR": EXO1_CACHE, "UV_OFFLINE": "1", "CARGO_NET_OFFLINE": "true"}
    tools = {name: shutil.which(name) or "" for name in ("uv", "cargo", "rustc", "rustup")} | {
        "python3.13": EXO1_PYTHON
    }
    with brought_up(root, hosts, tools, **variables) as up:
        yield up
