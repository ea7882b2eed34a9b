"""What goes wrong in the world, as one class from pure code to the terminal: found, needed, what to type next.

Pure code does not know which node it speaks of; whoever does says so with `about`. Where several nodes are in trouble,
one error carries one problem a node, and a person reads one block a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

import msgspec

from records.record import Problem


class StepError(Exception):
    """Something is not as a step needs it, for a reason that a person can mend."""

    def __init__(self, found: str, needed: str, do: str, *, who: str = "", exo_said: str = "") -> None:
        super().__init__(found)
        self.problems: tuple[Problem, ...] = (Problem(who, found, needed, do, exo_said),)

    def __str__(self) -> str:
        """Return who and what was found, of every problem, on one line."""
        return "; ".join(f"{p.what}: {p.found}" if p.what else p.found for p in self.problems)

    @property
    def problem(self) -> Problem:
        """The first problem: of an error about one thing, all of it."""
        return self.problems[0]

    def about(self, who: str) -> Self:
        """Name who is spoken of (a node, an arm, a file) where that was not known yet; returns this very error."""
        self.problems = tuple(p if p.what else msgspec.structs.replace(p, what=who) for p in self.problems)
        return self


class UnreachableError(StepError):
    """A node does not answer over SSH, or answers as somebody else."""


class NothingDoneError(StepError):
    """A step was refused before it did anything; it leaves no record, which would take an earlier one's place."""


def all_of(errors: Iterable[StepError]) -> StepError:
    """Return one error with the problems of all `errors` (at least one), each once, in their order."""
    every = list(errors)
    if len(every) == 1:
        return every[0]
    kinds = {type(error) for error in every}
    joined = (kinds.pop() if len(kinds) == 1 else StepError)("", "", "")
    joined.problems = tuple(dict.fromkeys(problem for error in every for problem in error.problems))
    return joined


def one_each(
    found: Mapping[str, str], needed: str, do: str | Mapping[str, str], exo_said: Mapping[str, str] | None = None
) -> StepError:
    """Return one error with a problem for everybody in `found` (who -> what was found)."""
    said = exo_said or {}
    return all_of(
        StepError(what, needed, do if isinstance(do, str) else do[who], who=who, exo_said=said.get(who, ""))
        for who, what in found.items()
    )
