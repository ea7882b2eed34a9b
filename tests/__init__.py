"""The tests mirror the rooms; where a path is needed, it is asked for here."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / "tests" / "data"
