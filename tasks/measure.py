"""Run a schedule of benchmark runs: one side loaded at a time, every finished request on disk, resumable at any point.

The script on the bench node measures; here is only what surrounds a run: who is in memory, what is noted, what is
already done. A schedule that was interrupted is taken up at the first request that is missing; one that had finished is
moved to `archive/` and never overwritten.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from reports.bench_facts import OllamaModel
from reports.plan import PlanStep
from reports.samples import Sample, append_conditions, append_sample, read_samples
from scripts.benchmark_exo_vs_ollama import schedule
from tasks import say
from tasks.cluster import cluster_now
from tasks.errors import StepError
from tasks.hosts import Pair, ports_of
from tasks.instrument import ensure_script, script_command
from tasks.inventory import campaign_id
from tasks.lab import Lab
from tasks.node import Ran
from tasks.sides import ExoSide, alone, conditions, ollama_in_memory, unload_ollama
from tasks.watch import GpuWatch


class Job(msgspec.Struct, frozen=True):
    """What is to be measured: the plan's step that asks, the pair, the arms, how many runs of each."""

    step: PlanStep
    pair: Pair
    arms: tuple[str, ...]
    runs: int
    samples: Path
    conditions: Path
    label: str
    """Identity of the campaign in every sample; another setting gives another label."""
    planned: int
    """Runs of each arm that the schedule is drawn for; `runs` of them are measured now (looks: 6, 12 or 18 of 18)."""


class Measured(msgspec.Struct, frozen=True):
    """What a schedule left behind."""

    order: list[str]
    resumed: int
    ollama: dict[str, OllamaModel]
    """What each baseline said of its model while it was loaded."""


def job_for(lab: Lab, step: PlanStep, pair: Pair, arms: Iterable[str], runs: int, planned: int | None = None) -> Job:
    """Return the job of one plan step, with its files and its label."""
    named = tuple(arms)
    how_many = f"{runs}" if planned is None else f"until-{planned}"
    label = f"{campaign_id(lab.inventory)}-{step.number}-{pair.exo}-{'+'.join(named)}-{how_many}"
    files = (lab.logs / step.samples_name, lab.logs / step.conditions_name)
    return Job(step, pair, named, runs, *files, label, planned or runs)


def measure(lab: Lab, job: Job) -> Measured:
    """Run the whole schedule of `job`, or what is missing of it. Raises StepError; what was measured stays."""
    ensure_script(lab.bench_node)
    order = [one for one in schedule(job.arms, job.planned, lab.inventory.bench.seed) if one[1] <= job.runs]
    done = take_up(lab, job)
    exo = ExoSide(lab, job.pair) if "exo" in job.arms else None
    loaded: dict[str, OllamaModel] = {}
    resumed = 0
    begin = time.monotonic()
    for position, (arm, run) in enumerate(order):
        there = done.get((arm, run), [])
        if _timed(there) >= lab.inventory.bench.requests:
            resumed += 1
            continue
        _one_run(lab, job, exo, arm, run, [sample.request for sample in there], loaded)
        spent_s = time.monotonic() - begin
        left_s = spent_s / (position + 1 - resumed) * (len(order) - position - 1)
        say.note(arm, f"run {run} of {job.runs} done ({position + 1}/{len(order)}, about {left_s:.0f} s left)")
    if exo is not None:
        exo.refresh()
    for arm in job.arms:
        if arm != "exo":
            unload_ollama(lab, arm, job.pair.ollama)
    return Measured([f"{arm}:{run}" for arm, run in order], resumed, loaded)


def take_up(lab: Lab, job: Job) -> dict[tuple[str, int], list[Sample]]:
    """Return what an interrupted call of this very job measured, by (arm, run), warm-ups and failures included.

    Samples of another job, or of this one when it is complete, are moved to the archive first. A request that failed
    is finished all the same: doing it again until it succeeds would hide how often it fails.
    """
    samples, _ = read_samples(job.samples)
    if not samples:
        return {}
    done: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        if sample.campaign == job.label:
            done.setdefault((sample.arm, sample.run), []).append(sample)
    wanted = lab.inventory.bench.requests
    runs = [(arm, run) for arm in job.arms for run in range(1, job.runs + 1)]
    complete = job.runs == job.planned and all(_timed(done.get(one, [])) >= wanted for one in runs)
    if complete or any(s.campaign != job.label for s in samples):
        archive_job(lab, job)
        return {}
    say.note("", f"taking up an interrupted campaign: {len(samples)} requests are there already")
    return done


def _timed(samples: Sequence[Sample]) -> int:
    return sum(not sample.warmup for sample in samples)


