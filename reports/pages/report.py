"""Campaign and decision -> everything the templates show, as words and tables. Templates loop and never count."""

from __future__ import annotations

import msgspec

from records import plan
from records.campaign import Campaign
from reports.pages.conditions import conditions_table
from reports.pages.course import DeviationView, Trouble, deviations, raw_files, steps_table, trouble
from reports.pages.methods import limits_said, methods_said
from reports.pages.nodes import ClusterView, EnvironmentView, cluster_view, environment_view
from reports.pages.power import power_table
from reports.pages.results import Box, arms_table, beside_table, box, checks_said, checks_table, naive_table, speedups
from reports.pages.scale_up import ScaleUp, concurrency_table, scale_up, spread_said, spread_table
from reports.pages.token_time import TimeView, time_view
from reports.plan_text import NAMES as PLAN_FILES
from reports.stats.arms import ArmEstimate
from reports.text import format as fmt
from reports.text.table import Table, clip
from reports.verdict.decision import Decision
from reports.verdict.estimates import Estimates


class ReportCommands(msgspec.Struct, frozen=True):
    """What a reader types to repeat the campaign and to render it again; empty: made from the records."""

    reproduce: list[str] = []
    render_again: list[str] = []


class View(msgspec.Struct, frozen=True):
    """The whole report."""

    title: str
    banner: str
    box: Box
    because: list[str]
    beside: Table | None
    checks_said: str
    checks: Table | None
    passed_said: str
    passed: Table | None
    time: TimeView
    speedups_title: str
    speedups: Table | None
    no_ratio: str
    arms: Table | None
    naive_said: str
    naive: Table | None
    baseline: Table | None
    concurrency: Table | None
    spread_said: str
    spread: Table | None
    scale_up: ScaleUp
    cluster: ClusterView
    trouble: Trouble
    nothing_wrong: bool
    deviations: list[DeviationView]
    steps: Table
    environment: EnvironmentView
    conditions: Table | None
    power: Table | None
    methods: list[str]
    limits: list[str]
    profiles: Table | None
    raw: Table | None
    plan_files: list[str]
    reproduce: str
    render_again: str


def build_view(
    campaign: Campaign,
    decision: Decision,
    estimates: Estimates,
    commands: ReportCommands,
    profiles: Table | None,
) -> View:
    """Put every part of the report into words."""
    arms = estimates.arms.get(12, [])
    met = trouble(campaign)
    passed = checks_table(decision.checks, passed=True)
    return View(
        title="EXO Phase 1: results",
        banner=rehearsal_banner(campaign),
        box=box(decision, _context(campaign)),
        because=[clip(reason, cap=600) for reason in decision.because] or ["Nothing has been measured yet."],
        beside=beside_table(estimates.beside),
        checks_said=checks_said(decision.checks),
        checks=checks_table(decision.checks, passed=False),
        passed_said=f"{fmt.count(len(passed.rows), 'check')} passed: with evidence" if passed else "",
        passed=passed,
        time=time_view(
            arms or estimates.arms.get(11, []),
            estimates.pipeline,
            campaign.limits.target_ratio,
            rehearsed=any(record.rehearsal is not None for record in campaign.records.values()),
        ),
        speedups_title=f"Ratios that are no evidence ({decision.verdict})" if decision.void else "Speed-up achieved",
        speedups=speedups(decision),
        no_ratio=_no_ratio(campaign, arms),
        arms=arms_table(arms),
        naive_said="They look at point estimates only and are shown for comparison; none of them votes.",
        naive=naive_table(decision, campaign.limits),
        baseline=arms_table(estimates.arms.get(11, [])),
        concurrency=concurrency_table(campaign),
        spread_said=spread_said(estimates.spread, decision),
        spread=spread_table(estimates.spread),
        scale_up=scale_up(campaign, estimates.arms.get(13, []), estimates.large),
        cluster=cluster_view(campaign),
        trouble=met,
        nothing_wrong=not (met.problems or met.warnings or met.failed_requests or met.unreadable),
        deviations=deviations(campaign.records),
        steps=steps_table(campaign),
        environment=environment_view(campaign),
        conditions=conditions_table(campaign),
        power=power_table(campaign, estimates.arms),
        methods=methods_said(campaign),
        limits=limits_said(campaign),
        profiles=profiles,
        raw=raw_files(campaign.hashes, f"logs/{clip(campaign.profile, cap=60)}"),
        plan_files=list(PLAN_FILES.values()),
        reproduce="\n".join(commands.reproduce or _reproduce(campaign)),
        render_again="\n".join(commands.render_again or _render_again(campaign)),
    )


