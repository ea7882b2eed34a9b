"""Group `bench`, steps 9 to 13: the models, the instrument, the baseline, the comparison, and 32B if that passed."""

from __future__ import annotations

from records import plan
from records.archive import archive_step
from records.facts import Benchmark, ModelReady, Skipped
from tasks.benchmark.comparison import benchmark_record, compare, summary_of
from tasks.benchmark.instrument import create_benchmark
from tasks.benchmark.job import job_for
from tasks.benchmark.measure import measure
from tasks.benchmark.models import download_model, make_ready
from tasks.command_line import at_most_one, whole_number
from tasks.machines.lab import Lab
from tasks.steps import StepNotes, step


@step
def bench_baseline(lab: Lab, notes: StepNotes, runs: str = "") -> Benchmark:
    """Measure single-node Ollama alone."""
    count = whole_number("runs", runs) or lab.inventory.bench.baseline_runs
    pair = lab.profile.models.small
    notes.deviation(
        "run the script (which asks EXO as well) three times and note the best rate",
        f"{count} freshly loaded runs of each Ollama in interleaved order, every request kept",
        "the best of three requests after one load says nothing about the next load",
    )
    job = job_for(lab, plan.step_named("bench-baseline"), pair, lab.inventory.ollama, count)
    measured = measure(lab, job)
    notes.summary = summary_of(job, measured)
    return benchmark_record(lab, "small", job, measured, {}, {})


@step
def bench_comparison(lab: Lab, notes: StepNotes, runs: str = "", until_decided: bool = False) -> Benchmark:
    """Measure EXO and Ollama in one interleaved schedule."""
    at_most_one({"--runs": runs, "--until-decided": until_decided})
    count = whole_number("runs", runs) or lab.inventory.bench.runs
    how_many = "6, 12 or 18 runs an arm, as it takes," if until_decided else f"{count} runs an arm"
    notes.deviation(
        "run the script once, all of one arm and then all of the other, five requests each",
        f"{how_many} in ABBA order with a seeded start, the arm that does not run unloaded and that verified",
        "one arm after the other lets a drift decide (10-25 % false GO), and five requests of one load are one run",
    )
    pair, baselines = lab.profile.models.small, lab.inventory.ollama
    return compare(lab, notes, "bench-comparison", "small", pair, baselines, count, until_decided=until_decided)


@step
def bench_scale_up(lab: Lab, notes: StepNotes, runs: str = "") -> Benchmark | Skipped:
    """Repeat with the large model, only if the comparison said GO."""
    from records.campaign import load_campaign
    from reports.verdict.decision import decide

    verdict = decide(load_campaign(lab.logs)).verdict
    if verdict != "GO":
        archive_step(lab.logs, plan.step_named("bench-scale-up"))  # of an earlier comparison, which said GO
        return Skipped(f"step 12 ended in {verdict}; the plan goes on only if it passed")
    count = whole_number("runs", runs) or lab.inventory.bench.baseline_runs
    pair = lab.profile.models.large
    notes.deviation(
        "exo download qwen2.5-coder:32b, distributed across the cluster",
        f"EXO `{pair.exo}` ({pair.exo_precision}) against Ollama `{pair.ollama}` on every baseline that has it",
        "no release of EXO spreads a 32B model over Linux nodes as the plan has it; see the profile in hosts.yaml",
    )
    ready: ModelReady = make_ready(lab, notes, "large", pair, every_baseline=False)
    lacking = [arm for arm in lab.inventory.ollama if arm not in ready.ollama]
    for arm in lacking:
        notes.warn(f"{arm}: its Ollama has no {pair.ollama}, so there is no ratio against it")
    return compare(lab, notes, "bench-scale-up", "large", pair, ready.ollama, count)


def bench_group(
    lab: Lab, runs: str = "", *, until_decided: bool = False, control: bool = False, concurrency: str = ""
) -> None:
    """Run steps 9 to 13, or one of the experiments beside them. Options that exclude each other end with exit 2."""
    from tasks.benchmark import experiments

    count = whole_number("runs", runs)  # before an hour of work, not after it
    at_most_one({"--until-decided": until_decided, "--control": control, "--concurrency": concurrency})
    at_most_one({"--runs": count, "--until-decided": until_decided, "--concurrency": concurrency})
    if control:
        experiments.control(lab, count)
        return
    if concurrency:
        experiments.concurrency(lab, concurrency)
        return
    download_model(lab)
    create_benchmark(lab)
    bench_baseline(lab)
    bench_comparison(lab, runs=runs, until_decided=until_decided)
    bench_scale_up(lab)
