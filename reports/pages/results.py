"""Decision and estimates -> the decision box and the tables of results, as words."""

from __future__ import annotations

import msgspec

from records.settings import Limits
from reports.checks.check import Check
from reports.stats.arms import ArmEstimate
from reports.stats.comparison import METHOD, Comparison
from reports.stats.summary import Summary
from reports.text import format as fmt
from reports.text.table import Table, clip
from reports.verdict.beside import MOST_TTFT_RATIO, Beside
from reports.verdict.decision import Decision

TONES = {"GO": "go", "NO-GO": "no", "NO-GO (blocked)": "no", "INVALID": "invalid"}
TITLES = {"GO": "GO", "NO-GO": "NO-GO", "NO-GO (blocked)": "NO-GO (blocked)", "NOT YET": "NOT YET: no verdict so far"}
RECOMMENDATIONS = {
    "GO": "GO: go on to Phase 2",
    "NO-GO": "NO-GO: do not go on to Phase 2 with this set-up",
    "NO-GO (blocked)": "NO-GO: a step of the plan could not be done",
    "INCONCLUSIVE": "none yet: what was measured does not settle it",
    "INVALID": "none: the numbers do not compare like with like",
    "NOT YET": "none yet: the campaign is not finished",
}
NO_EVIDENCE = "no evidence"
STATUS_ORDER = ("fatal", "warn", "unknown")
STATUS_WORDS = {"fatal": "FATAL", "warn": "warning", "unknown": "not known", "pass": "pass"}


class Box(msgspec.Struct, frozen=True):
    """What is read in ten seconds."""

    verdict: str
    tone: str
    """`go`, `no`, `open` or `invalid`: the colour where there is one."""
    headline: str
    recommendation: str
    """For Phase 2, in words: what the plan asks this document for."""
    lines: list[tuple[str, str]]
    context: str


def box(decision: Decision, context: str) -> Box:
    """Return the decision box: verdict, speed-up with its interval, the plan's word, what would change it."""
    target = decision.limits.target_ratio
    lines = [
        (
            f"Speed-up over Ollama {clip(c.baseline, cap=60)}",
            f"{fmt.ratio(c.ratio)} ({fmt.percent_faster(c.ratio)}), "
            f"between {fmt.interval(c.lower, c.upper, target, 'and')} ({bounds_said(decision)}); "
            f"target {target:.2f}×: {against_target(c)}",
        )
        for c in ([] if decision.void else decision.comparisons)
    ]
    if decision.void and decision.comparisons:
        lines.append(("Speed-up", f"not known. {decision.void}; the ratios below are no evidence of anything"))
    if decision.blocked_step is not None:
        lines.append(("Blocked at", f"step {decision.blocked_step}"))
    if decision.plan_word != "-":
        lines.append(("In the plan's word", clip(decision.plan_word, cap=200)))
    if decision.further_rounds is not None:
        lines.append(
            ("Rounds still needed", f"about {decision.further_rounds}, in a fresh campaign, at the noise seen")
        )
    if decision.would_change:
        lines.append(("What would change it", clip(decision.would_change, cap=500)))
    return Box(
        verdict=TITLES.get(decision.verdict, decision.verdict),
        tone=TONES.get(decision.verdict, "open"),
        headline=_headline(decision),
        recommendation=RECOMMENDATIONS[decision.verdict],
        lines=lines,
        context=context,
    )


def _headline(decision: Decision) -> str:
    """Return the headline without the verdict in front: it stands above it, larger."""
    sentence = clip(decision.headline.removeprefix(f"{decision.verdict}: "), cap=400)
    return sentence[:1].upper() + sentence[1:]


def bounds_said(decision: Decision) -> str:
    """Return how sure each bound is: alone, or with all looks together."""
    return fmt.both_bounds(decision.limits.confidence) + (" over all looks" if decision.looks else "")


def against_target(comparison: Comparison) -> str:
    """Return where the whole interval lies: at or above the target, below it, or across it."""
    return {"above": "reached", "below": "missed", "across": "open"}[comparison.says]


def speedups(decision: Decision) -> Table | None:
    """Tabulate every comparison with its bounds and its cross-check; where they are no evidence, each row says so."""
    comparisons, target = decision.comparisons, decision.limits.target_ratio
    if not comparisons:
        return None
    rows = [
        [
            f"Ollama {clip(c.baseline, cap=60)}",
            fmt.ratio(c.ratio),
            fmt.percent_faster(c.ratio),
            fmt.interval(c.lower, c.upper, target),
            NO_EVIDENCE if decision.void else against_target(c),
            f"{fmt.ratio(c.hl_ratio)} ({fmt.interval(c.hl_lower, c.hl_upper, target)})"
            if c.hl_lower is not None and c.hl_upper is not None
            else f"{fmt.ratio(c.hl_ratio)} (without exact bounds)",
            "yes" if c.agree else "NO",
            str(len(c.rounds)),
            fmt.listed([str(number) for number in c.lost]) or "none",
            fmt.fraction(c.round_cv),
        ]
        for c in comparisons
    ]
    head = [
        "EXO against", "Speed-up", "In per cent", "Bounds", f"Target {target:.2f}×",
        "Cross-check", "They agree", "Rounds", "Lost rounds", "Scatter of rounds",
    ]  # fmt: skip
    caption = (
        f"Bounds: {METHOD}. Cross-check: Hodges-Lehmann estimate with exact signed-rank bounds of the same rounds."
    )
    return Table(head, rows, [1, 2, 7, 9], caption)


