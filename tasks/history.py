"""`fab history`: every campaign in `logs/` and its archive with its verdict; an archived one can be brought back."""

from __future__ import annotations

from pathlib import Path

from records.archive import archived, restore
from records.campaign import COMPARISON_STEP, Campaign, load_campaign
from records.plan import STEPS
from tasks import console
from tasks.errors import StepError
from tasks.machines.lab import Lab
from tasks.machines.lock import FileLock, this_call


def history(lab: Lab, name: str = "") -> None:
    """Show all campaigns, or bring the archived one called `name` back. Raises StepError where there is none such."""
    there = _campaigns(lab.all_logs)
    if name:
        _bring_back(lab, name, there)
        return
    for where, folder in there.items():
        console.text(f"{where}\n    {_words(load_campaign(folder))}")
    if not there:
        console.text(f"nothing has been measured yet in {lab.all_logs}")


def _campaigns(all_logs: Path) -> dict[str, Path]:
    """Return what has been measured, by the name it is shown under: `PROFILE`, then `PROFILE/TIME` of its archive."""
    found = {}
    for logs in sorted(all_logs.iterdir()) if all_logs.is_dir() else []:
        if any((logs / step.samples_name).is_file() for step in STEPS):
            found[logs.name] = logs
        found |= {f"{logs.name}/{folder.name}": folder for folder in archived(logs)}
    return found


def _words(campaign: Campaign) -> str:
    """Return one campaign on one line: when, how much, and its verdict."""
    from reports.verdict.decision import decide

    runs = {(s.arm, s.run) for s in campaign.samples.get(COMPARISON_STEP, []) if not s.warmup}
    begun = min((record.started_utc for record in campaign.records.values()), default="an unknown time")
    rehearsed = "REHEARSAL, " if any(record.rehearsal for record in campaign.records.values()) else ""
    return f"{rehearsed}begun {begun}, {len(runs)} runs in step {COMPARISON_STEP}: {decide(campaign).headline}"


def _bring_back(lab: Lab, name: str, there: dict[str, Path]) -> None:
    archives = {where: folder for where, folder in there.items() if "/" in where}
    fitting = [folder for where, folder in archives.items() if name in (where, folder.name)]
    if len(fitting) != 1:
        raise StepError(
            f"{len(fitting)} archived campaigns are called {name}",
            "the name of one: " + (", ".join(archives) or "there is none in the archive yet"),
            "fab history",
            who="history",
        )
    lock = FileLock(lab.all_logs / ".lock", "this machine")
    lock.take(this_call())
    try:
        before = restore(fitting[0].parent.parent, fitting[0])
    finally:
        lock.release()
    if before is not None:
        console.text(f"what was there lies in {before}")
    console.text(f"{name} is back in {fitting[0].parent.parent}; its report: fab report")
