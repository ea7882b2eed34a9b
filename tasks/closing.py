"""How a command ends: what it changed, what was so already, and what to type next."""

from __future__ import annotations

from records import plan
from records.record import Record
from reports.text.format import few
from tasks import console
from tasks.machines.lab import Lab

AFTER = {
    "preflight": "fab install",
    "install": "fab start",
    "start": "fab bench",
    "bench": "fab report",
    "report": "fab cleanup",
    "cleanup": "fab report --html",
}
"""Group of the plan -> what is typed when it has ended well."""
AFTER_VERDICT = {
    "INCONCLUSIVE": "fab bench --until-decided (or fab cleanup, and leave it open)",
    "INVALID": "mend what the report calls FATAL, then: fab bench",
    "NOT YET": "fab bench",
    "NO-GO (blocked)": "mend what blocked it, then the command that failed",
}
"""What is typed after a report of this verdict, where that is not the clean-up."""


def after_step(step: plan.PlanStep) -> None:
    """Remember what to type after one step alone: the group's next step, else the next group."""
    later = [other for other in plan.STEPS if other.group == step.group and other.number > step.number]
    console.next_is(f"fab {later[0].name}" if later else AFTER[step.group])


def after_group(group: str, records: list[Record]) -> None:
    """Show which of the group's steps did something and which found all as it should be; remember what is next."""
    mine = [record for record in records if plan.step_numbered(record.step).group == group]
    mine.sort(key=lambda record: record.step)
    shown = {"done": ("ok",), "already so": ("already",), "left out": ("skipped",)}
    parts = {words: [r.name for r in mine if r.status in statuses] for words, statuses in shown.items()}
    if mine:
        console.text("; ".join(f"{words}: {few(names)}" for words, names in parts.items() if names))
    console.next_is(AFTER[group])


def after_report(verdict: str) -> None:
    """Remember what is typed after a report with this verdict."""
    console.next_is(AFTER_VERDICT.get(verdict, AFTER["report"]))


def show_verdict(lab: Lab) -> None:
    """Show what the comparison says so far: each ratio with its interval, then the verdict as the report has it."""
    from records.campaign import load_campaign
    from reports.pages.results import box
    from reports.verdict.decision import decide

    campaign = load_campaign(lab.logs)
    if not campaign.samples.get(12):
        return
    decision = decide(campaign)
    for name, words in box(decision, "").lines:
        console.text(f"{name}: {words}")
    console.text(decision.headline)
