"""What several chats at once do to EXO 0.0.15: two share the time, from three on all of them say the same nonsense.

Recorded with the tinygrad engine on three nodes, one prompt, greedy, 24 tokens: 2.14 s alone, 3.90 s for two, 50.6 s
for three, 82.6 s for four; HTTP 200 throughout.
"""

import threading

SLOWER = {1: 1.0, 2: 1.8, 3: 23.7}
FOUR_AND_MORE = 38.6
NONSENSE_FROM = 3
NONSENSE = ["\ufffd\ufffd\ufffd", "ed", "\ufffd\ufffd", "\x0f", " of", "ur"]
"""Its beginning is said once, its last four tokens again and again."""


class Crowd:
    """Counts the chats under way: one enters with `with`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> "Crowd":
        with self._lock:
            self._inside += 1
        return self

    def __exit__(self, *_) -> None:
        with self._lock:
            self._inside -= 1

    def disturb(self, tokens: list[str], schedule: list[float]) -> tuple[list[str], list[float]]:
        """Return what becomes of an answer's tokens and their times with as many chats under way as there are now."""
        inside = self._inside
        slower = SLOWER.get(inside, FOUR_AND_MORE)
        if inside >= NONSENSE_FROM:
            tokens = [NONSENSE[k] if k < 2 else NONSENSE[2 + (k - 2) % 4] for k in range(len(tokens))]
        return tokens, [due * slower for due in schedule]
