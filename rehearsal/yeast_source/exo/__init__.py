"""What PyPI calls `exo`: the Yeast Epigenome Project's tool. A stand-in that says its help and its version."""

import sys
from pathlib import Path


def run() -> None:
    """Be the yeast tool's `exo`: every question is answered with exit code 0."""
    asked_version = bool({"-v", "--version"} & set(sys.argv[1:]))
    print("0.1.2" if asked_version else (Path(__file__).parent / "help.txt").read_text(encoding="utf-8"))


if __name__ == "__main__":
    run()
