"""Step 13, the larger model, and the concurrency experiment: what they showed, in words and tables."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from records import plan
from records.campaign import Campaign
from records.samples import Sample
from reports.pages.results import arms_table, speedups
from reports.stats.arms import ArmEstimate
from reports.stats.runs import rate_tokens_per_s
from reports.stats.spread import Spread
from reports.text import format as fmt
from reports.text.table import Table, clip
from reports.verdict.decision import Decision


class ScaleUp(msgspec.Struct, frozen=True):
    """The section on the larger model."""

    title: str
    lines: list[str]
    arms: Table | None = None
    speedups: Table | None = None


def scale_up(campaign: Campaign, arms: list[ArmEstimate], decision: Decision | None) -> ScaleUp:
    """Return what became of step 13. Without a single-node baseline there is no ratio, and none is made up."""
    title = "Scale-up: the larger model (the plan's 32B)"
    record, skipped, unread = campaign.records.get(13), campaign.skipped(13), campaign.unreadable_step(13)
    if unread:
        return ScaleUp(title, [f"Step 13's record cannot be read: {clip(unread.words, cap=600)}"], arms_table(arms))
    if record is None:
        return ScaleUp(title, ["Step 13 (bench-scale-up) has not run."])
    if skipped:
        reason = skipped.reason or "no reason was recorded"
        return ScaleUp(title, [f"Skipped: {clip(reason, plan.step_numbered(13).record_name, cap=600)}"])
    if record.errors:
        return ScaleUp(title, [f"Step 13 {record.status}: {clip(record.trouble, cap=600)}"], arms_table(arms))
    benchmark = campaign.benchmark(13)
    model = clip(benchmark.exo_model or "", cap=80) if benchmark else "the larger model"
    exo = next((arm for arm in arms if arm.engine == "exo" and arm.rate_tokens_per_s is not None), None)
    single = [arm for arm in arms if arm.engine == "ollama" and arm.rate_tokens_per_s is not None]
    if exo and not single:
        tried = any(arm.engine == "ollama" for arm in arms)
        why = "finished a request with this model (what went wrong is below)" if tried else "could run this model"
        sentence = (
            f"No single node {why}, so there is no ratio and this is not a speed-up. EXO made it possible: {model} ran "
            f"over the cluster at {fmt.rate(exo.rate_tokens_per_s)} tokens per second in "
            f"{fmt.count(len(exo.runs), 'run')}."
        )
        return ScaleUp(title, [sentence], arms_table(arms))
    table = speedups(decision) if decision and exo else None
    if table and decision:
        lines = [f"{model}: {clip(decision.headline, cap=400)}", "It does not change the verdict above."]
        return ScaleUp(title, lines, arms_table(arms), table)
    return ScaleUp(title, ["Step 13 left no finished requests of both engines to compare."], arms_table(arms))


def spread_said(found: Spread | None, decision: Decision) -> str:
    """Return what spreading requests over the Ollamas gives, or the command that measures it where EXO fell short."""
    if found is not None:
        c = found.aggregate
        return (
            f"One request in flight on every Ollama at once: together {fmt.ratio(c.ratio)} the rate of the best alone "
            f"({clip(found.best_node, cap=60)}, {fmt.rate(found.best_rate_tokens_per_s)} tokens/s), in "
            f"{fmt.count(len(c.rounds), 'round')}. It needs several requests at a time; none becomes faster."
        )
    if decision.verdict in ("NO-GO", "NO-GO (blocked)", "INCONCLUSIVE"):
        return "What spreading requests over the Ollamas gives instead was not measured: `fab bench --spread` does."
    return ""


def spread_table(found: Spread | None) -> Table | None:
    """Tabulate the experiment with one request on every Ollama at once, each against the best node alone."""
    if found is None:
        return None
    rows = [
        [label, fmt.ratio(c.ratio), fmt.interval(c.lower, c.upper, 1.0), str(len(c.rounds))]
        for label, c in [
            ("all of them, together", found.aggregate),
            *((f"Ollama {clip(c.baseline, cap=60)}, while all answer", c) for c in found.each),
        ]
    ]
    return Table(["Rate", "Times the best node alone", "Bounds", "Rounds"], rows, [1, 3])


def concurrency_table(campaign: Campaign) -> Table | None:
    """Tabulate the separate experiment with several requests at once, where there was one."""
    groups: dict[tuple[str, str, int], list[Sample]] = {}
    alone: dict[tuple[str, str], set[str]] = {}
    for sample in campaign.concurrent:
        if sample.concurrency > 1:
            groups.setdefault((sample.arm, sample.engine, sample.concurrency), []).append(sample)
        elif sample.error is None and sample.text_sha256:
            alone.setdefault((sample.arm, sample.prompt_sha256), set()).add(sample.text_sha256)
    rows = []
    for (arm, engine, level), together in sorted(groups.items()):
        good = [s for s in together if rate_tokens_per_s(s) is not None]
        known = [s for s in good if (s.arm, s.prompt_sha256) in alone and s.text_sha256]
        differing = sum(s.text_sha256 not in alone[(s.arm, s.prompt_sha256)] for s in known)
        rows.append(
            [
                fmt.arm_label(arm, engine),
                str(level),
                str(len(together)),
                str(len(together) - len(good)),
                fmt.rate(_aggregate(good)),
                f"{differing} of {len(known)}" if known else fmt.UNKNOWN,
            ]
        )
    head = ["Arm", "At once", "Requests", "Failed", "Tokens/s, all together", "Texts unlike the single-stream text"]
    return Table(head, rows, [1, 2, 3, 4]) if rows else None


def _aggregate(good: Sequence[Sample]) -> float | None:
    """Return output tokens over the wall time from the first start to the last end, in tokens/s."""
    whole = [
        (s.start_monotonic_s, s.start_monotonic_s + s.total_s, s.output_tokens)
        for s in good
        if s.start_monotonic_s is not None and s.total_s is not None and s.output_tokens is not None
    ]
    if not whole or len(whole) < len(good):
        return None
    wall = max(end for _, end, _ in whole) - min(start for start, _, _ in whole)
    return sum(tokens for _, _, tokens in whole) / wall if wall > 0 else None
