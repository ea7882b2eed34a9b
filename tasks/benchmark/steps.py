"""Group `bench`, steps 9 to 13: the models, the instrument, the baseline, the comparison, and 32B if that passed."""

from __future__ import annotations

from records import plan
from records.archive import archive_step
from records.campaign import load_campaign
from records.facts import Benchmark, ModelReady, Skipped
from records.record import Record, decoded_result
from tasks import console
from tasks.benchmark.comparison import benchmark_record, compare, summary_of
from tasks.benchmark.instrument import create_benchmark
from tasks.benchmark.job import Job, begin_anew, finished, job_for, usual_runs
from tasks.benchmark.measure import measure
from tasks.benchmark.models import download_model, make_ready
from tasks.benchmark.outlook import say_outlook
from tasks.command_line import at_most_one, check_bench, whole_number
from tasks.errors import NothingDoneError, all_of
from tasks.machines.lab import Lab
from tasks.steps import StepNotes, step

BASELINE, COMPARISON, SCALE_UP = map(plan.step_named, ("bench-baseline", "bench-comparison", "bench-scale-up"))


@step
def bench_baseline(lab: Lab, notes: StepNotes, runs: str = "", anyway: bool = False, fresh: bool = False) -> Benchmark:
    """Measure single-node Ollama alone."""
    if fresh:
        begin_anew(lab, [BASELINE])
    job = _job(lab, BASELINE, runs)
    if (record := finished(job)) is not None:
        return kept(notes, record)
    notes.deviation(
        "run the script (which asks EXO as well) three times and note the best rate",
        f"{job.runs} freshly loaded runs of each Ollama in interleaved order, every request kept",
        "the best of three requests after one load says nothing about the next load",
    )
    measured = measure(lab, job, anyway=anyway)
    notes.summary = summary_of(job, measured)
    return benchmark_record(lab, "small", job, measured, {}, {})


@step
def bench_comparison(
    lab: Lab,
    notes: StepNotes,
    runs: str = "",
    until_decided: bool = False,
    anyway: bool = False,
    fresh: bool = False,
) -> Benchmark:
    """Measure EXO and Ollama in one interleaved schedule."""
    at_most_one({"--runs": runs, "--until-decided": until_decided})
    if fresh:
        begin_anew(lab, [COMPARISON])
    job = _job(lab, COMPARISON, runs, until_decided=until_decided)
    if (record := finished(job)) is not None:
        return kept(notes, record)
    how_many = "6, 12 or 18 rounds, as it takes," if until_decided else f"{job.runs} rounds"
    notes.deviation(
        "run the script once, all of one arm and then all of the other, five requests each",
        f"{how_many} of one run of every arm in ABBA order, the arm that does not run unloaded and that verified",
        "one arm after the other lets a drift decide (10-25 % false GO), and five requests of one load are one run",
    )
    pair, baselines = lab.profile.models.small, lab.inventory.ollama
    how = {"until_decided": until_decided, "anyway": anyway}
    return compare(lab, notes, "bench-comparison", "small", pair, baselines, job.runs, **how)


@step
def bench_scale_up(
    lab: Lab, notes: StepNotes, runs: str = "", anyway: bool = False, fresh: bool = False
) -> Benchmark | Skipped:
    """Repeat with the large model, only if the comparison said GO."""
    verdict = _verdict(lab)
    if verdict != "GO":
        archive_step(lab.logs, SCALE_UP)  # of an earlier comparison, which said GO
        return Skipped(f"step 12 ended in {verdict}; the plan goes on only if it passed")
    if fresh:
        begin_anew(lab, [SCALE_UP])
    job = _job(lab, SCALE_UP, runs)
    if (record := finished(job)) is not None:
        return kept(notes, record)
    pair = lab.profile.models.large
    notes.deviation(
        "exo download qwen2.5-coder:32b, distributed across the cluster",
        f"EXO `{pair.exo}` ({pair.exo_precision}) against Ollama `{pair.ollama}` on every baseline that has it",
        "no release of EXO spreads a 32B model over Linux nodes as the plan has it; see the profile in hosts.yaml",
    )
    ready: ModelReady = make_ready(lab, notes, "large", pair, every_baseline=False, anyway=anyway)
    lacking = [arm for arm in lab.inventory.ollama if arm not in ready.ollama]
    for arm in lacking:
        notes.warn(f"{arm}: its Ollama has no {pair.ollama}, so there is no ratio against it")
    return compare(lab, notes, "bench-scale-up", "large", pair, ready.ollama, job.runs, anyway=anyway)


