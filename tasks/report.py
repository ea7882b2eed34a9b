"""Group `report`, step 14: the report and its charts, from nothing but what lies in `logs/`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from invoke.exceptions import Exit

from records.facts import Documented
from records.files import write_whole
from tasks import closing, console
from tasks.command_line import PROJECT
from tasks.errors import StepError
from tasks.machines.lab import Lab
from tasks.steps import StepNotes, step

COMMIT_MESSAGE = "docs: add EXO Phase 1 POC results and benchmarks"
"""The plan's own."""


@step
def document_results(lab: Lab, notes: StepNotes, html: bool = False, commit: bool = False) -> Documented:
    """Write the report, its charts and the plan's text files."""
    from reports.render import write_report

    notes.deviation(
        "write a results document by hand with the speed-up of the two best runs",
        "the report is rendered from the raw samples, with intervals, validity checks and a rule that can say no",
        "the ratio of two best runs says GO half of the time at a true +30 %, however many runs there are",
    )
    put_methodology(lab.docs)
    written = write_report(lab.all_logs, lab.docs, profile=lab.inventory.profile, html=html)
    sha = commit_docs(lab.docs, written.files) if commit else None
    for words in written.unread:
        notes.warn(f"cannot be read: {words}")
    console.text(written.decision.headline)
    notes.summary = f"{written.decision.verdict}; {lab.docs / 'exo-phase1-results.md'}"
    return Documented(written.decision.verdict, written.files, sha)


def put_methodology(docs: Path) -> None:
    """Lay the page that every report links beside it, where `docs` is not the project's own folder."""
    page = PROJECT / "docs" / "methodology.md"
    if docs.resolve() != page.parent:
        write_whole(docs / page.name, page.read_bytes())


def report_group(lab: Lab, *, html: bool, commit: bool, gate: bool) -> None:
    """Run step 14 and, with `gate`, end with the exit code that belongs to the verdict."""
    from reports.export import GATE_EXIT

    documented = document_results(lab, html=html, commit=commit)
    closing.after_report(documented.verdict)
    code = GATE_EXIT[documented.verdict] if gate else 0
    if code:
        raise Exit(f"verdict: {documented.verdict}", code=code)


def show_comparison(old: Path, new: Path) -> None:
    """Print two campaigns side by side; each is the folder of one campaign in `logs/`. Raises StepError."""
    from reports.compare import NoCampaignError, compare_campaigns

    try:
        console.text(compare_campaigns(old, new))
    except NoCampaignError as error:
        raise StepError(
            str(error), "the folders of two campaigns", "ls -d logs/* logs/*/archive/*", who="compare"
        ) from error


def commit_docs(docs: Path, files: list[str]) -> str:
    """Commit the report's files, and nothing else, in the repository that holds `docs`; return the commit.

    Raises StepError where there is no repository or git refuses (no identity set, a hook).
    """
    paths = [str(docs / name) for name in files]
    for command in (["git", "add", "--", *paths], ["git", "commit", "-q", "-m", COMMIT_MESSAGE, "--", *paths]):
        if command[1] == "commit" and _git(docs, ["git", "diff", "--cached", "--quiet", "--", *paths]).returncode == 0:
            break  # the same bytes are committed already
        done = _git(docs, command)
        if done.returncode != 0:
            complaint = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
            raise StepError(
                f"{' '.join(command[:2])}: {complaint}",
                "a commit of docs/",
                "git status; then: fab report --commit",
                who="git",
            )
    return _git(docs, ["git", "rev-parse", "HEAD"]).stdout.strip()


def _git(docs: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=docs, capture_output=True, text=True, timeout=60, check=False)