def archive_job(lab: Lab, job: Job) -> None:
    """Move everything a job has measured, and its step's record, to the archive."""
    archive(lab.logs, [job.samples, job.conditions, lab.logs / job.step.record_name])


def archive(logs: Path, files: Sequence[Path]) -> Path:
    """Move `files` into a folder of their own below `archive/`, named by the time; nothing is ever overwritten."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = logs / "archive" / stamp
    folder.mkdir(parents=True)
    for file in files:
        if file.exists():
            file.rename(folder / file.name)
    return folder


def _one_run(
    lab: Lab,
    job: Job,
    exo: ExoSide | None,
    arm: str,
    run: int,
    finished: list[int],
    loaded: dict[str, OllamaModel],
) -> None:
    still, reload_s = alone(lab, arm, exo, job.pair.ollama)
    how = lab.inventory.bench.ollama_reload
    if arm == "exo":
        assert exo is not None
        reload_s += exo.refresh()
        how = exo.reload  # type: ignore[assignment]
    noted = conditions(lab, arm, run, how, reload_s, still)
    if exo is not None and arm == "exo":
        exo.load()
    with GpuWatch(lab) as watch:
        _measure_run(lab, job, arm, run, finished)
    if arm == "exo":
        noted = msgspec.structs.replace(noted, topology_complete_after=cluster_now(lab))
    else:
        model = ollama_in_memory(lab, arm, job.pair.ollama)
        if model is not None:
            loaded[arm] = model
            noted = msgspec.structs.replace(
                noted, ollama_size_bytes=model.size_bytes, ollama_size_vram_bytes=model.size_vram_bytes
            )
    append_conditions(job.conditions, msgspec.structs.replace(noted, gpu_busy_percent=watch.busy))


def _measure_run(lab: Lab, job: Job, arm: str, run: int, finished: list[int]) -> None:
    options = [*script_options(lab, job), "--only", f"{arm}:{run}", "--no-unload-after"]  # /api/ps is read first
    if arm != "exo":
        options += ["--reload", f"{arm}={lab.inventory.bench.ollama_reload}"]
    if finished:
        options += ["--skip-requests", ",".join(map(str, finished))]
    ran = run_script(lab, job, options)
    samples = _samples_of(job, arm, run)
    if not ran.ok and not any(not s.error for s in samples):
        told = [s.error for s in samples if s.error] or (ran.stderr.strip() or "no word").splitlines()[-1:]
        found = f"{arm}: run {run} gave no good sample: {str(told[-1])[:300]}"
        raise StepError(arm, found, "answers", f"fab {job.step.name} takes up from here")


def run_script(lab: Lab, job: Job, options: list[str]) -> Ran:
    """Have the script measure; every line it prints is on disk before the next one is read. Raises StepError."""
    bench, node = lab.inventory.bench, lab.bench_node
    budget_s = (bench.requests + bench.warmups) * bench.request_timeout_s + 60
    stray: list[str] = []

    def keep(line: str) -> None:
        if not line.strip():
            return
        try:
            append_sample(job.samples, line.encode())
        except msgspec.DecodeError:
            stray.append(line)

    command = f"{script_command(node)} {shlex.join(options)}"
    ran = node.run(command, check=False, timeout_s=budget_s, on_line=keep)
    if stray:
        found = f"the script printed no sample: {stray[0][:200]}"
        raise StepError(node.key, f"{node.key}: {found}", "JSON lines", "fab create-benchmark")
    return ran


def script_options(lab: Lab, job: Job) -> list[str]:
    """Return the options that tell the script the sides and settings of a job, samples going to its stdout."""
    bench = lab.inventory.bench
    options: list[str] = []
    for name in job.arms:
        if name == "exo":
            url = f"http://{lab.addresses()[bench.node]}:{ports_of(lab.profile.exo, bench.node).api}"
            options += ["--exo", f"exo={url}", "--exo-model", job.pair.exo]
        else:
            options += ["--ollama", f"{name}={lab.inventory.ollama[name].url}"]
    options += ["--model", job.pair.ollama, "--runs", str(job.planned), "--requests", str(bench.requests)]
    options += ["--warmup", str(bench.warmups), "--max-tokens", str(bench.max_tokens), "--seed", str(bench.seed)]
    return [*options, "--timeout", f"{bench.request_timeout_s:g}", "--campaign", job.label, "--samples", "-"]


def _samples_of(job: Job, arm: str, run: int) -> list[Sample]:
    return [s for s in read_samples(job.samples)[0] if (s.arm, s.run, s.campaign) == (arm, run, job.label)]