def bench_group(
    lab: Lab,
    runs: str = "",
    *,
    until_decided: bool = False,
    control: bool = False,
    concurrency: str = "",
    spread: bool = False,
    anyway: bool = False,
    fresh: bool = False,
) -> None:
    """Run steps 9 to 13, or one of the experiments beside them. Options that exclude each other end with exit 2.

    A campaign that has come to its end stays as it is, and no machine is asked. What could only end INVALID is
    refused, unless `anyway`. Raises StepError.
    """
    from tasks.benchmark import experiments
    from tasks.benchmark.spread import spread as measure_spread

    check_bench(runs, until_decided=until_decided, control=control, concurrency=concurrency, spread=spread)
    if control:
        experiments.control(lab, whole_number("runs", runs), fresh=fresh)
        return
    if spread:
        measure_spread(lab, whole_number("runs", runs))
        return
    if concurrency:
        experiments.concurrency(lab, concurrency)
        return
    if fresh:
        begin_anew(lab, [BASELINE, COMPARISON, SCALE_UP])
    all_there = _all_there(lab, runs, until_decided=until_decided)
    if not all_there:
        say_outlook(lab, None if until_decided else whole_number("runs", runs) or lab.inventory.bench.runs)
        download_model(lab, anyway=anyway)
        create_benchmark(lab, anyway=anyway)
    bench_baseline(lab, anyway=anyway)
    bench_comparison(lab, runs=runs, until_decided=until_decided, anyway=anyway)
    bench_scale_up(lab, anyway=anyway)
    if all_there:
        console.text("this campaign is finished and stays as it is; a new one: fab bench --fresh")


def kept(notes: StepNotes, record: Record) -> Benchmark:
    """Let the finished measurement of `record` stand; returns it."""
    notes.keep(record)
    result = decoded_result(record)
    assert isinstance(result, Benchmark)
    return result


def _all_there(lab: Lab, runs: str, *, until_decided: bool) -> bool:
    """Tell whether steps 11, 12 and 13 have come to their end. Raises NothingDoneError for another job's samples."""
    jobs = [_job(lab, BASELINE, ""), _job(lab, COMPARISON, runs, until_decided=until_decided)]
    if _verdict(lab) == "GO":
        jobs.append(_job(lab, SCALE_UP, ""))
    done, refused = [], []
    for job in jobs:
        try:
            done.append(finished(job) is not None)
        except NothingDoneError as error:
            refused.append(error)
    if refused:
        raise all_of(refused)
    return all(done)


def _job(lab: Lab, step: plan.PlanStep, runs: str, *, until_decided: bool = False) -> Job:
    """Return what a step is asked to measure; where no option says how much, what it has measured to the end before."""
    from reports.verdict.rule import LOOKS

    bench, count = lab.inventory.bench, whole_number("runs", runs)
    pair = lab.profile.models.large if step == SCALE_UP else lab.profile.models.small
    arms = [*lab.inventory.ollama] if step == BASELINE else ["exo", *lab.inventory.ollama]
    before = load_campaign(lab.logs).benchmark(step.number)
    if before is not None and step == SCALE_UP:
        arms = before.arms  # a baseline may lack the large model
    if before is not None and count is None and not until_decided:
        count, until_decided = before.runs, before.until_decided
    if until_decided:
        return job_for(lab, step, pair, arms, LOOKS[-1], LOOKS[-1])
    return job_for(lab, step, pair, arms, count or usual_runs(bench, step))


def _verdict(lab: Lab) -> str:
    from reports.verdict.decision import decide

    return decide(load_campaign(lab.logs)).verdict
