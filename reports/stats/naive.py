"""What rules that look only at point estimates would say. Printed beside the verdict, never voting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
import numpy as np

from records.samples import Sample
from records.settings import Limits
from reports.stats.runs import is_good, rate_tokens_per_s

PlanWord = Literal["SUCCESS", "PARTIAL", "FAIL", "-"]


class NaiveRule(msgspec.Struct, frozen=True):
    """One such rule: the ratio it looks at and the plan's word for it (`SUCCESS`, `PARTIAL`, `FAIL` or `-`)."""

    name: str
    ratio: float | None
    says: PlanWord
    note: str


RULES: tuple[tuple[str, Callable[..., Any], str], ...] = (
    (
        "best of EXO / best of Ollama",
        np.max,
        "the plan's own rule: compares two lucky requests, and says SUCCESS in half of all campaigns at exactly +30 %",
    ),
    (
        "mean of EXO / mean of the best Ollama",
        np.mean,
        "ignores how sure the two means are; one slow request moves it",
    ),
    (
        "median of EXO / median of the best Ollama",
        np.median,
        "ignores how sure the two medians are",
    ),
)


def plan_word(ratio: float | None, target_ratio: float) -> PlanWord:
    """Return the plan's word for a ratio: SUCCESS from the target on, PARTIAL above 1, else FAIL."""
    if ratio is None or math.isnan(ratio):
        return "-"
    if ratio >= target_ratio * (1 - 1e-12):
        return "SUCCESS"
    return "PARTIAL" if ratio > 1 else "FAIL"


def naive_rules(samples: Iterable[Sample], limits: Limits) -> list[NaiveRule]:
    """Apply each rule to the timed good requests' rates, requests of all runs thrown together as the plan does."""
    rates: dict[str, list[float]] = {}
    exo: list[float] = []
    for sample in samples:
        if is_good(sample) and (rate := rate_tokens_per_s(sample)):
            (exo if sample.engine == "exo" else rates.setdefault(sample.arm, [])).append(rate)
    rules = []
    for name, middle, note in RULES:
        ratio = (
            float(middle(sorted(exo)) / max(middle(sorted(values)) for values in rates.values()))
            if exo and rates
            else None
        )
        rules.append(NaiveRule(name, ratio, plan_word(ratio, limits.target_ratio), note))
    return rules
