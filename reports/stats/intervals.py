"""Intervals for the difference of two means of logs, made in two ways. Plain floats in, plain floats out.

Everything is one-sided at `confidence`: the lower bound alone is wrong with probability 1 - confidence, and so is the
upper bound alone. scipy has the t distribution; the exact ranks are counted here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

EXACT_UP_TO = 10_000
"""Products of the sample sizes up to which ranks are counted; beyond, the normal approximation is good to 1e-4."""


@cache
def _special() -> tuple[Callable[..., float], Callable[..., float]]:
    # scipy.special has the distributions for a third of the import time of scipy.stats, and only a report pays it.
    from scipy.special import ndtri, stdtrit

    return stdtrit, ndtri


def t_quantile(confidence: float, degrees_of_freedom: float) -> float:
    """Return Student's t quantile."""
    return float(_special()[0](degrees_of_freedom, confidence))


def mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the unbiased variance; the variance is NaN below two values."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, math.nan
    return mean, math.fsum((value - mean) ** 2 for value in values) / (n - 1)


def welch(a: Sequence[float], b: Sequence[float], confidence: float) -> tuple[float, float, float, float]:
    """Return mean(a) - mean(b), its lower and upper bound and the degrees of freedom.

    Welch's t with Satterthwaite's degrees of freedom (B. L. Welch, Biometrika 34, 1947). Below two values on either
    sample nothing bounds it: the bounds are infinite and the degrees of freedom 0. Without any variance in both
    the bounds are the difference itself.
    """
    mean_a, variance_a = mean_and_variance(a)
    mean_b, variance_b = mean_and_variance(b)
    difference = mean_a - mean_b
    if len(a) < 2 or len(b) < 2:
        return difference, -math.inf, math.inf, 0.0
    share_a, share_b = variance_a / len(a), variance_b / len(b)
    squared_error = share_a + share_b
    # Values that differ only by rounding have no variance to speak of; their squares would underflow below.
    if squared_error < 1e-24:
        return difference, difference, difference, float(len(a) + len(b) - 2)
    weight_a, weight_b = share_a / squared_error, share_b / squared_error
    freedom = 1.0 / (weight_a**2 / (len(a) - 1) + weight_b**2 / (len(b) - 1))
    reach = t_quantile(confidence, freedom) * math.sqrt(squared_error)
    return difference, difference - reach, difference + reach, freedom


def ordered_differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Return every a - b, ascending."""
    return sorted(x - y for x in a for y in b)


def median_of_sorted(values: Sequence[float]) -> float:
    """Return the median of a list that is sorted already."""
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def exact_bounds(differences: Sequence[float], n: int, m: int, confidence: float) -> tuple[float, float] | None:
    """Return the exact lower and upper bound of the shift, from the sorted differences of n and m values.

    The bounds of Moses that invert the Mann-Whitney test (Hollander, Wolfe, Chicken: Nonparametric Statistical
    Methods, 3rd ed., section 4.3). None where so few values have no interval of this level.
    """
    rank = bound_rank(n, m, confidence)
    return (differences[rank - 1], differences[-rank]) if rank else None


@cache
def bound_rank(n: int, m: int, confidence: float) -> int:
    """Return which of the sorted differences (from 1, from either end) is the bound; 0 where there is none.

    It is the number of values u with P(U <= u) <= 1 - confidence for the Mann-Whitney statistic U without ties.
    """
    error = 1.0 - confidence
    if n < 1 or m < 1:
        return 0
    if n * m > EXACT_UP_TO:
        spread = math.sqrt(n * m * (n + m + 1) / 12)
        return max(0, math.floor(n * m / 2 + _special()[1](error) * spread + 0.5))
    total = math.comb(n + m, n)
    reached = rank = 0
    for ways in _mann_whitney_counts(n, m):
        reached += ways
        if reached / total > error + 1e-12:
            break
        rank += 1
    return rank


def _mann_whitney_counts(n: int, m: int) -> list[int]:
    """Count the arrangements of n and m values for U = 0 up to its middle.

    They are the coefficients of the Gaussian binomial, the product over i of (1 - q^(m+i)) / (1 - q^i).
    """
    length = n * m // 2 + 1
    counts = [1] + [0] * (length - 1)
    for i in range(1, n + 1):
        for u in range(length - 1, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, length):
            counts[u] += counts[u - i]
    return counts
