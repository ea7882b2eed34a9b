"""`fab compare OLD NEW`: two campaigns side by side, to see whether a new release or a new cable helped.

An arm of one campaign shares no round with the other, so its rates are two heaps of runs and get Welch's t; what can be
had by rounds, EXO over an Ollama, is compared by rounds: the day's own speed falls out of it. An arm's difference may
also be the day's; the text says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from records import plan
from records.campaign import Campaign, load_campaign
from records.settings import Limits
from reports.stats.rounds import NO_VARIANCE
from reports.text import format as fmt
from reports.text.escape import markdown
from reports.text.table import Table, clip
from reports.verdict.decision import Decision, decide
from reports.verdict.estimates import Estimates, estimates_of


class NoCampaignError(Exception):
    """A folder holds no campaign; the message says which, what was found and what to give instead."""


def compare_campaigns(old: Path, new: Path) -> str:
    """Return both campaigns side by side as Markdown that also reads well as plain text.

    Each path is a campaign's folder (`logs/PROFILE`, `logs/archive/...`) or a folder that holds exactly one. Raises
    NoCampaignError.
    """
    before, after = (load_campaign(campaign_folder(path)) for path in (old, new))
    decisions = decide(before, 12), decide(after, 12)
    estimates = estimates_of(before), estimates_of(after)
    changes = _changes(estimates, decisions, after.limits)
    parts = [
        "# Two campaigns side by side",
        *_banners(before, after),
        _table(_heads(before, after, decisions)),
        "## New over old",
        *([_table(changes)] if changes else ["No arm was measured in both: there is nothing to compare."]),
        *_caveats(before, after),
        "## What changed around it",
        _table(_conditions(before, after)),
    ]
    return "\n\n".join(parts) + "\n"


def campaign_folder(path: Path) -> Path:
    """Return the folder of the one campaign at `path`. Raises NoCampaignError."""
    if not path.is_dir():
        raise NoCampaignError(f"{path}: there is no such folder; give a campaign's, logs/PROFILE for one")
    names = {name for step in plan.STEPS for name in (step.record_name, step.samples_name)}
    holds: Callable[[Path], bool] = lambda folder: any((folder / name).is_file() for name in names)  # noqa: E731
    if holds(path):
        return path
    inside = sorted(folder for folder in path.iterdir() if folder.is_dir() and holds(folder))
    if len(inside) == 1:
        return inside[0]
    holding = f"{len(inside)} campaigns ({', '.join(folder.name for folder in inside)})" if inside else "no record"
    raise NoCampaignError(f"{path}: holds {holding}; give the folder of one campaign, logs/PROFILE for one")


class Change(msgspec.Struct, frozen=True):
    """New over old, with a two-sided interval."""

    ratio: float
    lower: float
    upper: float

    @property
    def words(self) -> str:
        """Whether new differs from old: an interval that holds 1 is no difference."""
        if self.lower > 1:
            return "faster"
        return "slower" if self.upper < 1 else "no significant difference"


def change_of(before: Sequence[float], after: Sequence[float], confidence: float) -> Change:
    """Return the ratio of two heaps of log values (at least one each) by Welch's t; unbounded below two values."""
    from scipy.stats import ttest_ind

    ratio = math.exp(statistics.fmean(after) - statistics.fmean(before))
    if min(len(before), len(after)) < 2:
        return Change(ratio, 0.0, math.inf)
    if max(statistics.pvariance(before), statistics.pvariance(after)) < NO_VARIANCE:
        return Change(ratio, ratio, ratio)
    bounds = ttest_ind(after, before, equal_var=False).confidence_interval(confidence)
    return Change(ratio, math.exp(bounds.low), math.exp(bounds.high))


def _changes(
    estimates: tuple[Estimates, Estimates], decisions: tuple[Decision, Decision], limits: Limits
) -> Table | None:
    rows = []
    old, new = ({c.baseline: c for c in decision.comparisons} for decision in decisions)
    for name in (name for name in old if name in new):
        logs = [[math.log(round_.ratio) for round_ in side[name].rounds] for side in (old, new)]
        label = f"EXO over Ollama {clip(name, cap=40)}"
        shown = [fmt.ratio(side[name].ratio) for side in (old, new)]
        rows.append(_row("12", label, shown, logs, limits, "rounds"))
    for step in (12, 11, 13):
        before, after = ({arm.arm: arm for arm in e.arms.get(step, [])} for e in estimates)
        for name in (name for name in before if name in after and before[name].runs and after[name].runs):
            logs = [[run.log_rate for run in side[name].runs] for side in (before, after)]
            label = fmt.arm_label(name, after[name].engine)
            shown = [f"{fmt.rate(side[name].rate_tokens_per_s)} tok/s" for side in (before, after)]
            rows.append(_row(f"{step}", label, shown, logs, limits, "runs"))
    interval = f"{limits.confidence:.0%} interval (two-sided)"
    head = ["Step", "Arm", "Old", "New", "New / old", interval, "Of", "So"]
    return Table(head, rows, [2, 3, 4]) if rows else None


