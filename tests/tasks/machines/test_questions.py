"""Many questions in one command: each answer whole, under its own name, and all asked at once."""

from __future__ import annotations

import subprocess
from itertools import pairwise

import pytest

from tasks.machines.network import probed_from
from tasks.machines.questions import answers, ask_all


def asked(**questions: str) -> dict[str, str]:
    """Return what bash answers."""
    ran = subprocess.run(
        ["/bin/bash", "-c", ask_all(questions)], capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stderr == ""
    return answers("Welcome to this machine\n" + ran.stdout)


def test_every_answer_stands_under_its_question() -> None:
    """An answer may be empty, lack its last newline, come with an error, or be larger than a pipe holds."""
    told = asked(
        first="echo one; echo two", none="", bare="printf %s bare", fails="echo before; no-such-program; exit 3",
        large="head -c 300000 /dev/zero | tr '\\0' x", last="case a in a) echo 'it'\"'\"'s';; esac",
    )  # fmt: skip
    assert {name: body.rstrip("\n") for name, body in told.items()} == {
        "first": "one\ntwo", "none": "", "bare": "bare", "fails": "before", "large": "x" * 300_000, "last": "it's",
    }  # fmt: skip


def test_questions_are_asked_at_once() -> None:
    """Each of three questions waits for a word of another one, which a turn of each would never hear."""
    told = asked(
        make="d=/tmp/exo-phase1-$PPID-$$; mkdir -p $d; mkfifo $d/a $d/b; echo made; read -r x <$d/a; echo $x; rm -r $d",
        say="d=/tmp/exo-phase1-$PPID-$$; until [ -p $d/b ]; do sleep 0.01; done; echo heard >$d/a",
    )
    assert told["make"].split() == ["made", "heard"]


@pytest.mark.parametrize(("count", "most"), [(3, 5), (30, 59)])
def test_the_ways_that_are_measured_grow_as_the_nodes_do(count: int, most: int) -> None:
    """Three nodes measure five ways, thirty measure 58: the bench node all, every other one the next."""
    nodes = [f"n{number}" for number in range(count)]
    ways = [(node, to) for node in nodes for to in probed_from(node, nodes, "n1")]
    assert len(ways) <= most
    assert {to for node, to in ways if node == "n1"} == set(nodes)
    assert {frozenset(way) for way in ways} >= {frozenset(pair) for pair in pairwise(nodes)}
