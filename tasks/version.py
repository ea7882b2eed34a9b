"""`fab version`: which program this is, down to the commit, and which EXO each profile of the hosts file names."""

from __future__ import annotations

import subprocess
from pathlib import Path

from records import VERSION
from records.settings import Inventory

NO_CHECKOUT = "no git checkout"


def program(folder: Path) -> str:
    """Return our version and the commit that `folder` is a checkout of."""
    return f"exo-phase1 {VERSION} ({commit_of(folder)})"


def releases(inventory: Inventory) -> str:
    """Return the EXO of every profile, a line each; the profile in force is marked."""
    return "\n".join(
        f"{key}{' (in force)' if key == inventory.profile else ''}: EXO {profile.exo.release} from {profile.exo.source}"
        for key, profile in inventory.profiles.items()
    )


def commit_of(folder: Path) -> str:
    """Return the commit that `folder` is a checkout of, `+changes` where files differ from it."""
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    top = _git(folder, "rev-parse", "--show-toplevel")
    if commit is None or top is None or Path(top) != folder.resolve():
        return NO_CHECKOUT  # or unpacked inside somebody else's checkout
    return f"{commit}+changes" if _git(folder, "status", "--porcelain") else commit


def _git(folder: Path, *words: str) -> str | None:
    """Return what git prints about `folder`; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
