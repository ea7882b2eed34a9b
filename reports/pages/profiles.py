"""The other profiles' campaigns in one table: the same rule on each, beside the one that the report is about."""

from __future__ import annotations

from pathlib import Path

from records import plan
from records.campaign import REPORT_STEP, Campaign, load_campaign
from reports.text import format as fmt
from reports.text.table import Code, Table, clip
from reports.verdict.decision import Decision, decide

KEPT_APART = frozenset({"archive"})
"""Folders in `logs/` that are no profile."""


def other_profiles(logs: Path, shown: str) -> Table | None:
    """Summarise every profile in `logs` but `shown`; None where there is no other."""
    rows = [_row(campaign, decide(campaign, 12)) for campaign in map(load_campaign, profile_folders(logs, shown))]
    return Table(["Profile", "EXO", "Verdict", "Speed-up", "Steps done", "In one sentence"], rows) if rows else None


def profile_folders(logs: Path, shown: str) -> list[Path]:
    """Return the folders in `logs` that hold a record or samples of the plan, but that of `shown`, by name."""
    if not logs.is_dir():
        return []
    known = {name for step in plan.STEPS for name in (step.record_name, step.samples_name)}
    return sorted(
        folder
        for folder in logs.iterdir()
        if folder.is_dir()
        and folder.name not in KEPT_APART | {shown}
        and not folder.name.startswith(".")
        and any((folder / name).is_file() for name in known)
    )


def _row(campaign: Campaign, decision: Decision) -> list[str]:
    profile = campaign.settings.profile
    ratios = ", ".join(
        f"{fmt.ratio(c.ratio)} over {clip(c.baseline, cap=40)} "
        f"({fmt.interval(c.lower, c.upper, campaign.limits.target_ratio)})"
        for c in decision.comparisons
    )
    steps = [n for n in campaign.records if campaign.done(n) and n != REPORT_STEP]
    rehearsal = any(r.rehearsal is not None for r in campaign.records.values())
    return [
        Code(clip(campaign.profile, cap=60)),
        clip(profile.title, cap=120) if profile else "",
        decision.verdict + (" (REHEARSAL)" if rehearsal else ""),
        ratios,
        f"{len(steps)} of {len(plan.STEPS) - 1}",
        clip(decision.headline, cap=300),
    ]
