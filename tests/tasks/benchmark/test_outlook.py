"""What is said before the hours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.benchmark.outlook import say_outlook
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tests import PROJECT


@pytest.mark.parametrize(("rounds", "better"), [(3, "--runs 6"), (4, ""), (5, "--runs 6"), (6, ""), (7, "--runs 8")])
def test_numbers_of_rounds_that_tell_little(
    rounds: int, better: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer than can decide, and an odd number, are told with the number to type; the others are not."""
    lab = Lab(load_inventory(PROJECT / "hosts.yaml"), tmp_path / "hosts.yaml")
    say_outlook(lab, rounds)
    told = capsys.readouterr().out
    assert f"bench: {rounds} rounds of" in told
    assert ("better: fab bench --runs" in told) == bool(better)
    assert better in told
