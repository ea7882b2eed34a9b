"""The ratio of EXO's rate to one baseline's as the report shows it: round by round, with its interval and cross-check.

The arithmetic is in `reports.stats.rounds`; here runs become rounds, and arrays become numbers with names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from reports.stats import rounds
from reports.stats.rounds import FEWEST_ROUNDS, Array
from reports.stats.runs import RunValue

METHOD = "t interval on the rounds' log ratios, the arms' common trend taken out"

Side = Literal["above", "below", "across"]
SIDES: dict[int, Side] = {1: "above", -1: "below", 0: "across"}


class RoundRatio(msgspec.Struct, frozen=True):
    """One round: EXO's rate over the baseline's."""

    round: int
    measured: float
    ratio: float
    """With the arms' common trend taken out; of these the interval is made. As measured where rounds are too few."""
    exo_first: bool


class Comparison(msgspec.Struct, frozen=True):
    """The ratio of EXO's rate to one baseline's, with two intervals made in different ways."""

    baseline: str
    ratio: float
    """Geometric mean of the rounds."""
    lower: float
    """One-sided lower bound at `confidence`; 0 where fewer than FEWEST_ROUNDS rounds tell none."""
    upper: float
    """One-sided upper bound; infinite in the same case."""
    degrees_of_freedom: float
    """0 in the same case."""
    round_cv: float | None
    """Standard deviation of a round's log ratio, trend and all else that both arms share aside; None likewise."""
    hl_ratio: float
    """Hodges-Lehmann estimate of the rounds."""
    hl_lower: float | None
    """Exact signed-rank bound of the same level; None where so few rounds have none (fewer than 5 at 95 %)."""
    hl_upper: float | None
    agree: bool
    """The cross-check supports what the interval says of the target: it says the same at twice the error."""
    rounds: list[RoundRatio]
    lost: list[int]
    """Rounds of which some arm has no run; they count for no baseline."""
    confidence: float
    """Of each bound. Where several looks were planned, that of one look."""
    says: Side
    """Where the interval lies: `above` (the lower bound reaches the target), `below` it, or `across`."""

    @property
    def vote(self) -> int:
        """1 for GO, -1 for NO-GO, 0 where interval or cross-check leave it open."""
        return {"above": 1, "below": -1, "across": 0}[self.says] if self.agree else 0


def complete_rounds(arms: Sequence[Sequence[RunValue]]) -> list[int]:
    """Return the numbers of the rounds of which every arm that has any run has one."""
    numbers = [{run.run for run in runs} for runs in arms if runs]
    return sorted(set.intersection(*numbers)) if numbers else []


def places_of(arms: Sequence[Sequence[RunValue]]) -> dict[tuple[str, int], int]:
    """Return every run's place in the order in which the runs began; where no time was kept, in that of the rounds."""
    order = sorted(
        (run for runs in arms for run in runs), key=lambda run: (run.start_utc, run.start_monotonic_s or 0.0, run.run)
    )
    return {(run.arm, run.run): place for place, run in enumerate(order)}


def compare(
    exo: Sequence[RunValue], baselines: Mapping[str, Sequence[RunValue]], target_ratio: float, error: float
) -> list[Comparison]:
    """Compare EXO's runs with every baseline's in the rounds that all of them have, the smallest ratio first.

    A baseline without any run is left out, and so are all where no round is complete.
    """
    present = {name: runs for name, runs in baselines.items() if runs}
    arms = [exo, *present.values()]
    numbers = complete_rounds(arms) if exo else []
    if not numbers:
        return []
    lost = sorted({run.run for runs in arms for run in runs} - set(numbers))
    places = places_of(arms)
    found = []
    for name, runs in present.items():
        pair = [{run.run: run for run in side} for side in (exo, runs)]
        logs = [np.array([side[number].log_rate for number in numbers]) for side in pair]
        at = np.array([[places[side[n].arm, n] for n in numbers] for side in pair], dtype=float)
        found.append(_comparison(name, numbers, lost, (logs[0], logs[1], at), target_ratio, error))
    return sorted(found, key=lambda comparison: (comparison.ratio, comparison.baseline))


def _comparison(
    name: str,
    numbers: list[int],
    lost: list[int],
    data: tuple[Array, Array, Array],
    target_ratio: float,
    error: float,
) -> Comparison:
    exo, ollama, places = data
    measured = exo - ollama
    if len(numbers) < FEWEST_ROUNDS:
        adjusted, mean, lower, upper, freedom = measured, measured.mean(), -math.inf, math.inf, 0.0
        round_cv = None
    else:
        adjusted, mean, lower, upper, freedom, standard_error = rounds.interval(exo, ollama, places, error)
        round_cv = float(standard_error) * math.sqrt(len(numbers))
    says = rounds.sides(np.asarray(lower), np.asarray(upper), target_ratio)
    middle, exact_lower, exact_upper = rounds.signed_rank(adjusted, error)
    bounded = bool(np.isfinite(exact_lower))
    agree = len(numbers) >= FEWEST_ROUNDS and bool(rounds.supported(adjusted, says, target_ratio, error))
    return Comparison(
        baseline=name,
        ratio=math.exp(mean),
        lower=math.exp(lower),
        upper=math.exp(upper),
        degrees_of_freedom=float(freedom),
        round_cv=round_cv,
        hl_ratio=math.exp(middle),
        hl_lower=math.exp(exact_lower) if bounded else None,
        hl_upper=math.exp(exact_upper) if bounded else None,
        agree=agree,
        rounds=[
            RoundRatio(number, math.exp(raw), math.exp(clean), bool(first))
            for number, raw, clean, first in zip(numbers, measured, adjusted, places[0] < places[1], strict=True)
        ],
        lost=lost,
        confidence=1 - error,
        says=SIDES[int(says)],
    )
