"""What several chats at once do to EXO 0.0.15: two share the time, from three on all of them say the same nonsense.

Recorded with the tinygrad engine on three nodes, one prompt, greedy, 24 tokens: 2.14 s alone, 3.90 s for two, 50.6 s
for three, 82.6 s for four; HTTP 200 throughout.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .engine.pace import paced

SLOWER = {1: 1.0, 2: 1.8, 3: 23.7}
FOUR_AND_MORE = 38.6
NONSENSE_FROM = 3
NONSENSE = ["\ufffd\ufffd\ufffd", "ed", "\ufffd\ufffd", "\x0f", " of", "ur"]
"""Its beginning is said once, its last four tokens again and again."""


class Place:
    """One chat among the others. `most` is how many were under way at once while it was, itself included."""

    def __init__(self) -> None:
        self.most = 1

    def answer(self, start: float, tokens: list[str], schedule: list[float]) -> Iterator[str]:
        """Yield each token when it is due, and what becomes of both once others have come."""
        for index in paced(start, (due * SLOWER.get(self.most, FOUR_AND_MORE) for due in schedule)):
            nonsense = NONSENSE[index] if index < 2 else NONSENSE[2 + (index - 2) % 4]
            yield nonsense if self.most >= NONSENSE_FROM else tokens[index]


class Crowd:
    """The chats under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: list[Place] = []

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Give one chat its place for as long as it lasts."""
        own = Place()
        with self._lock:
            self._inside.append(own)
            for place in self._inside:
                place.most = max(place.most, len(self._inside))
        try:
            yield own
        finally:
            with self._lock:
                self._inside.remove(own)
