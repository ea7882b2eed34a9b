"""The ratio of two arms, round by round: a round is one run of every arm, and gives one log ratio.

A trend that both arms share (a machine that warms up, a battery that empties) is taken out first: a parabola over the
places of the runs in the campaign, fitted to both arms at once. What is left are rounds that do not depend on when they
were run; their mean has a t interval, and the exact Wilcoxon signed-rank bounds stand beside it.

Everything is one-sided at `error` and made of arrays whose last axis is the rounds; a campaign has no other axis, a
simulation (benchmarks.verdict_error_rates) has one for its campaigns. docs/decisions/0017 has the other models that
were tried, with their figures.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Array = npt.NDArray[np.float64]

FEWEST_ROUNDS = 4
"""Fewer have no signed-rank bound even at twice an error of 5 %, and leave the trend nothing to be told from noise."""
TREND_DEGREE = 2
SUPPORT_FACTOR = 2.0
"""The cross-check supports what the t interval says when it says the same at this many times the error. At the same
error both would have to clear the line, which costs power and lowers an error that is already what was asked for."""
ROUNDING = 1e-12
"""Of a log ratio: a bound this close to the target is on it."""
NO_VARIANCE = 1e-24


class Interval(NamedTuple):
    """A mean log ratio with its bounds; arrays without the axis of the rounds, but for `log_ratios`."""

    log_ratios: Array
    """Of every round, the common trend taken out."""
    mean: Array
    lower: Array
    upper: Array
    freedom: Array
    standard_error: Array
    """Of the mean."""


def interval(exo: Array, ollama: Array, places: Array, error: float) -> Interval:
    """Return the t interval of the mean of log EXO / Ollama.

    `exo` and `ollama` are the log rates of the runs, `places` (2 by rounds) their places in the campaign's order. The
    arms may scatter differently: each has a variance of its own, and Satterthwaite's degrees of freedom. Raises
    ValueError below FEWEST_ROUNDS rounds.
    """
    rounds = exo.shape[-1]
    if rounds < FEWEST_ROUNDS:
        raise ValueError(f"{rounds} rounds have no interval; {FEWEST_ROUNDS} do")
    design, solve, left = _trend(tuple(places[0].tolist()), tuple(places[1].tolist()))
    both = np.concatenate([exo, ollama], axis=-1)
    coefficients = both @ solve.T
    rest = (both - coefficients @ design.T) ** 2
    trend = coefficients[..., 2:] @ design[:, 2:].T
    log_ratios = exo - ollama - (trend[..., :rounds] - trend[..., rounds:])
    weight = (solve[0] - solve[1]) ** 2
    # Squared standard errors: an arm's residual variance times what its runs weigh in the difference.
    of_exo = rest[..., :rounds].sum(-1) / left[:rounds].sum() * weight[:rounds].sum()
    of_ollama = rest[..., rounds:].sum(-1) / left[rounds:].sum() * weight[rounds:].sum()
    squared = of_exo + of_ollama
    # Values that differ only by rounding have no variance to speak of; its square would underflow.
    varies = squared >= NO_VARIANCE
    both_squared = np.where(varies, of_exo**2 + of_ollama**2, 1.0)
    freedom = np.where(varies, squared**2 / both_squared, 2.0) * (rounds - design.shape[1] / 2)
    standard_error = np.where(varies, np.sqrt(squared), 0.0)
    mean, reach = log_ratios.mean(-1), stdtrit(freedom, 1 - error) * standard_error
    return Interval(log_ratios, mean, mean - reach, mean + reach, freedom, standard_error)


@cache
def _trend(exo_places: tuple[float, ...], ollama_places: tuple[float, ...]) -> tuple[Array, Array, Array]:
    """Return the design (a level an arm, then the trend), its pseudo-inverse, and the share of each run left to noise.

    Without two levels of its own the trend could pass for a difference of the arms.
    """
    rounds = len(exo_places)
    places = np.array([*exo_places, *ollama_places])
    scaled = (places - places.mean()) / max(1.0, float(np.ptp(places)))
    level = np.repeat([1.0, 0.0], rounds)
    design = np.column_stack([level, 1 - level, *(scaled**power for power in range(1, TREND_DEGREE + 1))])
    solve = np.linalg.pinv(design)
    return design, solve, 1 - np.einsum("ij,ji->i", design, solve)


def signed_rank(log_ratios: Array, error: float) -> tuple[Array, Array, Array]:
    """Return the Hodges-Lehmann estimate and the exact signed-rank bounds; infinite where so few rounds have none.

    Of the sorted Walsh averages (the means of all pairs of rounds) the bound is the one at `rank` from either end
    (Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, 3rd ed., section 3.3).
    """
    first, second = np.triu_indices(log_ratios.shape[-1])
    walsh = (log_ratios[..., first] + log_ratios[..., second]) / 2
    rank, last = _rank(log_ratios.shape[-1], error), walsh.shape[-1] - 1
    walsh.partition(sorted({max(rank - 1, 0), last // 2, (last + 1) // 2, min(last - rank + 1, last)}), axis=-1)
    nothing = np.full(log_ratios.shape[:-1], np.inf)
    lower, upper = (walsh[..., rank - 1], walsh[..., -rank]) if rank else (-nothing, nothing)
    return (walsh[..., last // 2] + walsh[..., (last + 1) // 2]) / 2, lower, upper


@cache
def _rank(rounds: int, error: float) -> int:
    """Return how many values w of the signed-rank statistic have P(W <= w) <= error; the coefficients are its law."""
    ways = np.ones(1)
    for number in range(1, rounds + 1):
        ways = np.convolve(ways, [1.0, *[0.0] * (number - 1), 1.0])
    return int((np.cumsum(ways) / 2.0**rounds <= error + 1e-12).sum())


def sides(lower: Array, upper: Array, target_ratio: float) -> Array:
    """Return on which side of the target an interval of log ratios lies: 1 above or on it, -1 below, 0 across."""
    line = np.log(target_ratio)
    return np.where(lower >= line - ROUNDING, 1.0, np.where(upper < line - ROUNDING, -1.0, 0.0))


def supported(log_ratios: Array, says: Array, target_ratio: float, error: float) -> npt.NDArray[np.bool_]:
    """Tell whether the cross-check says the same at SUPPORT_FACTOR times the error, where a side is said at all."""
    _, lower, upper = signed_rank(log_ratios, min(0.5, SUPPORT_FACTOR * error))
    return (says == 0) | (sides(lower, upper, target_ratio) == says)


def votes(exo: Array, ollama: Array, places: Array, target_ratio: float, error: float) -> Array:
    """Return what one baseline says: 1 for GO, -1 for NO-GO, 0 where interval or cross-check leave it open."""
    found = interval(exo, ollama, places, error)
    says = np.array(sides(found.lower, found.upper, target_ratio))
    said = says != 0  # nothing else needs support
    says[said] *= supported(found.log_ratios[said], says[said], target_ratio, error)
    return says


def order_effect(log_ratios: Array, places: Array) -> tuple[Array, Array]:
    """Return by how much a round's log ratio is higher where EXO ran first, and Student's t of it (rounds - 2 freedom).

    A trend of both arms has no part in it: what is left is that one arm's run changes the next one's.
    """
    first = places[0] < places[1]
    some, others = log_ratios[..., first], log_ratios[..., ~first]
    effect = some.mean(-1) - others.mean(-1)
    squares = some.var(-1) * some.shape[-1] + others.var(-1) * others.shape[-1]
    variance = squares / (log_ratios.shape[-1] - 2) * (1 / some.shape[-1] + 1 / others.shape[-1])
    return effect, effect / np.sqrt(np.maximum(variance, NO_VARIANCE))