def _row(
    step: str, label: str, shown: Sequence[str], logs: Sequence[Sequence[float]], limits: Limits, of: str
) -> list[str]:
    change = change_of(logs[0], logs[1], limits.confidence)
    counts = f"{len(logs[0])} / {len(logs[1])} {of}"
    interval = fmt.interval(change.lower, change.upper, 1.0)
    return [step, label, *shown, fmt.ratio(change.ratio), interval, counts, change.words]


def _heads(old: Campaign, new: Campaign, decisions: tuple[Decision, Decision]) -> Table:
    rows = [
        ["Profile", *(clip(c.profile, cap=60) for c in (old, new))],
        ["Measured", *(_when(c) for c in (old, new))],
        ["Verdict", *(d.verdict for d in decisions)],
    ]
    for baseline in sorted({c.baseline for d in decisions for c in d.comparisons}):
        comparisons = [next((c for c in d.comparisons if c.baseline == baseline), None) for d in decisions]
        cells = [f"{fmt.ratio(c.ratio)} ({fmt.interval(c.lower, c.upper)})" if c else "" for c in comparisons]
        rows.append([f"EXO over Ollama {clip(baseline, cap=60)}", *cells])
    return Table(["", "Old", "New"], rows)


def _conditions(old: Campaign, new: Campaign) -> Table:
    before, after = _setup(old), _setup(new)
    labels = [*before, *(label for label in after if label not in before)]
    rows = [
        [label, before.get(label, ""), after.get(label, "")]
        for label in labels
        if before.get(label, "") != after.get(label, "")
    ]
    return Table(["", "Old", "New"], rows or [["Nothing that the records tell", "", ""]])


def _setup(campaign: Campaign) -> dict[str, str]:
    """Return what may explain a difference, by a label."""
    setup: dict[str, str] = {}
    for node, installed in campaign.installed.items():
        setup[f"EXO on {node}"] = clip(f"{installed.release}, {installed.revision}", cap=100)
        packages = ", ".join(f"{name} {version}" for name, version in sorted(installed.packages.items()))
        setup[f"Packages on {node}"] = clip(packages, cap=160)
    for node, started in campaign.started.items():
        setup[f"Device on {node}"] = clip(started.device, cap=100)
    if campaign.preflight:
        for arm, server in campaign.preflight.ollama.items():
            setup[f"Ollama {clip(arm, cap=40)}"] = clip(server.version or "", cap=60)
        for node, network in campaign.preflight.network.items():
            setup[f"Network of {clip(node, cap=40)}"] = clip(network, cap=80)
    benchmark = campaign.benchmark(12)
    if benchmark:
        setup["EXO's model"] = clip(f"{benchmark.exo_model} ({benchmark.exo_precision})", cap=120)
        setup["Ollama's model"] = clip(benchmark.ollama_model, cap=120)
        setup["Output tokens"] = str(benchmark.max_tokens)
        setup["Seed"] = str(benchmark.seed)
    return setup


def _caveats(old: Campaign, new: Campaign) -> list[str]:
    caveats = [
        "The two were not measured in turn, so a difference may also be the day's. An arm that nothing was changed "
        "on (an Ollama, say) shows how much that is."
    ]
    models = [{s.model_asked for s in c.samples.get(12, []) if s.engine == "exo"} for c in (old, new)]
    if models[0] != models[1] and all(models):
        caveats.append("**The two ran different models on EXO: the ratio compares the models as well.**")
    return caveats


def _banners(old: Campaign, new: Campaign) -> list[str]:
    rehearsed = [name for name, c in (("old", old), ("new", new)) if any(r.rehearsal for r in c.records.values())]
    return [f"> **REHEARSAL: the {fmt.listed(rehearsed)} one is not about your machines.**"] if rehearsed else []


def _when(campaign: Campaign) -> str:
    record = campaign.records.get(12)
    return fmt.moment(clip(record.started_utc, cap=40)) if record else "step 12 has not run"


def _table(table: Table) -> str:
    """Lay a table out as Markdown whose columns also line up in a terminal."""
    cells = [[markdown(cell) for cell in row] for row in [table.head, *table.rows]]
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(table.head))]
    rule = [("-" * (w - 1) + ":") if place in table.numeric else "-" * w for place, w in enumerate(widths)]
    lines = []
    for row in [cells[0], rule, *cells[1:]]:
        padded = [
            cell.rjust(width) if place in table.numeric else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    return "\n".join(lines)
