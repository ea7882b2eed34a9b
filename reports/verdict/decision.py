"""Estimates + checks + limits -> the verdict. Pure; docs/methodology.md has the rule and its measured error rates.

The order of the questions: could EXO be brought up at all; has anything failed that makes the numbers worthless; is the
planned schedule complete; and only then what the numbers say. A verdict never comes from a schedule that is unfinished,
because stopping when it looks good is a decision of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from records.campaign import Campaign
from records.record import Record
from records.settings import Limits
from reports.checks.catalogue import check_all
from reports.checks.check import Check
from reports.checks.evidence import first_few, runs_of, schedule_samples, timed_by_arm, timed_with_lost
from reports.stats import sample_size
from reports.stats.comparison import Comparison
from reports.stats.naive import NaiveRule, PlanWord, naive_rules, plan_word
from reports.verdict import reasons
from reports.verdict.blocked import (
    after_silence,
    exo_never_answered,
    next_command,
    standing,
    undone_preparation,
    what_to_do,
    words_of_exo,
)
from reports.verdict.rule import Look, RateDecision, decide_looks, decide_rates
from reports.verdict.scale_up import without_unable

Verdict = Literal["GO", "NO-GO", "NO-GO (blocked)", "INCONCLUSIVE", "INVALID", "NOT YET"]
COUNTS_OF_FAILURE = {"errors", "complete", "baselines"}
"""Checks that fail as a consequence where EXO never answers; the others come first."""

VOID = {
    "INVALID": "INVALID: these numbers do not compare like with like",
    "NOT YET": "NOT YET: the planned schedule is not complete",
}
FEWEST_FRESH_ROUNDS = 5
"""Fewer are never advised: noise seen in four rounds is hardly known."""


class Decision(msgspec.Struct, frozen=True):
    """The verdict on one campaign with everything it rests on."""

    verdict: Verdict
    plan_word: PlanWord
    """The plan's word for the ratio against the best baseline, beside GO and NO-GO; `-` where the plan has none."""
    headline: str
    """One sentence that can stand alone."""
    because: list[str]
    """What decided, most important first; whole sentences."""
    comparisons: list[Comparison]
    """One a baseline, the smallest ratio first. Below a verdict of NOT YET or INVALID they are not evidence."""
    checks: list[Check]
    naive: list[NaiveRule]
    further_rounds: int | None
    """INCONCLUSIVE: rounds of a fresh campaign that would settle it at the noise seen; None where none would."""
    would_change: str
    """What would change this verdict, in one or two sentences."""
    blocked_step: int | None
    looks: list[Look]
    """The looks spent by `fab bench --until-decided`; empty for a fixed number of rounds."""
    limits: Limits

    @property
    def void(self) -> str:
        """Why its ratios are no evidence and must not be read as a result; empty where they are."""
        return VOID.get(self.verdict, "")


def decide(campaign: Campaign, step: int = 12) -> Decision:
    """Return the verdict on what `step` measured (12; 13 for the larger model). Same campaign, same verdict."""
    campaign = without_unable(campaign, step)
    checks = check_all(campaign, step)
    rates = _rates(campaign, step)
    base = Decision(
        verdict="NOT YET",
        plan_word="-",
        headline="",
        because=[],
        comparisons=rates.comparisons,
        checks=checks,
        naive=naive_rules(schedule_samples(campaign, step), campaign.limits),
        further_rounds=None,
        would_change="",
        blocked_step=None,
        looks=rates.looks,
        limits=campaign.limits,
    )
    fatal = [check for check in checks if check.status == "fatal"]
    if campaign.unreadable_step(step):
        return _not_yet(base, campaign, step)
    record = undone_preparation(campaign) if not timed_by_arm(campaign, step) and step == 12 else None
    if record is not None and (said := words_of_exo(record)):
        needed = "; ".join(dict.fromkeys(problem.needed for problem in record.errors)) or "the step done"
        return _blocked(base, record, said, needed)
    sent = timed_with_lost if fatal else timed_by_arm  # every run may have been lost, and that for good
    if not sent(campaign, step):
        return _not_yet(base, campaign, step)
    silence = exo_never_answered(campaign, step)
    if silence and not any(check.name not in COUNTS_OF_FAILURE for check in fatal):
        return _blocked(base, campaign.records[step], silence, "one good answer", after_silence(campaign))
    if fatal:
        return _invalid(base, fatal)
    if campaign.benchmark(step) is None or rates.verdict == "go on":
        return _not_yet(base, campaign, step)
    run_s = sample_size.seconds_per_run(schedule_samples(campaign, step))
    return _measured(base, rates, run_s * (1 + len(rates.comparisons)) if run_s is not None else None)


