"""Estimates + checks + limits -> the verdict. Pure; the rule is docs/methodology.md."""

from __future__ import annotations

from typing import Literal

import msgspec

from reports.check import Check
from reports.limits import Limits
from reports.naive import NaiveRule
from reports.sequential import Look
from reports.stats import Comparison

Verdict = Literal["GO", "NO-GO", "NO-GO (blocked)", "INCONCLUSIVE", "INVALID", "NOT YET"]
PlanWord = Literal["SUCCESS", "PARTIAL", "FAIL", "-"]


class Decision(msgspec.Struct, frozen=True):
    """The verdict on one campaign with everything it rests on."""

    verdict: Verdict
    plan_word: PlanWord
    """The plan's word for the measured ratio against the best baseline; `-` where the plan has none."""
    headline: str
    """One sentence that can stand alone."""
    because: list[str]
    """What decided, most important first; whole sentences."""
    comparisons: list[Comparison]
    """One a baseline, the smallest ratio first. Below a verdict of NOT YET or INVALID they are not evidence."""
    checks: list[Check]
    naive: list[NaiveRule]
    further_runs: int | None
    """INCONCLUSIVE: runs a side of a fresh campaign that would settle it at the noise seen; None where none would."""
    would_change: str
    """What would change this verdict, in one or two sentences."""
    blocked_step: int | None
    looks: list[Look]
    """The looks spent by `fab bench --until-decided`; empty for a fixed number of runs."""
    limits: Limits