def arms_table(arms: list[ArmEstimate]) -> Table | None:
    """Tabulate every arm: rate, scatter, latencies, lengths, failures."""
    if not arms:
        return None
    rows = [
        [
            fmt.arm_label(arm.arm, arm.engine),
            fmt.rate(arm.rate_tokens_per_s),
            fmt.fraction(arm.rate_cv),
            _median(arm.first_token_s),
            _median(arm.inter_token_s),
            fmt.duration(arm.inter_token_s.p99) if arm.inter_token_s else "",
            fmt.rate(arm.decode_tokens_per_s.median) if arm.decode_tokens_per_s else "",
            f"{arm.output_tokens.mean:.0f}" if arm.output_tokens else "",
            str(len(arm.runs)),
            str(arm.timed),
            str(arm.failed),
            str(arm.warmups),
        ]
        for arm in arms
    ]
    head = [
        "Arm", "Tokens/s", "Scatter of runs (CV)", "TTFT (first token), median", "ITL (between tokens), median",
        "ITL, p99", "Decode rate, tokens/s", "Tokens an answer", "Runs", "Timed requests", "Failed",
        "Warm-ups (discarded)",
    ]  # fmt: skip
    return Table(head, rows, list(range(1, 12)))


def checks_table(checks: list[Check], *, passed: bool) -> Table | None:
    """Tabulate the checks that passed, or all the others with the gravest first."""
    wanted = (
        [c for c in checks if c.status == "pass"]
        if passed
        else [c for status in STATUS_ORDER for c in checks if c.status == status]
    )
    if not wanted:
        return None
    rows = [[c.name, STATUS_WORDS[c.status], clip(c.evidence, cap=420), clip(c.why, cap=300)] for c in wanted]
    return Table(["Check", "Result", "Evidence", "Why it matters"], rows)


def checks_said(checks: list[Check]) -> str:
    """Count the checks by result in one sentence."""
    if not checks:
        return "No check has run: there is nothing to check yet."
    parts = [(status, sum(c.status == status for c in checks)) for status in ("pass", *STATUS_ORDER)]
    words = {"pass": "passed", "fatal": "fatal", "warn": "with a warning", "unknown": "not known (which is not a pass)"}
    return f"{fmt.count(len(checks), 'check')}: " + ", ".join(f"{n} {words[s]}" for s, n in parts if n) + "."


def beside_table(found: Beside | None) -> Table | None:
    """Tabulate what stands beside the verdict and never votes."""
    if found is None:
        return None
    best = f"Ollama {clip(found.best_node, cap=60)}"
    shares = (
        f"{'EXO' if arm == 'exo' else f'Ollama {clip(arm, cap=40)}'} {fmt.fraction(share)}"
        for arm, share in found.answered.items()
    )
    ttft = fmt.ratio(found.ttft_ratio)
    rows = [
        ["The best single node", f"{best}, {fmt.rate(found.best_rate_tokens_per_s)} tokens/s", ""],
        ["The owner's band", found.bands[0], "; or ".join(found.bands[1:]) and f"or {'; or '.join(found.bands[1:])}"],
        ["TTFT of EXO, times that of the best node", ttft, f"at most {MOST_TTFT_RATIO:g}× is asked"],
        ["Requests answered", "; ".join(shares), "of the timed ones, lost runs included"],
    ]
    return Table(["Beside the verdict, without a vote", "Found", "Remark"], rows)


def naive_table(decision: Decision, limits: Limits) -> Table | None:
    """Put what simpler rules say beside ours."""
    if not decision.naive:
        return None
    rows = [[r.name, fmt.ratio(r.ratio), r.says, clip(r.note, cap=300)] for r in decision.naive]
    ours = min(decision.comparisons, key=lambda c: c.ratio, default=None)
    rows.append(
        [
            "this report's rule",
            fmt.ratio(ours.ratio) if ours else fmt.UNKNOWN,
            decision.verdict,
            f"the whole {limits.confidence:.0%} bounds against {limits.target_ratio:.2f}×, for every baseline",
        ]
    )
    return Table(["Rule", "Speed-up", "Says", "Note"], rows, [1])


def _median(times_s: Summary | None) -> str:
    return fmt.duration(times_s.median) if times_s else ""
