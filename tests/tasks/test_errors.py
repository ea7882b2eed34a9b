"""Several things in trouble are several problems, each whole and said once."""

from __future__ import annotations

import pytest

from records.facts import OllamaState
from tasks.command_line import blocks_of
from tasks.errors import StepError, UnreachableError, all_of, one_each
from tasks.machines.lab import side_by_side
from tasks.ollama.servers import refuse_silent


def fail(who: str = "") -> None:
    """Fail as a node does."""
    raise StepError("has no git", "git", "apt install git", who=who)


def test_a_node_is_named_by_whoever_knows_it_and_never_twice() -> None:
    """Pure code leaves `who` open, the thread of a node fills it in, and the step's name comes too late."""
    with pytest.raises(StepError) as caught:
        side_by_side({"srv1": fail, "rog": lambda: fail("rog")})
    error = caught.value.about("install-srv1")
    assert [problem.what for problem in error.problems] == ["srv1", "rog"]
    assert blocks_of(error).splitlines() == [
        "srv1: could not go on.",
        "  found:  has no git",
        "  needed: git",
        "  do:     apt install git",
        "rog: could not go on.",
        "  found:  has no git",
        "  needed: git",
        "  do:     apt install git",
    ]


def test_what_several_steps_say_of_one_node_is_said_once() -> None:
    """Three steps that stumble over the same node of the lab are one block."""
    same = [StepError("has no address", "an address", "set it", who="rog") for _ in range(3)]
    assert len(all_of(same).problems) == 1
    assert str(all_of(same)) == "rog: has no address"


def test_a_node_with_several_problems_is_one_block() -> None:
    """Whatever order they came in, what was found of one node stands together under its name, each thing once."""
    words = [("srv1", "no git"), ("rog", "no uv"), ("srv1", "no bash"), ("srv1", "no git")]
    assert blocks_of(all_of(StepError(found, "it", "get it", who=who) for who, found in words)).splitlines() == [
        "srv1: could not go on.",
        *("  found:  no git", "  needed: it", "  do:     get it"),
        *("  found:  no bash", "  needed: it", "  do:     get it"),
        "rog: could not go on.",
        *("  found:  no uv", "  needed: it", "  do:     get it"),
    ]


def test_unreachable_nodes_stay_unreachable_together() -> None:
    """An error of nothing but dead links is one; with anything else among it, it is not."""
    dead = [UnreachableError("no answer", "a link", "ssh", who=node) for node in ("srv1", "srv2")]
    assert isinstance(all_of(dead), UnreachableError)
    assert not isinstance(all_of([*dead, StepError("f", "n", "d", who="rog")]), UnreachableError)


def test_each_has_its_own_remedy_where_there_are_several() -> None:
    """What to type may differ from one to the next."""
    error = one_each({"a": "is out", "b": "is in"}, "balance", {"a": "go in", "b": "go out"})
    assert {problem.what: problem.do for problem in error.problems} == {"a": "go in", "b": "go out"}


def test_every_silent_ollama_is_a_problem_and_the_others_are_none() -> None:
    """The address stands in the problem, the arm is who; servers that answer are not spoken of."""
    states = [OllamaState(arm, f"http://{arm}:1", None, {}, error=why) for arm, why in (("a", "off"), ("b", None))]
    with pytest.raises(StepError) as caught:
        refuse_silent(states, "an answer", "start it")
    assert [(p.what, p.found) for p in caught.value.problems] == [("Ollama 'a'", "http://a:1: off")]
    refuse_silent(states[1:], "an answer", "start it")
