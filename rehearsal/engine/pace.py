"""When each token leaves: a schedule in absolute times, so that a late wake-up is never passed on to the next token.

An answer of n tokens takes `first_token_s + (n - 1) / tokens_per_s`, times a noise factor that is the product of a
factor of the run (a run is one load of the model) and one of the request. Both are lognormal with median 1 and are
drawn from (seed, arm, run, request): the same rehearsal has the same noise.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

REQUEST_SHARE = 0.5
"""Standard deviation of a request's factor, as a share of the run's."""
JITTER_SHARE = 0.2
"""A token inside an answer leaves up to this share of an interval early or late; the last one leaves on time."""


@dataclass(frozen=True)
class Speed:
    """How fast one model is on one engine; noise is the standard deviation of a run's log rate."""

    first_token_s: float
    tokens_per_s: float
    noise: float = 0.0
    seed: int = 0
    arm: str = ""
    slowness: float = 1.0
    """By which everything takes longer, noise aside."""

    def total_s(self, tokens: int) -> float:
        """Return the noiseless seconds of an answer of `tokens` tokens."""
        return self.first_token_s + (tokens - 1) / self.tokens_per_s

    def factor(self, run: int, request: int) -> float:
        """Return by how much request `request` of run `run` takes longer than the noiseless one."""
        of_run = random.Random(f"{self.seed}/{self.arm}/{run}").gauss(0.0, self.noise)
        of_request = random.Random(f"{self.seed}/{self.arm}/{run}/{request}").gauss(0.0, self.noise * REQUEST_SHARE)
        return self.slowness * float(2.718281828459045 ** (of_run + of_request))

    def schedule(self, tokens: int, run: int, request: int) -> list[float]:
        """Return when each token leaves, in seconds after the request came."""
        factor = self.factor(run, request)
        interval = factor / self.tokens_per_s
        dice = random.Random(f"{self.seed}/{self.arm}/{run}/{request}/jitter")
        times = [self.first_token_s * factor + k * interval for k in range(tokens)]
        inner = [t + interval * JITTER_SHARE * (dice.random() - 0.5) for t in times[1:-1]]
        return [*times[:1], *inner, *times[1:][-1:]]


def slowness(number: Callable[[str, float], float]) -> float:
    """Return by how much both engines are slower by now, from the settings, which `number` reads.

    From `drift_from_s` (Unix time) on, for `drift_over_s`, the rate changes evenly in its logarithm by `drift` in all.
    """
    share = (time.time() - number("drift_from_s", 0.0)) / number("drift_over_s", 1.0)
    return (1.0 + number("drift", 0.0)) ** -min(1.0, max(0.0, share))


def sleep_until(moment: float) -> None:
    """Sleep until time.monotonic() is `moment`; return at once where it is past."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)


def paced(start: float, schedule: Iterable[float]) -> Iterator[int]:
    """Yield 0, 1, 2 ... each when it is due, `schedule` counting from `start`."""
    for index, due in enumerate(schedule):
        sleep_until(start + due)
        yield index