def rehearsal_banner(campaign: Campaign) -> str:
    """Return the banner that no reader can miss where any record came from the rehearsal, else an empty text."""
    marked = next((r.rehearsal for _, r in sorted(campaign.records.items()) if r.rehearsal is not None), None)
    if marked is None:
        return ""
    speedup = marked.get("speedup")
    true = f"{speedup:g}" if isinstance(speedup, int | float) else "unknown"
    trap = marked.get("trap")
    also = f", with the trap {clip(str(trap), cap=60)}" if trap else ""
    return f"REHEARSAL — true speed-up {true} was set by hand{also}; nothing here is about your machines"


def _context(campaign: Campaign) -> str:
    """Return in one line whose campaign this is: profile, models, when, how far it came."""
    profile = campaign.settings.profile
    title = f" ({clip(profile.title, cap=160)})" if profile and profile.title else ""
    parts = [f"Profile {clip(campaign.profile, cap=60)}{title}"]
    times = sorted(r.started_utc for r in campaign.records.values())
    if times:
        first, last = fmt.moment(clip(times[0], cap=40)), fmt.moment(clip(times[-1], cap=40))
        parts.append(f"steps run from {first} to {last}" if first != last else f"run on {first}")
    done = sum(map(campaign.done, campaign.records))
    parts.append(f"{done} of the {len(plan.STEPS) - 1} steps beside this report are done")
    return "; ".join(parts) + "."


def _no_ratio(campaign: Campaign, arms: list[ArmEstimate]) -> str:
    record = campaign.records.get(12)
    if arms:
        engines = {arm.engine for arm in arms if arm.rate_tokens_per_s is not None}
        if engines == {"exo"}:
            return (
                "There is no speed-up to tell: no single node gave a baseline for this model. "
                "What EXO made possible, and at what rate, is in the table; that is not a speed-up."
            )
        return "There is no speed-up to tell: only one engine has finished requests."
    if unread := campaign.unreadable_step(12):
        return f"The record of step 12 cannot be read ({clip(unread.words, cap=300)}): there is no speed-up to tell."
    if record is None:
        return "Step 12 (bench-comparison) has not run: there is no speed-up to tell yet."
    return f"Step 12 (bench-comparison) ended as {record.status} and left no samples: there is no speed-up to tell."


def _reproduce(campaign: Campaign) -> list[str]:
    marked = next((r.rehearsal for _, r in sorted(campaign.records.items()) if r.rehearsal is not None), None)
    if marked is not None:
        words = ["fab rehearse"]
        for option in ("speedup", "trap", "seed", "drift"):
            value = marked.get(option)
            if option == "drift" and not value:
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                words.append(f"--{option} {value:g}")
            elif isinstance(value, str) and value:
                words.append(f"--{option} {_plain(value)}")
        return [" ".join(words)]
    benchmark, bench = campaign.benchmark(12), campaign.settings.bench
    number = benchmark.runs if benchmark else (bench.runs if bench else None) or 6
    return [
        f"export FABRIC_EXO_PROFILE={_plain(campaign.profile)}",
        "fab preflight install start",
        f"fab bench --runs {number}",
        "fab report",
        "fab cleanup",
    ]


def _render_again(campaign: Campaign) -> list[str]:
    rehearsed = any(record.rehearsal is not None for record in campaign.records.values())
    inventory = "FABRIC_EXO_INVENTORY=.rehearsal/hosts.yaml " if rehearsed else ""
    return [f"{inventory}FABRIC_EXO_PROFILE={_plain(campaign.profile)} fab report"]


def _plain(name: str) -> str:
    """Keep only what a shell leaves alone: a profile's name comes from a record and is shown as a command."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "?" for c in name[:60])
