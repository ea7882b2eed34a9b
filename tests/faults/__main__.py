"""Run the fault matrix, or a part of it, and write docs/faults.md from what runs have left.

python -m tests.faults [--steps A,B] [--faults "x;y"] [--labs N] [--rounds N] [--outcomes FILE] [--page]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests import PROJECT
from tests.faults.case import Outcome, Runner
from tests.faults.control import bed
from tests.faults.faults import FAULTS, Fault
from tests.faults.page import page
from tests.faults.steps import CASES, StepCase
from tests.support import wall_clock

_printing = threading.Lock()
ON_ONE_BED = 9
"""A bed costs half a minute to make; more faults on one would leave the other beds without work at the end."""


def main() -> int:
    """Do as the options say; 1 where a case is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--steps", default="", help="names, with commas between; all when left out")
    parser.add_argument("--faults", default="", help="names, with semicolons between; all when left out")
    parser.add_argument("--labs", type=int, default=1, help="how many beds of three machines at once")
    parser.add_argument("--rounds", type=int, default=1, help="how often the whole is run, one after the other")
    parser.add_argument("--root", type=Path, help="where the machines lie; a temporary folder when left out")
    parser.add_argument("--outcomes", type=Path, help="file to which what came of each case is added, a line each")
    parser.add_argument("--missing", action="store_true", help="only pairs without a good outcome in that file")
    parser.add_argument("--page", action="store_true", help="write docs/faults.md from the file of --outcomes")
    asked = parser.parse_args()
    root = (asked.root or Path(tempfile.mkdtemp(prefix="faults-"))).resolve()
    steps = [case for name, case in CASES.items() if not asked.steps or name in asked.steps.split(",")]
    faults = [fault for fault in FAULTS if not asked.faults or fault.name in asked.faults.split(";")]
    if asked.page and not (asked.steps or asked.faults):
        (PROJECT / "docs/faults.md").write_text(page(_kept(asked.outcomes)), encoding="utf-8")
        return 0
    passed = {(o.step, o.fault) for o in _kept(asked.outcomes) if o.good} if asked.missing else set()
    good = True
    for _ in range(asked.rounds):
        pairs = {
            step: [f for f in faults if f.applies(step) and not f.same(step) and (step.plan.name, f.name) not in passed]
            for step in steps
        }
        good &= run_round(root, pairs, asked.labs, asked.outcomes)
    return int(not good)


def _kept(outcomes: Path) -> list[Outcome]:
    lines = outcomes.read_text().splitlines() if outcomes.exists() else []
    return [Outcome(**json.loads(line)) for line in lines]


def run_round(root: Path, pairs: dict[StepCase, list[Fault]], labs: int, outcomes: Path | None) -> bool:
    """Run every pair once, shared out among `labs` beds; tell whether all was as it must be."""
    queue = [
        (step, pairs[step][at : at + ON_ONE_BED])
        for step in sorted(pairs, key=lambda step: step.limit_s)
        for at in range(0, len(pairs[step]), ON_ONE_BED)
    ]
    every: list[Outcome] = []

    def work(number: int) -> None:
        while queue:
            for outcome in run_step(root / str(number), *queue.pop()):
                with _printing:
                    every.append(outcome)
                    print(words(outcome), flush=True)
                    if outcomes:
                        with outcomes.open("a") as kept:
                            kept.write(json.dumps(asdict(outcome)) + "\n")

    with ThreadPoolExecutor(labs) as pool:
        list(pool.map(work, range(labs)))
    print(page(every))
    return all(outcome.good for outcome in every)


def run_step(root: Path, step: StepCase, faults: list[Fault]) -> Iterator[Outcome]:
    """Run the faults of one step on a bed of its own, and on a new one where a fault has broken it or needs clocks."""
    for clocks in (False, True):
        yield from _run_on(root, step, [fault for fault in faults if bool(fault.ahead_s) is clocks], clocks=clocks)


def _run_on(root: Path, step: StepCase, left: list[Fault], *, clocks: bool) -> Iterator[Outcome]:
    if left and clocks and not wall_clock.COMPILER:
        print(f"no C compiler here: {step.plan.name} is not tried with {', '.join(fault.name for fault in left)}")
        return
    while left:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        with bed(root, clocks=clocks) as up:
            runner = Runner(up)
            while left:
                fault = left.pop(0)
                try:
                    yield runner.run(step, fault)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    yield Outcome(step.plan.name, fault.name, "broken", wrong=[f"the bed itself: {error}"])
                    break


def words(outcome: Outcome) -> str:
    """Return one line about a case, and more where something is wrong."""
    lines = [
        f"{'ok ' if outcome.good else 'BAD'} {outcome.step:17} {outcome.fault:26} {outcome.ended:11}"
        f" {outcome.seconds:6.1f} s of {outcome.total_s:6.1f} s;"
        f" {outcome.lost} lost, {outcome.doubled} doubled, {len(outcome.left)} left"
    ]
    lines += [f"      {line}" for line in outcome.said.splitlines()]
    lines += [f"    ! {line}" for line in (*outcome.wrong, *(f"left: {thing}" for thing in outcome.left))]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
