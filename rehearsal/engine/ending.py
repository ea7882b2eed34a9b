"""The end of a stand-in: SIGTERM and SIGINT are noted from before it serves, and awaited when all else is up."""

from __future__ import annotations

import signal
import time

LOOK_S = 0.1


def noted_signals() -> list[int]:
    """Note SIGTERM and SIGINT from now on, instead of dying of them; returns the list that grows."""
    noted: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: noted.append(number))
    return noted


def wait_for(noted: list[int]) -> None:
    """Wait until a signal is noted.

    Not on a `threading.Event` without an end: one stand-in of thousands, on a busy machine, took neither SIGTERM nor a
    SIGINT of its own for 70 s, while all its other threads went on serving.
    """
    while not noted:
        time.sleep(LOOK_S)
