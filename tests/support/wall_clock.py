"""Wall clocks that can be set: see wall_clock.c, which the machine's C compiler makes a library of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

COMPILER = shutil.which("cc") or ""


def made(folder: Path) -> Path:
    """Compile the library into `folder`."""
    library = folder / "wall_clock.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([COMPILER, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def read_from(library: Path, clock: Path) -> dict[str, str]:
    """Return the environment in which a program's clock is as far ahead as the file `clock` says."""
    return {"LD_PRELOAD": str(library), "WALL_CLOCK": str(clock)}


def set_ahead(clock: Path, ahead_s: int) -> None:
    """Set the clock that this file is so far ahead of the right time."""
    aside = clock.with_suffix(".new")
    aside.write_text(f"{ahead_s:+}\n")
    aside.replace(clock)
