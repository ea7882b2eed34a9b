"""Run a schedule of benchmark runs: one side loaded at a time, every finished request on disk, resumable at any point.

The script on the bench node measures; here is only what surrounds a run: who is in memory, what is noted, what is
already done (tasks.benchmark.job).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

import msgspec

from records.facts import OllamaModel
from records.samples import Conditions, Sample, append_conditions, append_sample, read_samples
from records.settings import ports_of
from scripts.benchmark_exo_vs_ollama import schedule
from tasks.benchmark.arms import ExoSide, alone, conditions, ollama_in_memory, unload_ollama
from tasks.benchmark.instrument import ensure_script, script_command
from tasks.benchmark.job import Job, take_up, timed_count
from tasks.benchmark.progress import Progress
from tasks.errors import StepError
from tasks.exo.cluster import cluster_now
from tasks.gpu.busy import GpuWatch
from tasks.machines.lab import Lab
from tasks.machines.node import CommandResult


class Measured(msgspec.Struct, frozen=True):
    """What a schedule left behind."""

    order: list[str]
    resumed: int
    ollama: dict[str, OllamaModel]
    """What each baseline said of its model while it was loaded."""


def measure(lab: Lab, job: Job) -> Measured:
    """Run the whole schedule of `job`, or what is missing of it. Raises StepError; what was measured stays."""
    ensure_script(lab.bench_node)
    bench = lab.inventory.bench
    order = [one for one in schedule(job.arms, job.planned, bench.seed) if one[1] <= job.runs]
    done = take_up(lab, job)
    left = [one for one in order if timed_count(done.get(one, [])) < bench.requests]
    course = ScheduleRun(lab, job, Progress(left, job.runs, bench.warmups + bench.requests))
    for arm, run in left:
        course.one_run(arm, run, [sample.request for sample in done.get((arm, run), [])])
    course.unload_all()
    return Measured([f"{arm}:{run}" for arm, run in order], len(order) - len(left), course.loaded)


class ScheduleRun:
    """One call's way through a schedule: which side is in memory, what was seen of it, who is told."""

    def __init__(self, lab: Lab, job: Job, progress: Progress) -> None:
        self.lab = lab
        self.job = job
        self.progress = progress
        self.exo = ExoSide(lab, job.pair) if "exo" in job.arms else None
        self.loaded: dict[str, OllamaModel] = {}

    def one_run(self, arm: str, run: int, finished: list[int]) -> None:
        """Load one side alone, measure what its run lacks beyond the `finished` requests, note what surrounded it."""
        self.progress.begin(arm, run)
        still, reload_s = alone(self.lab, arm, self.exo, self.job.pair.ollama)
        exo = self.exo if arm == "exo" else None
        reload_s += exo.refresh() if exo else 0.0
        how = exo.reload if exo else self.lab.inventory.bench.ollama_reload
        noted = conditions(self.lab, arm, run, how, reload_s, still)
        if exo:
            exo.load()
        with GpuWatch(self.lab) as watch:
            samples = self._ask_script(arm, run, finished)
        noted = msgspec.structs.replace(self._seen_after(arm, noted), gpu_busy_percent=watch.busy)
        append_conditions(self.job.conditions, noted)
        self.progress.end(arm, run, samples)

    def unload_all(self) -> None:
        """Leave no side in memory."""
        if self.exo is not None:
            self.exo.refresh()
        for arm in self.job.arms:
            if arm != "exo":
                unload_ollama(self.lab, arm, self.job.pair.ollama)

    def _seen_after(self, arm: str, noted: Conditions) -> Conditions:
        if arm == "exo":
            return msgspec.structs.replace(noted, topology_complete_after=cluster_now(self.lab))
        model = ollama_in_memory(self.lab, arm, self.job.pair.ollama)
        if model is None:
            return noted
        self.loaded[arm] = model
        return msgspec.structs.replace(
            noted, ollama_size_bytes=model.size_bytes, ollama_size_vram_bytes=model.size_vram_bytes
        )

    def _ask_script(self, arm: str, run: int, finished: list[int]) -> list[Sample]:
        lab, job = self.lab, self.job
        options = [*script_options(lab, job), "--only", f"{arm}:{run}", "--no-unload-after"]  # /api/ps is read first
        if arm != "exo":
            options += ["--reload", f"{arm}={lab.inventory.bench.ollama_reload}"]
        if finished:
            options += ["--skip-requests", ",".join(map(str, finished))]
        ran = run_script(lab, job, options, self.progress.request)
        samples = _samples_of(job, arm, run)
        if not ran.ok and not any(not s.error for s in samples):
            told = [s.error for s in samples if s.error] or (ran.stderr.strip() or "no word").splitlines()[-1:]
            found = f"{arm}: run {run} gave no good sample: {str(told[-1])[:300]}"
            raise StepError(found, "answers", f"fab {job.step.name} takes up from here", who=arm)
        return samples


def run_script(lab: Lab, job: Job, options: list[str], tell: Callable[[Sample], None] | None = None) -> CommandResult:
    """Have the script measure; every line it prints is on disk before the next one is read, then told to `tell`.

    Raises StepError.
    """
    bench, node = lab.inventory.bench, lab.bench_node
    budget_s = (bench.requests + bench.warmups) * bench.request_timeout_s + 60
    stray: list[str] = []

    def keep(line: str) -> None:
        if not line.strip():
            return
        try:
            sample = append_sample(job.samples, line.encode())
        except msgspec.DecodeError:
            stray.append(line)
            return
        if tell is not None:
            tell(sample)

    command = f"{script_command(node)} {shlex.join(options)}"
    ran = node.run(command, check=False, timeout_s=budget_s, on_line=keep)
    if stray:
        found = f"the script printed no sample: {stray[0][:200]}"
        raise StepError(f"{found}", "JSON lines", "fab create-benchmark", who=node.key)
    return ran


def script_options(lab: Lab, job: Job) -> list[str]:
    """Return the options that tell the script the arms and settings of a job, samples going to its stdout."""
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
