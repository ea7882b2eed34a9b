"""docs/faults.md, from what a run left: a table of steps and faults, the counts, and what is not tried and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tests.faults.case import Outcome
from tests.faults.faults import FAULTS, Fault
from tests.faults.steps import CASES, StepCase

HEAD = """\
# What may befall a step, tried

Written by `python -m tests.faults --page` from runs of `make test-faults`; do not edit.

Three machines with OpenSSH and a desk at which `fab` is typed, each with a network, processes, a boot and a disk of its
own, EXO and Ollama being the rehearsal's stand-ins. Every cell is one case: the step is typed, the fault falls on it
(before it or in its middle) and lasts until it has ended; then the same is typed without the fault, then `fab cleanup`.
A case passes where the step ended within its time-out and named node and cause in one block each, or was done in spite
of the fault; where all records can be read; where the second call ended well, with no finished sample lost or doubled;
and where cleanup left no process, port or file of ours.
"""
LEGEND = """\
A cell says how the step ended under the fault and after how many seconds: **d** done in spite of it, **n** named,
**i** interrupted (exit 130), **k** killed, each with all that follows as it must be; **X** not so. `-`: the pair means
nothing (the step asks that server nothing, or nothing that an earlier step has not asked it, or runs on the desk
alone); `= 3`: as step 3, the same code for another node. An empty cell was not run. Step 13 is step 12 with another
model, and only after a GO: not tried.
"""
LETTERS = {"done": "d", "named": "n", "interrupted": "i", "killed": "k"}


def page(outcomes: Iterable[Outcome]) -> str:
    """Return the whole page."""
    by_pair: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in (outcome for outcome in outcomes if outcome.ended != "broken"):  # no case: the bed itself failed
        by_pair[outcome.step, outcome.fault].append(outcome)
    every = [outcome for some in by_pair.values() for outcome in some]
    steps = [step.plan for step in CASES.values()]
    lines = [HEAD, LEGEND, "| | " + " | ".join(str(step.number) for step in steps) + " |"]
    lines.append("|:--|" + ":--|" * len(steps))
    for fault in FAULTS:
        cells = [_cell(by_pair.get((case.plan.name, fault.name), []), fault, case) for case in CASES.values()]
        lines.append(f"| {fault.name} | " + " | ".join(cells) + " |")
    lines += ["", _counts(every), "", "Steps: " + ", ".join(f"{step.number} {step.name}" for step in steps) + ".", ""]
    return "\n".join(lines)


def _cell(outcomes: list[Outcome], fault: Fault, case: StepCase) -> str:
    if not fault.applies(case):
        return "-"
    if same := fault.same(case):
        return f"= {same}"
    if not outcomes:
        return ""
    letters = "".join(sorted({LETTERS.get(outcome.ended, "X") if outcome.good else "X" for outcome in outcomes}))
    seconds = sorted(round(outcome.seconds) for outcome in outcomes)
    span = str(seconds[0]) if seconds[0] == seconds[-1] else f"{seconds[0]}-{seconds[-1]}"
    return f"{letters} {span}"


def _counts(every: list[Outcome]) -> str:
    return (
        f"**{len(every)} cases** of {len({(o.step, o.fault) for o in every})} pairs,"
        f" {len({o.fault for o in every})} faults, {sum(o.total_s for o in every):.0f} s in all:"
        f" {sum(o.good for o in every)} as they must be, {sum(o.lost for o in every)} samples lost,"
        f" {sum(o.doubled for o in every)} doubled, {sum(len(o.left) for o in every)} things left,"
        f" {sum(o.hung for o in every)} hung."
    )
