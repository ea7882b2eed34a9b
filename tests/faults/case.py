"""One case of the matrix: a step under a fault, then the same again without it, then cleanup."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field

from tests.faults import checker
from tests.faults.control import NODES, Bed, Typed, tell
from tests.faults.faults import ON_DESK, Fault
from tests.faults.steps import StepCase

RERUN_LIMIT_S = 600
AFTER_LOGIN = 0.1
"""Of the time that a step takes where nothing befalls it, counted from its login: at work by then, and not yet done."""
TRIES = 3
"""A step may have ended before the fault began: that is no case, and it is tried again with half the wait."""
MIDDLE = 0.5
"""The same counted from the start, for a step that logs in nowhere."""
SAMPLES_FIRST = 1
"""A fault in the middle of a measurement begins once this many are on disk."""


@dataclass
class Outcome:
    """What came of a case."""

    step: str
    fault: str
    ended: str = ""
    """How the step ended under the fault: `done`, `named`, `interrupted`, `killed`."""
    seconds: float = 0.0
    """How long the step took under the fault."""
    total_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    left: list[str] = field(default_factory=list)
    hung: int = 0
    said: str = ""

    @property
    def good(self) -> bool:
        """Whether all was as it must be."""
        return not (self.wrong or self.left or self.lost or self.doubled or self.hung)


class Runner:
    """Runs cases on one bed; remembers what was there before the first, and how long a step takes undisturbed."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.healthy_s: dict[str, float] = {}
        self._clean = checker.state_of(bed)
        self._first = True

    def run(self, step: StepCase, fault: Fault, sooner: int = 0) -> Outcome:
        """Run one case and return what came of it; what is wrong with the lab itself is raised.

        A fault in the middle begins after half the usual wait, `sooner` times over.
        """
        begin = time.monotonic()
        outcome = Outcome(step.plan.name, fault.name)
        self._measure_healthy(step)
        for wait in (0.5**number for number in range(sooner, sooner + TRIES)):
            struck, done = self._under(step, fault, wait)
            if struck:
                break
        else:
            outcome.wrong.append("the step had ended before the fault began")
        self._judge(outcome, step, fault, done)
        before = checker.samples_of(self.bed, step.plan.samples_name)
        self._again(outcome, step)
        outcome.lost, outcome.doubled = checker.kept_once(before, checker.samples_of(self.bed, step.plan.samples_name))
        self._clean_up(outcome)
        outcome.total_s = time.monotonic() - begin
        return outcome

    def _under(self, step: StepCase, fault: Fault, wait: float) -> tuple[bool, Typed]:
        """Type the step with the fault upon it; tell whether that began in time, and how the step ended."""
        step.prepare(self.bed)
        machine = fault.machine(step)
        struck: list[bool] = []
        if not fault.in_middle(step):
            fault.begin(self.bed, machine)
        try:
            done = self.bed.fab(
                step.plan.name,
                limit_s=step.limit_s,
                meanwhile=(lambda running: struck.append(self._strike(running, step, fault, wait)))
                if fault.in_middle(step)
                else None,
            )
        finally:
            fault.end(self.bed, machine)
        return all(struck), done

    def _measure_healthy(self, step: StepCase) -> None:
        """Run the step once as it is, so that its middle is known."""
        if step.plan.name not in self.healthy_s:
            if self._first:
                self._must("preflight")
                self._first = False
            step.prepare(self.bed)
            self.healthy_s[step.plan.name] = self._must(step.plan.name).seconds
            self._must("cleanup")

    def _must(self, *words: str) -> Typed:
        done = self.bed.fab(*words, limit_s=RERUN_LIMIT_S)
        if done.code:
            raise RuntimeError(f"without any fault, fab {' '.join(words)} says: {done.stdout}{done.stderr}")
        return done

    def _strike(self, running: subprocess.Popen[str], step: StepCase, fault: Fault, wait: float) -> bool:
        """Wait for the middle of a step that runs, and have the fault begin; tell whether it still ran."""
        healthy_s = self.healthy_s[step.plan.name] * wait
        due = time.monotonic() + MIDDLE * healthy_s
        visited = [fault.machine(step)] if fault.machine(step) in NODES else list(NODES)
        while running.poll() is None:
            if step.samples:
                if len(checker.samples_of(self.bed, step.plan.samples_name)) >= SAMPLES_FIRST:
                    break
            elif time.monotonic() >= due:
                break
            elif visited and any(map(self.bed.lab.has_visitor, visited)):
                due, visited = min(due, time.monotonic() + AFTER_LOGIN * healthy_s), []
            time.sleep(0.01)
        in_time = running.poll() is None
        if fault.signal is not None:
            tell(running, fault.signal)
        else:
            fault.begin(self.bed, fault.machine(step))
        return in_time

    def _judge(self, outcome: Outcome, step: StepCase, fault: Fault, done: Typed) -> None:
        """Write down how the step ended under the fault."""
        outcome.seconds, outcome.hung, outcome.said = done.seconds, int(done.hung), done.stderr.strip()
        struck = fault.machine(step)
        names: tuple[str, ...] = ON_DESK if fault.at_desk else (struck.key, struck.hostname, struck.address)
        if fault.cuts_off:
            names = tuple(name for node in NODES for name in (node.key, node.hostname))
        if step.samples or fault.disturbs_exo or fault.asked:
            names += ("exo", "EXO", "Ollama")
        interrupted = fault.signal is not None and done.code == checker.INTERRUPTED
        outcome.wrong += checker.ended_in_time(done, step.limit_s)
        outcome.wrong += checker.told(done, names, interrupted=interrupted)
        outcome.wrong += [f"unreadable: {words}" for words in checker.logs_decode(self.bed)]
        outcome.ended = (
            "hung" if done.hung
            else "done" if done.code == 0
            else "interrupted" if interrupted
            else "killed" if done.code < 0 or done.code == 137
            else "named"
        )  # fmt: skip

    def _again(self, outcome: Outcome, step: StepCase) -> None:
        """Type it again, with what the README says stands before it, and expect it to end well."""
        done = self.bed.fab(*step.again, limit_s=RERUN_LIMIT_S)
        if done.code:
            outcome.wrong.append(f"again: fab {' '.join(step.again)}: exit code {done.code}: {done.stderr[-800:]}")
        outcome.wrong += [f"unreadable again: {words}" for words in checker.logs_decode(self.bed)]

    def _clean_up(self, outcome: Outcome) -> None:
        done = self.bed.fab("cleanup", limit_s=RERUN_LIMIT_S)
        if done.code:
            outcome.wrong.append(f"cleanup: exit code {done.code}: {done.stderr[-800:]}")
        outcome.left = checker.left(self.bed, self._clean)
