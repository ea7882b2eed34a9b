"""Records -> the course of the campaign: its steps, its departures from the plan, what went wrong, the raw files."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from records import plan
from records.campaign import REPORT_STEP, Campaign
from records.record import Command, Problem, Record, Status
from records.samples import Sample
from reports.text import format as fmt
from reports.text.table import Code, Table, clip

OUTPUT_SHOWN = 600
FAILURES_SHOWN = 20
STATUS_WORDS: dict[Status, str] = {
    "ok": "done",
    "already": "done (it was so already)",
    "failed": "FAILED",
    "interrupted": "interrupted by a person",
    "skipped": "skipped",
    "broken": "BROKEN (a bug of this program)",
}
UNDONE: dict[Status, str] = {"failed": "failed", "interrupted": "was interrupted", "broken": "broke"}
"""How a step ended that did not do its work."""


class DeviationView(msgspec.Struct, frozen=True):
    """One departure from the plan and the steps that made it."""

    steps: str
    plan: str
    done: str
    why: str


class ProblemView(msgspec.Struct, frozen=True):
    """One step that did not get through: what its error said and the last words of what it ran."""

    step: str
    what: str
    found: str
    needed: str
    do: str
    command: str
    """The last command that did not succeed, with host and exit code; empty where there is none."""
    output: str
    record_file: str


class Trouble(msgspec.Struct, frozen=True):
    """Everything that was met on the way and that a reader should know."""

    problems: list[ProblemView]
    warnings: list[tuple[str, str]]
    """Step and warning."""
    failed_requests: Table | None
    unreadable: list[str]


def steps_table(campaign: Campaign) -> Table:
    """List the fifteen steps with status and time; the report's own step is `this report`."""
    rows = []
    for step in campaign.steps:
        record, unread = campaign.record_of(step), campaign.unreadable_step(step.number)
        row = [str(step.number), step.title, Code(plan.command_of(step))]
        if step.number == REPORT_STEP:
            row += ["this report", "", "", ""]
        elif unread:
            row += ["UNREADABLE", "", "", clip(unread.reason, step.record_name, cap=160)]
        elif record is None:
            row += ["not run", "", "", ""]
        else:
            summary = clip(record.summary, step.record_name, cap=160)
            row += [
                STATUS_WORDS[record.status],
                fmt.moment(clip(record.started_utc, cap=40)),
                fmt.duration(record.elapsed_s),
                summary,
            ]
        rows.append(row)
    return Table(["#", "Step of the plan", "Command", "Status", "Started", "Took", "What it said"], rows, [0, 5])


def deviations(records: dict[int, Record]) -> list[DeviationView]:
    """Return every departure from the plan once, with the steps that noted it, in the plan's order."""
    steps_of: dict[tuple[str, str, str], list[int]] = {}
    for number in sorted(records):
        for deviation in records[number].deviations:
            steps_of.setdefault((deviation.plan, deviation.done, deviation.why), []).append(number)
    return [
        DeviationView(
            f"Step {numbers[0]}" if len(numbers) == 1 else f"Steps {fmt.listed([str(n) for n in numbers])}",
            clip(planned, _file(numbers[0]), cap=600),
            clip(done, _file(numbers[0]), cap=600),
            clip(why, _file(numbers[0]), cap=900),
        )
        for (planned, done, why), numbers in steps_of.items()
    ]


def trouble(campaign: Campaign) -> Trouble:
    """Collect failed steps, warnings, failed requests, torn lines and files that could not be read."""
    records = campaign.all_records
    warned: dict[str, list[Record]] = {}
    for record in records:
        for text in record.warnings:
            warned.setdefault(text, []).append(record)
    warnings = [(_where(by), clip(text, _file(by[0].step), cap=500)) for text, by in warned.items()]
    problems = [view for record in records if record.status in UNDONE for view in _problems(record)]
    unread = [clip(words, cap=500) for words in campaign.unread]
    return Trouble(problems, warnings, _failed_requests(campaign.samples), unread)


def _where(records: Sequence[Record]) -> str:
    """Name the steps of these records."""
    if len(records) == 1:
        return f"Step {records[0].step} ({records[0].name})"
    return f"Steps {fmt.few([record.name for record in records])}"


def raw_files(hashes: dict[str, str], folder: str) -> Table | None:
    """List the raw data with their SHA-256, without the report's own record."""
    own = plan.step_numbered(REPORT_STEP).record_name
    files = sorted((name, digest) for name, digest in hashes.items() if name != own)
    rows: list[list[str]] = [[Code(f"{folder}/{name}"), Code(digest)] for name, digest in files]
    return Table(["File", "SHA-256"], rows) if rows else None


def _file(number: int) -> str:
    return plan.step_numbered(number).record_name


def _problems(record: Record) -> list[ProblemView]:
    """Return a block for every node or thing in trouble, each with the last command that failed on it."""
    file = _file(record.step)
    views = []
    for problem in record.errors or [Problem("", record.trouble, "", "")]:
        failed = [c for c in record.commands if c.exit_code != 0]
        command = next((c for c in reversed(failed) if c.host == problem.what or len(record.errors) < 2), None)
        views.append(
            ProblemView(
                step=f"Step {record.step} ({record.name}) {UNDONE[record.status]}",
                what=clip(problem.what, file, cap=400),
                found=clip(problem.found, file, cap=900),
                needed=clip(problem.needed, file, cap=600),
                do=clip(problem.do, file, cap=600),
                command=_command_words(command) if command else "",
                output=_last_words(command) if command else "",
                record_file=file,
            )
        )
    return views


def _command_words(command: Command) -> str:
    ended = "did not come back" if command.exit_code is None else f"exit code {command.exit_code}"
    return f"on {clip(command.host, cap=60)}: {clip(command.command, cap=300)} ({ended})"


def _last_words(command: Command) -> str:
    output = (command.stderr.strip() or command.stdout.strip())[-OUTPUT_SHOWN:]
    return output.strip()


def _failed_requests(samples: dict[int, list[Sample]]) -> Table | None:
    failed = [(step, s) for step in sorted(samples) for s in samples[step] if s.error is not None]
    if not failed:
        return None
    rows = [
        [
            str(step),
            clip(s.arm, cap=60),
            str(s.run),
            str(s.request),
            "yes" if s.warmup else "no",
            clip(s.error, plan.step_numbered(step).samples_name),
        ]
        for step, s in failed[:FAILURES_SHOWN]
    ]
    more = len(failed) - FAILURES_SHOWN
    caption = f"{more} more are in the sample files." if more > 0 else ""
    return Table(["Step", "Arm", "Run", "Request", "Warm-up", "What was wrong"], rows, [0, 2, 3], caption)
