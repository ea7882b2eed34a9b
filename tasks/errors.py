"""What goes wrong in the world, as one class: who, what was found, what was needed, what to type next."""

from __future__ import annotations

from collections.abc import Mapping

from records.record import Problem
from tasks.exo.interface import Refused


class StepError(Exception):
    """A step cannot do its work for a reason that a person can mend. Caught, recorded and printed in `steps`."""

    def __init__(self, what: str, found: str, needed: str, do: str) -> None:
        super().__init__(f"{what}: {found}")
        self.what = what
        self.found = found
        self.needed = needed
        self.do = do

    def problem(self) -> Problem:
        """Return the same four parts as a record keeps them."""
        return Problem(self.what, self.found, self.needed, self.do)


class UnreachableError(StepError):
    """A node does not answer over SSH, or answers as somebody else."""


def refused(what: str, error: Refused) -> StepError:
    """Return what a pure module refused as the error of a step about `what` (a node, `exo`, a file)."""
    return StepError(what, f"{what}: {error.found}", error.needed, error.do)


def merged(errors: Mapping[str, StepError]) -> StepError:
    """Return one error that names every node of `errors` (node key -> its own error), each cause once."""
    first = next(iter(errors.values()))
    if len(errors) == 1:
        return first
    kind = UnreachableError if all(isinstance(e, UnreachableError) for e in errors.values()) else StepError
    return kind(
        what=f"{len(errors)} nodes ({', '.join(errors)})",
        found="; ".join(
            e.found if e.found.startswith(f"{key}: ") else f"{key}: {e.found}" for key, e in errors.items()
        ),
        needed="; ".join(dict.fromkeys(e.needed for e in errors.values())),
        do="\n".join(dict.fromkeys(e.do for e in errors.values())),
    )
