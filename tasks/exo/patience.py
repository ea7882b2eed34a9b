"""How long one Flow may go on waiting; it keeps its own time, so that a test needs no clock."""

from __future__ import annotations

from tasks.errors import StepError
from tasks.machines.wire import Flow, Wait

POLL_S = 1.0


class Patience:
    """The seconds that one flow has waited, against its limit."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.waited_s = 0.0

    def wait(self, what: str, needed: str) -> Flow[None]:
        """Wait one poll; `what` is the progress. Raises StepError, with `what` and `needed`, once the time is over."""
        if self.waited_s >= self.timeout_s:
            raise StepError(
                f"after {self.timeout_s:.0f} s: {what}",
                needed,
                "look at the EXO logs of all nodes; type it again, a download goes on where it stopped",
            )
        self.waited_s += POLL_S
        yield Wait(POLL_S, what)
