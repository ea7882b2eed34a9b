"""Genuine packages from the package index for tests, each in a folder of its own: their versions exclude each other.

The folders stay below the user's cache, so that a package is fetched once and not once a test run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "exo-phase1" / "packages"


def package(*requirements: str) -> Path:
    """Return a folder that holds exactly these packages, without what they depend on; skips where no index has them."""
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder = CACHE / version / "+".join(text.replace("==", "-") for text in requirements)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".installing-"))
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
             "--root-user-action=ignore", "--no-deps", "--no-compile", "--retries=1", "--timeout=20",
             "--target", str(aside), *requirements],
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        if ran.returncode != 0:
            pytest.skip(f"no {' and '.join(requirements)} from the package index: {ran.stderr.strip()[-200:]}")
        if not folder.exists():
            aside.rename(folder)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{' and '.join(requirements)} did not come from the package index within 150 s")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
