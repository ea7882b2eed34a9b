"""Two experiments beside the fifteen steps: the control (Ollama against itself) and requests at once.

Neither votes. The control's samples lie in `control.samples.jsonl`, where the report's A/A check finds them; the
concurrency experiment leaves its samples in `concurrency.samples.jsonl` and its table on the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from records import plan
from records.archive import archive
from records.campaign import CONCURRENCY_NAME, CONTROL_CONDITIONS_NAME, CONTROL_NAME
from records.samples import marked, read_conditions, read_samples
from records.settings import Inventory
from tasks import console
from tasks.benchmark.instrument import ensure_script
from tasks.benchmark.job import begun, job_for
from tasks.benchmark.measure import measure, run_script, script_options
from tasks.errors import StepError, one_each
from tasks.machines.lab import Lab

CONTROL_ARMS = ("a", "b")


def control(lab: Lab, runs: int | None, *, fresh: bool = False) -> None:
    """Measure one Ollama against itself through the very pipeline, and say what that noise means for a campaign.

    Typed again it measures what is missing; `fresh` moves what is there to the archive and begins anew.

    Whatever differs between two names of one server is the pipeline's own error. Raises StepError.
    """
    from reports.stats.rounds import FEWEST_ROUNDS
    from reports.stats.sample_size import plan_from_control
    from reports.text.format import about

    arm = next(iter(lab.inventory.ollama))
    if runs and runs < FEWEST_ROUNDS:
        raise _too_few(f"{runs} rounds")
    pair = lab.profile.models.small
    twin = Lab(_twinned(lab.inventory, arm), lab.path)
    twin.nodes = lab.nodes  # the same links
    step = plan.step_named("bench-baseline")
    job = job_for(twin, step, pair, CONTROL_ARMS, runs or lab.inventory.bench.runs)
    files = {"samples": lab.logs / CONTROL_NAME, "conditions": lab.logs / CONTROL_CONDITIONS_NAME}
    if fresh and files["samples"].exists():
        console.text(f"    what was measured lies in {archive(lab.logs, [*files.values()])}")
    job = measure(twin, begun(msgspec.structs.replace(job, label=f"control-{job.label}", **files))).job
    samples = marked(read_samples(job.samples)[0], read_conditions(job.conditions)[0])
    samples = [s for s in samples if s.campaign == job.label]
    arms = 1 + len(lab.inventory.ollama)
    sample_size = plan_from_control(samples, lab.inventory.decision, arms)
    if sample_size is None:
        raise _too_few(f"fewer than {FEWEST_ROUNDS} good rounds")
    console.text(
        f"control: Ollama '{arm}' against itself, {sample_size.control_rounds} rounds:"
        f" their ratios scatter by {sample_size.round_cv:.1%}"
    )
    if sample_size.rounds is None:
        console.text(
            "at that noise no number of rounds that a weekend holds tells the target from what lies just above it"
        )
        return
    lasting = f", {about(sample_size.total_s)}" if sample_size.total_s else ""
    console.text(
        f"to tell {sample_size.alternative_ratio:.2f}x from {sample_size.target_ratio:.2f}x with"
        f" {sample_size.error:.0%} error both ways: {sample_size.rounds} rounds of {arms} arms{lasting}:"
        f" fab bench --runs {sample_size.rounds}"
    )


def _too_few(found: str) -> StepError:
    from reports.stats.rounds import FEWEST_ROUNDS

    return StepError(f"{found} tell no noise", f"{FEWEST_ROUNDS} rounds", "fab bench --control --runs 6", who="control")


def concurrency(lab: Lab, levels: str) -> None:
    """Send several requests at once to every arm; show aggregate rates and where texts differ from a single one's.

    EXO 0.0.15 answers wrongly from three at once on, with HTTP 200. Raises StepError where an arm does not answer.
    """
    ensure_script(lab.bench_node)
    file = lab.logs / CONCURRENCY_NAME
    if file.exists():
        console.text(f"    the earlier experiment lies in {archive(lab.logs, [file])}")
    step, pair = plan.step_named("bench-comparison"), lab.profile.models.small
    job = job_for(lab, step, pair, ["exo", *lab.inventory.ollama], 1)
    job = msgspec.structs.replace(job, samples=file, label=f"concurrency-{job.label}")
    ran = run_script(lab, job, [*script_options(lab, job), "--concurrency", levels])
    console.text(ran.stderr.rstrip())
    if not ran.ok:
        raise _no_answers(file, job.arms)


def _no_answers(file: Path, arms: Sequence[str]) -> StepError:
    """Return the error that names the arms of which some number of requests at once got no answer at all."""
    samples = read_samples(file)[0]
    whole = {(sample.arm, sample.concurrency) for sample in samples if sample.error is None}
    failed = {s.arm: s.error for s in samples if s.error and (s.arm, s.concurrency) not in whole}
    causes = {arm: failed[arm] or "" for arm in arms if arm in failed}
    return one_each(
        causes or {"concurrency": "the script ended with an error, see above"},
        "an answer of every arm at every number of requests",
        "fab verify-cluster; then the same command again",
    )


def _twinned(inventory: Inventory, arm: str) -> Inventory:
    """Return the inventory with one baseline under two names and nothing else to measure."""
    return msgspec.structs.replace(inventory, ollama=dict.fromkeys(CONTROL_ARMS, inventory.ollama[arm]))
