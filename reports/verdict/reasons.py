"""The verdict in words: the headline, why, and what would change it. Numbers in, sentences out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from records.settings import Limits
from reports.stats.comparison import Comparison
from reports.stats.rounds import FEWEST_ROUNDS
from reports.text import format as fmt
from reports.verdict.rule import LOOKS, Look


def times(ratio: float, limits: Limits) -> str:
    """Return a ratio to two decimals, or as many as it takes not to be rounded onto the target."""
    return "any number of" if math.isinf(ratio) else fmt.bound(ratio, limits.target_ratio)


def go_headline(binding: Comparison, limits: Limits) -> str:
    """Return the headline of GO: the smallest ratio, which is the one against the best baseline."""
    return (
        f"GO: EXO on the cluster is {times(binding.ratio, limits)} times as fast as the best single-node Ollama "
        f"({binding.baseline}), at least {times(binding.lower, limits)} times with {limits.confidence:.0%} confidence; "
        f"{limits.target_ratio:.2f} was asked for."
    )


def no_go_headline(binding: Comparison, limits: Limits) -> str:
    """Return the headline of NO-GO: the baseline that EXO does not beat by enough."""
    return (
        f"NO-GO: EXO on the cluster is {times(binding.ratio, limits)} times as fast as the single-node Ollama on "
        f"{binding.baseline}, at most {times(binding.upper, limits)} times with {limits.confidence:.0%} confidence; "
        f"{limits.target_ratio:.2f} was asked for."
    )


def open_headline(comparisons: Sequence[Comparison], limits: Limits) -> str:
    """Return the headline of INCONCLUSIVE: the smallest ratio and its interval."""
    if not comparisons:
        return "INCONCLUSIVE: there is no ratio of EXO to a single-node Ollama to decide by."
    binding, target = comparisons[0], f"{limits.target_ratio:.2f}"
    if binding.degrees_of_freedom == 0:
        return (
            f"INCONCLUSIVE: {fmt.count(len(binding.rounds), 'round')} of EXO and Ollama ({binding.baseline}) carry "
            f"neither GO nor NO-GO, {FEWEST_ROUNDS} do; the ratio {times(binding.ratio, limits)} alone decides nothing."
        )
    settles = (
        f"that does not settle whether it reaches {target}"
        if all(c.agree for c in comparisons)
        else f"the exact cross-check does not confirm what that says about {target}"
    )
    return (
        f"INCONCLUSIVE: EXO on the cluster is {times(binding.ratio, limits)} times as fast as the single-node Ollama "
        f"on {binding.baseline}, between {between(binding.lower, binding.upper, limits)} "
        f"({fmt.both_bounds(binding.confidence)}); {settles}."
    )


def per_baseline(comparison: Comparison, limits: Limits) -> str:
    """Return what one comparison shows, cross-check included."""
    sentence = f"Against {comparison.baseline}: {times(comparison.ratio, limits)}"
    if comparison.degrees_of_freedom == 0:
        return f"{sentence}, and no interval from {fmt.count(len(comparison.rounds), 'round')}."
    where = {"above": "reaches", "below": "misses", "across": "straddles"}[comparison.says]
    lost = f"; lost: round {fmt.listed([str(n) for n in comparison.lost])}" if comparison.lost else ""
    return (
        f"{sentence}, interval between {between(comparison.lower, comparison.upper, limits)} {where} the target "
        f"{limits.target_ratio:.2f} (exact interval {exact(comparison, limits)}; "
        f"{fmt.count(len(comparison.rounds), 'round')}{lost})."
    )


def disagreement(comparison: Comparison, limits: Limits) -> str:
    """Return that the cross-check does not support what the t interval says."""
    if len(comparison.rounds) < FEWEST_ROUNDS:
        rounds = fmt.count(len(comparison.rounds), "round")
        return f"Against {comparison.baseline} {rounds} can confirm nothing: {FEWEST_ROUNDS} are the fewest."
    t = between(comparison.lower, comparison.upper, limits)
    return (
        f"Against {comparison.baseline} the two methods disagree: t interval {t}, "
        f"signed-rank {exact(comparison, limits)}."
    )


def between(lower: float, upper: float, limits: Limits) -> str:
    """Return an interval in words."""
    return f"{times(lower, limits)} and {times(upper, limits)}"


def exact(comparison: Comparison, limits: Limits) -> str:
    """Return the cross-check's interval in words."""
    if comparison.hl_lower is None or comparison.hl_upper is None:
        return "none at so few rounds"
    return between(comparison.hl_lower, comparison.hl_upper, limits)


def looks_spent(looks: Sequence[Look]) -> str:
    """Return which looks were taken and what each decided."""
    each = (f"after {k.rounds} rounds {k.ratio:.3f} ({k.lower:.3f} to {k.upper:.3f}): {k.decision}" for k in looks)
    return f"Looks spent: {'; '.join(each)}."


def would_change_go(binding: Comparison, limits: Limits) -> str:
    """Return how far a GO is from falling."""
    slack = binding.lower / limits.target_ratio - 1
    return (
        f"The lower bound would have to fall by {slack / (1 + slack):.1%}: a fresh campaign with a slower EXO or a "
        f"faster Ollama than {binding.baseline}'s, or a validity check that fails."
    )


def would_change_no_go(binding: Comparison, limits: Limits) -> str:
    """Return how far a NO-GO is from a GO."""
    return (
        f"EXO would have to become {limits.target_ratio / binding.ratio - 1:.0%} faster than measured to reach "
        f"{limits.target_ratio:.2f} against {binding.baseline} (even at the upper bound "
        f"{limits.target_ratio / binding.upper - 1:.1%} are missing); more runs of the same will not do it."
    )


def would_change_open(
    further_rounds: int | None, seconds: float | None, comparisons: Sequence[Comparison], limits: Limits
) -> str:
    """Return how to settle it and how long that takes (`seconds`, where known).

    Runs added to these after looking at the result would cost error, so it is a fresh campaign.
    """
    if further_rounds is not None:
        lasting = f", {fmt.about(seconds)}" if seconds is not None else ""
        return (
            f"A fresh campaign of {further_rounds} rounds should settle it at the noise seen "
            f"(`fab bench --runs {further_rounds}`{lasting}), or `fab bench --until-decided`. Rounds added to these "
            "after a look at the result would raise the error."
        )
    if any(c.degrees_of_freedom == 0 for c in comparisons):
        return f"At least {FEWEST_ROUNDS} rounds, better 6: `fab bench --runs 6`."
    return (
        f"No affordable number of rounds would settle it: at the noise seen the speed-up is too close to "
        f"{limits.target_ratio:.2f}. Less noise between rounds would (see the checks), or another target."
    )


def would_change_undecided_looks() -> str:
    """Return what is left to do after the last look."""
    return (
        f"{LOOKS[-1]} rounds did not settle it: the speed-up is close to the target or the rounds are noisy. A fresh "
        "campaign with a fixed, larger number of rounds would tell more."
    )
