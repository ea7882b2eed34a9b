"""@step: a plain function becomes a step of the plan, which leaves one JSON record whenever it is called.

The function takes the Lab and a StepNotes (what it wants to say besides its result) and returns a struct from
`records.facts`. This is the only place that makes a Record, and the one that writes down what a step failed of.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar, cast

import msgspec
from invoke.exceptions import Exit

from records import VERSION, plan
from records.archive import Finished
from records.facts import Skipped
from records.record import SCHEMA_VERSION, Command, Deviation, Problem, Record, Status, write_record
from records.settings import settings_carried
from tasks import closing, console
from tasks.command_line import EXIT_USAGE
from tasks.errors import NothingDoneError, StepError
from tasks.inventory import campaign_id
from tasks.machines.lab import Lab, side_by_side
from tasks.machines.node import journal
from tasks.redact import secrets_of, without_secrets


class StepNotes:
    """What a running step wants its record to hold besides its result."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.status: Status = "ok"
        self.summary = ""
        self.deviations: list[Deviation] = []
        self.warnings: list[str] = []
        self.commands: list[Command] = []
        self.kept: Record | None = None
        """The record of an earlier call that stays as it is, because nothing was done now."""
        self.partial: msgspec.Struct | None = None
        """What was found although the step fails: cleanup's word on the nodes that it could reach."""

    def deviation(self, plan: str, done: str, why: str) -> None:
        """Note a departure from the plan: what it says, what is done instead, and why."""
        self.deviations.append(Deviation(plan, done, why))

    def warn(self, text: str) -> None:
        """Note something the owner should know and that stops nothing."""
        if text not in self.warnings:
            self.warnings.append(text)

    def keep(self, record: Record) -> None:
        """Note that an earlier call has done all of this, and that its record stays."""
        self.kept = record

    def already(self) -> None:
        """Note that everything was so before this step ran."""
        self.status = "already"


Result = TypeVar("Result", bound=msgspec.Struct)


class Step(Generic[Result]):
    """A step of the plan: calling it runs it and leaves its record."""

    def __init__(self, work: Callable[..., Result], planned: plan.PlanStep | None = None) -> None:
        self.plan = planned or plan.step_named(work.__name__.replace("_", "-"))
        self.work = work
        self.afterwards: Callable[[Lab], None] | None = None
        """Done once its record lies there, whatever came of the step."""

    def __call__(self, lab: Lab, **options: Any) -> Result:
        """Run the step, write its record, show its summary line; a StepError is raised again after that."""
        notes, clock, started = StepNotes(self.plan.number), time.monotonic(), datetime.now(UTC)
        token = journal.set(notes.commands)
        finished = Finished(lab.logs, self.plan)
        result: Any = None
        failure: BaseException | None = None
        try:
            with console.waiting(self.plan.name):
                result = self.work(lab, notes, **options)
        except StepError as error:
            failure = error.about(self.plan.name)
        except BaseException as error:  # recorded first, then raised again
            failure = error
        finally:
            journal.reset(token)
            console.done(self.plan.node)
        if isinstance(failure, NothingDoneError) or (isinstance(failure, Exit) and failure.code == EXIT_USAGE):
            raise failure  # what ran nothing must not replace what an earlier run has left
        if result is not None and notes.kept is not None:
            kept = msgspec.structs.replace(notes.kept, status="already", warnings=[])
            lab.finished.append(kept)
            console.summary(kept)
            closing.after_step(self.plan)
            return cast(Result, result)
        result = result if result is not None else notes.partial
        record = self._record(lab, notes, result, failure, started, time.monotonic() - clock)
        folder = finished.folder_for(record)
        write_record(folder, record)
        lab.finished.append(record)
        console.summary(record)
        if folder != lab.logs:
            console.text(f"    the finished measurement stays; the record of this attempt lies in {folder}")
        if self.afterwards is not None:
            self.afterwards(lab)
        if failure is not None:
            raise failure
        assert result is not None
        closing.after_step(self.plan)
        return cast(Result, result)

    def _record(
        self,
        lab: Lab,
        notes: StepNotes,
        result: msgspec.Struct | None,
        failure: BaseException | None,
        started: datetime,
        elapsed_s: float,
    ) -> Record:
        status, errors, trace = _failure(failure)
        facts: dict[str, Any] = msgspec.to_builtins(result) if result is not None else {}
        inventory = lab.inventory
        record = Record(
            schema=SCHEMA_VERSION,
            step=self.plan.number,
            name=self.plan.name,
            status=status or ("skipped" if isinstance(result, Skipped) else notes.status),
            summary=notes.summary
            or (result.reason if isinstance(result, Skipped) else (errors[0].found if errors else "")),
            profile=inventory.profile,
            started_utc=started.isoformat(timespec="seconds"),
            elapsed_s=round(elapsed_s, 3),
            tool_version=VERSION,
            campaign=campaign_id(inventory),
            rehearsal=msgspec.to_builtins(inventory.rehearsal) if inventory.rehearsal else None,
            settings=settings_carried(inventory),
            result=facts,
            commands=notes.commands,
            round_trips=_round_trips(notes.commands),
            deviations=notes.deviations,
            warnings=notes.warnings,
            errors=errors,
            traceback=trace,
        )
        return without_secrets(record, secrets_of(inventory))


def step(work: Callable[..., Result]) -> Step[Result]:
    """Make the plan's step of `work`, whose name is the step's: `install_srv2` is `install-srv2`."""
    return Step(work)


def run_side_by_side(lab: Lab, steps: Mapping[str, Step[Any]], only: Collection[str] | None = None) -> None:
    """Run the steps (node key -> step) at once, or `only` some; each leaves its record, errors are raised as one."""
    side_by_side({key: partial(run, lab) for key, run in steps.items() if only is None or key in only})


def _failure(failure: BaseException | None) -> tuple[Status | None, list[Problem], str]:
    if failure is None:
        return None, [], ""
    if isinstance(failure, StepError):
        return "failed", list(failure.problems), ""
    if isinstance(failure, (KeyboardInterrupt, Exit)):
        found = str(failure) or "interrupted from the keyboard"
        return "interrupted", [Problem("this step", found, "to be let finish", "type the same command again")], ""
    error = f"{type(failure).__name__}: {failure}"
    problem = Problem("this program", error, "no error that nobody foresaw", "report it with this record")
    return "broken", [problem], "".join(traceback.format_exception(failure))


def _round_trips(commands: list[Command]) -> dict[str, int]:
    """Return how often each host was waited for."""
    counted: Counter[str] = Counter()
    for command in commands:
        counted[command.host] += command.times
    return dict(sorted(counted.items()))
