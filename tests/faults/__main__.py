"""`python -m tests.faults [--steps A,B] [--faults "x,y"] [--root DIR] [--write]`: run the matrix, or a part of it."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.case import Outcome, Runner
from tests.faults.control import bed
from tests.faults.faults import FAULTS, Fault
from tests.faults.steps import CASES, StepCase


def main() -> int:
    """Run the chosen cases; 1 where one of them is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--steps", default="", help="names, with commas between; all when left out")
    parser.add_argument("--faults", default="", help="names, with semicolons between; all when left out")
    parser.add_argument("--root", type=Path, help="where the machines lie; a temporary folder when left out")
    asked = parser.parse_args()
    steps = [case for name, case in CASES.items() if not asked.steps or name in asked.steps.split(",")]
    faults = [fault for fault in FAULTS if not asked.faults or fault.name in asked.faults.split(";")]
    root = asked.root or Path(tempfile.mkdtemp(prefix="faults-"))
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    outcomes = run(root.resolve(), [(step, fault) for step in steps for fault in faults if fault.applies(step)])
    return int(any(outcome.wrong or outcome.left or outcome.lost or outcome.doubled for outcome in outcomes))


def run(root: Path, pairs: list[tuple[StepCase, Fault]]) -> list[Outcome]:
    """Run the cases on one bed and say what came of each."""
    outcomes = []
    with bed(root) as up:
        runner = Runner(up)
        for step, fault in pairs:
            outcome = runner.run(step, fault)
            outcomes.append(outcome)
            say(outcome)
    return outcomes


def say(outcome: Outcome) -> None:
    """Print one line about a case, and more where something is wrong."""
    mark = "ok " if not (outcome.wrong or outcome.left or outcome.lost or outcome.doubled) else "BAD"
    print(
        f"{mark} {outcome.step:17} {outcome.fault:26} {outcome.ended:11} {outcome.seconds:6.1f} s"
        f" of {outcome.total_s:6.1f} s; {outcome.lost} lost, {outcome.doubled} doubled, {len(outcome.left)} left",
        flush=True,
    )
    print("\n".join(f"      {line}" for line in outcome.said.splitlines()), flush=True)
    for line in [*outcome.wrong, *(f"left: {thing}" for thing in outcome.left)]:
        print(f"    ! {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
