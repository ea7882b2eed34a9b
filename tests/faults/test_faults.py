"""The short form of the matrix: the checker's own sense, the page, and two cases on three machines."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.faults import checker
from tests.faults.case import TRIES, Outcome, Runner
from tests.faults.control import Typed, bed
from tests.faults.faults import FAULTS
from tests.faults.page import page
from tests.faults.steps import CASES
from tests.support import lab
from tests.support.campaigns import sample

BLOCK = "srv2: could not go on.\n  found:  x\n  needed: y\n  do:     z\n"


def typed(code: int, stderr: str) -> Typed:
    """Return a call that ended so."""
    return Typed(("install",), code, "", stderr, 1.0)


def test_the_checker_wants_one_whole_block_with_a_name() -> None:
    """A block about the node passes; none, another's, a double, one without `do:` and a traceback do not."""
    assert checker.told(typed(1, BLOCK), ("srv2",), interrupted=False) == []
    for wrong in (BLOCK * 2, BLOCK.replace("srv2", "rog"), BLOCK.replace("do:", ""), f"Traceback\n{BLOCK}", ""):
        assert checker.told(typed(1, wrong), ("srv2",), interrupted=False), wrong


def test_the_checker_counts_what_is_lost_and_doubled() -> None:
    """One finished sample that is gone is lost, one measured again beside itself is doubled."""
    first, second = sample("exo", 1, 0, 50.0), sample("exo", 1, 1, 50.0)
    assert checker.kept_once([first], [first, second]) == (0, 0)
    assert checker.kept_once([first, second], [second]) == (1, 0)
    assert checker.kept_once([first], [first, msgspec.structs.replace(first, start_utc="later")]) == (0, 1)


def test_the_page_shows_what_went_wrong() -> None:
    """A case that is not as it must be is an X in its cell and counts."""
    good = Outcome("verify-python", "unreachable", "named", 12.0, 20.0)
    bad = Outcome("verify-python", "link cut", "done", 3.0, 9.0, lost=1)
    shown = page([good, bad])
    assert "| unreachable | n 12 |" in shown
    assert "| link cut | X 3 |" in shown
    assert "**2 cases** of 2 pairs, 2 faults, 29 s in all: 1 as they must be, 1 samples lost" in shown


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Bring three machines and a desk up."""
    with bed(tmp_path_factory.mktemp("faults")) as up:
        yield Runner(up)


@pytest.mark.skipif(bool(lab.missing()), reason=f"the lab needs {lab.missing()}")
@pytest.mark.parametrize("name", ["black hole", "Ollama: answers half a JSON"])
def test_preflight_names_what_befalls_it(runner: Runner, name: str) -> None:
    """Step 1 ends in time and names the node or server; typed again it is done, and cleanup leaves nothing.

    On a busy machine the node may have told all before the fault falls: then it is rightly done, and falls sooner.
    """
    fault = next(fault for fault in FAULTS if fault.name == name)
    for number in range(TRIES):
        outcome = runner.run(CASES["verify-python"], fault, sooner=2 * number)
        assert outcome.good, outcome
        if outcome.ended != "done":
            break
    assert outcome.ended == "named", outcome
