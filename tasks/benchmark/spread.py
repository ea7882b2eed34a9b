"""`fab bench --spread`: one request in flight on every Ollama at once, against each of them alone. It never votes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from records import plan
from records.archive import archive
from records.campaign import SPREAD_ALONE_NAME, SPREAD_NAME
from records.samples import read_samples
from tasks import console
from tasks.benchmark.instrument import ensure_script
from tasks.benchmark.job import Job, job_for
from tasks.benchmark.measure import run_script, script_options
from tasks.errors import StepError
from tasks.machines.lab import Lab, side_by_side
from tasks.ollama.servers import servers_of


def spread(lab: Lab, runs: int | None) -> None:
    """Measure rounds of both ways, alternately first, and show what spreading gives. Raises StepError."""
    from reports.stats.rounds import FEWEST_ROUNDS
    from reports.stats.spread import spread_of

    ensure_script(lab.bench_node)
    rounds = runs or max(lab.inventory.bench.runs, FEWEST_ROUNDS)
    files = [lab.logs / name for name in (SPREAD_ALONE_NAME, SPREAD_NAME)]
    if there := [file for file in files if file.exists()]:
        archive(lab.logs, there)
    pair, arms = lab.profile.models.small, list(lab.inventory.ollama)
    step = plan.step_named("bench-baseline")
    jobs = {arm: job_for(lab, step, pair, [arm], 2 * rounds) for arm in arms}
    try:
        for number in range(1, rounds + 1):
            halves: list[Callable[[], object]] = [
                partial(_alone, lab, jobs, 2 * number - 1),
                partial(_together, lab, jobs, 2 * number),
            ]
            for half in halves if number % 2 else halves[::-1]:
                half()
            console.note("", f"round {number} of {rounds}: every Ollama alone, and all at once")
    finally:
        for server in servers_of(lab).values():
            server.unload(pair.ollama)
    alone, together = (read_samples(file)[0] for file in files)
    found = spread_of(alone, together, error=1 - lab.inventory.decision.confidence)
    if found is None:
        raise StepError("no round in which every Ollama answered", "one", "fab preflight", who="spread")
    console.text(
        f"spread: all {len(arms)} Ollamas at once give {found.aggregate.ratio:.2f}x the rate of the best one alone"
        f" ({found.best_node}), {found.aggregate.lower:.2f} to {found.aggregate.upper:.2f}; fab report shows each"
    )


def _alone(lab: Lab, jobs: dict[str, Job], run: int) -> None:
    for arm, job in jobs.items():
        _ask(lab, msgspec.structs.replace(job, samples=lab.logs / SPREAD_ALONE_NAME), arm, run)


def _together(lab: Lab, jobs: dict[str, Job], run: int) -> None:
    at_once = {arm: msgspec.structs.replace(job, samples=lab.logs / SPREAD_NAME) for arm, job in jobs.items()}
    side_by_side({arm: partial(_ask, lab, job, arm, run) for arm, job in at_once.items()})


def _ask(lab: Lab, job: Job, arm: str, run: int) -> None:
    options = ["--only", f"{arm}:{run}", "--no-unload-after", "--reload", f"{arm}=keep"]
    ran = run_script(lab, job, [*script_options(lab, job), *options])
    if not ran.ok:
        words = (ran.stderr.strip() or "the script said nothing").splitlines()[-1][:300]
        raise StepError(words, "an answer", "is its Ollama running? then the same command again", who=arm)
