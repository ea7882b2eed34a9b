"""The rule for `fab bench --until-decided`: paired t on log ratios with three looks."""

from __future__ import annotations

from typing import Literal

import msgspec

LookDecision = Literal["GO", "NO-GO", "go on", "INCONCLUSIVE"]


class Look(msgspec.Struct, frozen=True):
    """One look at the pairs so far. With several baselines `t` is the smallest, which decides for GO."""

    pairs: int
    t: float
    decision: LookDecision
    bound: float = 0.0
    """GO needs every t at or above it, NO-GO some t at or below its negative."""
    t_by_baseline: dict[str, float] = {}
