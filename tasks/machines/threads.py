"""Threads that Ctrl-C can leave: what they wait for ends by its own time-out on the node, a person need not wait too.

ThreadPoolExecutor joins its threads before the program may end, and Invoke waits for a remote command after Ctrl-C;
with a 30-minute install under way both would hold the terminal for 30 minutes.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
WAKE_S = 0.2
"""A join without a time-out would hold signals back until the thread ends."""


class Outcome(Generic[T]):
    """What a job returned, or the exception that it ended with."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._value: T | None = None

    def keep(self, job: Callable[[], T]) -> None:
        """Do the job and keep what comes of it."""
        try:
            self._value = job()
        except BaseException as error:  # handed to the thread that waits
            self.error = error

    @property
    def result(self) -> T | None:
        """What the job has returned so far, None where it has not."""
        return self._value

    def value(self) -> T:
        """Return what the job returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]


def run_all(jobs: Mapping[str, Callable[[], T]], within_s: float = math.inf) -> dict[str, Outcome[T]]:
    """Run every job in a thread of its own, in the caller's context, and return the outcomes when all have ended.

    KeyboardInterrupt leaves at once, and so does `within_s` seconds: an outcome may then have neither result nor error.
    The threads are daemons and end with the program.
    """
    outcomes: dict[str, Outcome[T]] = {key: Outcome() for key in jobs}
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(outcomes[key].keep, job), daemon=True)
        for key, job in jobs.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within_s
    for thread in threads:
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(WAKE_S)
    return outcomes


def run_one(job: Callable[[], T]) -> T:
    """Run one job so that Ctrl-C need not wait for it."""
    return run_all({"": job})[""].value()