def _measured(base: Decision, rates: RateDecision, round_s: float | None) -> Decision:
    limits, comparisons = base.limits, rates.comparisons
    because = [reasons.per_baseline(c, limits) for c in comparisons]
    because += [reasons.looks_spent(rates.looks)] if rates.looks else []
    untold = [check for check in base.checks if check.status == "unknown" and check.essential]
    if rates.verdict == "GO" and not untold:
        return msgspec.structs.replace(
            base,
            verdict="GO",
            plan_word=plan_word(comparisons[0].ratio, limits.target_ratio),
            headline=reasons.go_headline(comparisons[0], limits),
            because=because,
            would_change=reasons.would_change_go(comparisons[0], limits),
        )
    if rates.verdict == "NO-GO":
        binding = next(c for c in comparisons if c.vote == -1)
        return msgspec.structs.replace(
            base,
            verdict="NO-GO",
            plan_word=plan_word(comparisons[0].ratio, limits.target_ratio),
            headline=reasons.no_go_headline(binding, limits),
            because=because,
            would_change=reasons.would_change_no_go(binding, limits),
        )
    if rates.verdict == "GO":
        names = ", ".join(check.name for check in untold)
        return msgspec.structs.replace(
            base,
            verdict="INCONCLUSIVE",
            headline=f"INCONCLUSIVE: the rates alone would say GO, but not everything they rest on is known: {names}.",
            because=[*(f"{check.name} is not known: {check.evidence}." for check in untold), *because],
            would_change=f"Getting to know {names} (unknown is not pass), then `fab bench` again.",
        )
    because = [reasons.disagreement(c, limits) for c in comparisons if not c.agree] + because
    further = None if rates.looks else _further_rounds(comparisons, limits)
    lasting = further * round_s if further is not None and round_s is not None else None
    return msgspec.structs.replace(
        base,
        verdict="INCONCLUSIVE",
        headline=reasons.open_headline(comparisons, limits),
        because=because,
        further_rounds=further,
        would_change=reasons.would_change_undecided_looks()
        if rates.looks
        else reasons.would_change_open(further, lasting, comparisons, limits),
    )


def _blocked(base: Decision, record: Record, said: str, needed: str, do: str = "") -> Decision:
    """Return that EXO could not do a step, with EXO's own words (`said`) in front."""
    found = f"EXO could not do step {record.step} ({record.name}): {said}"
    because = [f"{found}.", *([f"What was seen: {record.trouble}."] if record.errors else []), f"Needed: {needed}."]
    return msgspec.structs.replace(
        base,
        verdict="NO-GO (blocked)",
        headline=f"NO-GO (blocked): {found}",
        because=because,
        comparisons=[],
        would_change=f"Getting step {record.step} done: {do or what_to_do(record)}",
        blocked_step=record.step,
    )


def _invalid(base: Decision, fatal: Sequence[Check]) -> Decision:
    names = ", ".join(check.name for check in fatal)
    return msgspec.structs.replace(
        base,
        verdict="INVALID",
        headline=f"INVALID: these numbers do not compare like with like, so they decide nothing. Failed: {names}.",
        because=[f"{check.name}: {check.evidence}. {check.why}" for check in fatal],
        would_change=f"Mending what failed ({names}) and measuring again: `fab bench`.",
    )


def _not_yet(base: Decision, campaign: Campaign, step: int) -> Decision:
    stands = standing(campaign, step)
    because = [f"{stands[0].upper()}{stands[1:]}."]
    if base.looks:
        because.append(reasons.looks_spent(base.looks))
    if campaign.unreadable:
        because.append(f"Records that cannot be read: {first_few(entry.words for entry in campaign.unreadable)}.")
    if base.comparisons:
        because.append(
            "Ratios of an unfinished schedule are no evidence: stopping when it looks good decides by itself."
        )
    return msgspec.structs.replace(
        base,
        headline=f"NOT YET: {stands}.",
        because=because,
        would_change=f"Going on: {next_command(campaign, step)}",
    )


def _rates(campaign: Campaign, step: int) -> RateDecision:
    """Apply the rule, with the looks that the campaign was planned with."""
    exo, baselines = runs_of(campaign, step)
    benchmark = campaign.benchmark(step)
    if benchmark is not None and benchmark.until_decided:
        return decide_looks(exo, baselines, campaign.limits, benchmark.runs)
    return decide_rates(exo, baselines, campaign.limits)


def _further_rounds(comparisons: Sequence[Comparison], limits: Limits) -> int | None:
    needed = sample_size.rounds_to_settle(comparisons, limits)
    if needed is None or not comparisons:
        return None
    # It was not settled with the rounds that there were, whatever the formula says of the average campaign.
    return max(needed, FEWEST_FRESH_ROUNDS, len(comparisons[0].rounds) + 1)
