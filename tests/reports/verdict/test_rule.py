"""The inner rule over rates alone, as a table of cases with their edges; no checks, no files."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.settings import Limits
from reports.verdict.rule import decide_rates
from tests.reports.stats.test_arms import runs

TIGHT = [-0.01, 0.01, 0.0, 0.005, -0.005, 0.002]


def rates_at(ratio: float, noise: list[float] = TIGHT) -> list[float]:
    """Make log rates around a ratio."""
    return [math.log(ratio) + x for x in noise]


@pytest.mark.parametrize(
    ("exo", "baselines", "says"),
    [
        (rates_at(1.5), {"a": TIGHT}, "GO"),
        (rates_at(1.5), {"a": TIGHT, "b": rates_at(0.5)}, "GO"),
        (rates_at(1.5), {"a": TIGHT, "b": rates_at(1.15)}, "INCONCLUSIVE"),
        (rates_at(1.5), {"a": TIGHT, "b": rates_at(1.3)}, "NO-GO"),
        (rates_at(1.2), {"a": TIGHT}, "NO-GO"),
        (rates_at(0.7), {"a": TIGHT}, "NO-GO"),
        (rates_at(1.3), {"a": TIGHT}, "INCONCLUSIVE"),
        (rates_at(2.0, [0.0, 0.01, 0.0]), {"a": [0.0, 0.01, 0.0]}, "INCONCLUSIVE"),
        (rates_at(2.0, [0.0]), {"a": [0.0]}, "INCONCLUSIVE"),
        (rates_at(2.0), {"a": []}, "INCONCLUSIVE"),
        (rates_at(2.0), {"a": TIGHT, "b": []}, "INCONCLUSIVE"),
        (rates_at(1.1), {"a": TIGHT, "b": []}, "NO-GO"),
        (rates_at(2.0), {}, "INCONCLUSIVE"),
        ([], {"a": TIGHT}, "INCONCLUSIVE"),
        (rates_at(1.3, [0.0] * 4), {"a": [0.0] * 4}, "GO"),
        (rates_at(1.2999, [0.0] * 4), {"a": [0.0] * 4}, "NO-GO"),
    ],
    ids=[
        "clear GO", "GO against both", "unsure against the better one", "no against the better one",
        "clear NO-GO", "slower", "on the line", "three rounds carry nothing", "one run", "a baseline without runs",
        "one of two without runs forbids GO", "but not NO-GO", "no baseline", "no EXO", "exactly the target, no noise",
        "just below it, no noise",
    ],
)  # fmt: skip
def test_the_rule(exo: list[float], baselines: dict[str, list[float]], says: str) -> None:
    """The inner rule over rates alone says what the table says."""
    found = decide_rates(runs(exo), {name: runs(values, name) for name, values in baselines.items()}, Limits())
    assert found.verdict == says
    assert [c.ratio for c in found.comparisons] == sorted(c.ratio for c in found.comparisons)


@pytest.mark.parametrize(("off", "says"), [(1e-9, "INCONCLUSIVE"), (0.0, "GO"), (-1e-9, "GO")])
def test_the_lower_bound_exactly_on_the_target_is_go(off: float, says: str) -> None:
    """GO is L >= target: equality counts, a billionth less does not."""
    exo, ollama = runs(rates_at(1.6)), runs(TIGHT, "a")
    bound = decide_rates(exo, {"a": ollama}, Limits()).comparisons[0].lower
    assert decide_rates(exo, {"a": ollama}, Limits(target_ratio=bound * (1 + off))).verdict == says


@pytest.mark.parametrize(("off", "says"), [(1e-9, "NO-GO"), (0.0, "INCONCLUSIVE"), (-1e-9, "INCONCLUSIVE")])
def test_the_upper_bound_exactly_on_the_target_is_open(off: float, says: str) -> None:
    """NO-GO is U < target: on the target it is not yet below."""
    exo, ollama = runs(rates_at(1.1)), runs(TIGHT, "a")
    bound = decide_rates(exo, {"a": ollama}, Limits()).comparisons[0].upper
    assert decide_rates(exo, {"a": ollama}, Limits(target_ratio=bound * (1 + off))).verdict == says


def test_where_the_methods_disagree_nothing_is_decided() -> None:
    """The t interval says GO where the ranks do not support it even at twice the error: INCONCLUSIVE, both shown."""
    chance = random.Random(5)
    for _ in range(20_000):
        exo = runs([math.log(1.40) + chance.gauss(0, 0.07) for _ in range(5)])
        ollama = runs([chance.gauss(0, 0.03) for _ in range(5)], "a")
        found = decide_rates(exo, {"a": ollama}, Limits())
        comparison = found.comparisons[0]
        if comparison.says == "above" and not comparison.agree:
            break
    else:
        pytest.fail("no such data found")
    assert found.verdict == "INCONCLUSIVE"
    assert comparison.lower >= 1.30
    assert comparison.hl_lower is not None
    assert comparison.hl_lower < 1.30


@settings(max_examples=60)
@given(st.floats(0.8, 1.8), st.floats(0.1, 50), st.integers(0, 1000))
def test_the_unit_of_the_rates_does_not_matter(ratio: float, unit: float, seed: int) -> None:
    """Tokens per second or per minute: the verdict is the same."""
    chance = random.Random(seed)
    exo, ollama = ([chance.gauss(level, 0.05) for _ in range(5)] for level in (math.log(ratio), 0.0))
    shift = math.log(unit)
    plain = decide_rates(runs(exo), {"a": runs(ollama, "a")}, Limits())
    scaled = decide_rates(runs([x + shift for x in exo]), {"a": runs([x + shift for x in ollama], "a")}, Limits())
    assert plain.verdict == scaled.verdict
    assert plain.comparisons[0].lower == pytest.approx(scaled.comparisons[0].lower, rel=1e-6)
