"""Three programs are called `exo`; each is told by what it says to --help, and refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import StepError
from tasks.exo import gen0, gen1, identity
from tasks.exo.catalogue import ALL, generation_of
from tasks.exo.interface import Generation
from tests.support.recorded import recorded


@pytest.mark.parametrize(
    ("answer", "exit_code", "kind"),
    [
        ("exo_0.0.15_help.txt", 0, "0.0.x"),
        ("exo_0.0.15_version.txt", 2, "0.0.x"),
        ("exo_1.0.71_help.txt", 0, "1.x"),
        ("exo_1.0.71_version.txt", 2, "1.x"),
        ("exo_1.x_head_help.txt", 0, "1.x-head"),
        ("yeast_0.1.2_help.txt", 0, "yeast"),
        ("exoscale_help.txt", 0, "exoscale"),
    ],
)
def test_identify_by_what_it_says(answer: str, exit_code: int, kind: str) -> None:
    """Each program is known by its own words, whatever its exit code is."""
    assert identity.identify(recorded("identity", answer), exit_code).kind == kind


@pytest.mark.parametrize(
    ("said", "exit_code", "kind"),
    [
        ("bash: line 1: exo: command not found", 127, "missing"),
        ("", 127, "missing"),
        ("", 126, "missing"),
        ("", 0, "unknown"),
        ("ModuleNotFoundError: No module named 'click'", 1, "unknown"),
    ],
)
def test_identify_without_a_program_or_a_word(said: str, exit_code: int, kind: str) -> None:
    """Nothing there and nothing known are two different findings."""
    found = identity.identify(said, exit_code)
    assert found.kind == kind
    assert found.words


@settings(max_examples=150)
@given(st.text(), st.integers(0, 255))
def test_identify_takes_any_text(said: str, exit_code: int) -> None:
    """No answer makes it raise, and there are always words."""
    assert identity.identify(said, exit_code).words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("yeast_0.1.2_help.txt", "Yeast Epigenome Project"),
        ("exoscale_help.txt", "Exoscale"),
        ("exo_1.0.71_help.txt", "EXO 1.x"),
    ],
)
def test_check_refuses_by_name(answer: str, words: str) -> None:
    """A foreign program, or another generation than hosts.yaml names, is refused with its name."""
    found = identity.identify(recorded("identity", answer), 0)
    with pytest.raises(StepError, match=words) as caught:
        identity.check(found, "0.0.x", "srv2", "/h/venv/bin/exo")
    assert "0.0.x" in caught.value.problem.needed
    assert caught.value.problem.do


def test_check_takes_the_right_generation() -> None:
    """What hosts.yaml names passes; a later 1.x counts as 1.x."""
    identity.check(identity.identify(recorded("identity", "exo_0.0.15_help.txt"), 0), "0.0.x", "srv1", "/exo")
    identity.check(identity.identify(recorded("identity", "exo_1.x_head_help.txt"), 0), "1.x", "srv1", "/exo")


def test_foreign_programs_on_the_path_are_named() -> None:
    """The warning says what the `exo` on the PATH is; none there is no warning."""
    yeast = identity.identify(recorded("identity", "yeast_0.1.2_help.txt"), 0)
    assert "Yeast" in identity.foreign(yeast, "/usr/local/bin/exo")
    assert identity.foreign(identity.identify("", 127), "/usr/bin/exo") == ""


def test_same_revision() -> None:
    """Different revisions are refused with each node's; one revision, or one node, is fine."""
    identity.same_revision({"srv1": "abc", "srv2": "abc"})
    identity.same_revision({})
    with pytest.raises(StepError, match="srv1: has EXO at abc; rog: has EXO at def"):
        identity.same_revision({"srv1": "abc", "rog": "def"})


@pytest.mark.parametrize(
    ("release", "module"),
    [("0.0.15", gen0), ("0.0", gen0), ("0.0.14-alpha", gen0), ("1.0.71", gen1), ("1.1", gen1)],
)
def test_the_release_decides_the_generation(release: str, module: Generation) -> None:
    """0.0.x and 1.x each have one module."""
    assert generation_of(release) is module


@pytest.mark.parametrize("release", ["0.1.2", "2.0", "0.3.70", "10.1"])
def test_other_releases_are_refused(release: str) -> None:
    """A release that no module drives is refused before any work; 0.1.2 is the yeast tool's."""
    with pytest.raises(StepError, match=release):
        generation_of(release)


def test_names_are_those_that_identify_tells() -> None:
    """A generation's NAME is the kind that its own --help is told as."""
    assert {generation.NAME for generation in ALL.values()} == {"0.0.x", "1.x"}
