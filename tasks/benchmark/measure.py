"""Run a schedule of benchmark runs: one arm loaded at a time, every finished request on disk, resumable at any point.

The script on the bench node measures; here is only what surrounds a run: who is in memory, under which conditions it
runs, what is already done (tasks.benchmark.job).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

import msgspec

from records.facts import OllamaModel
from records.samples import Conditions, Sample, append_conditions, append_sample
from scripts.benchmark_exo_vs_ollama import schedule
from tasks.benchmark.arms import ExoArm, alone, conditions_before
from tasks.benchmark.instrument import ensure_script, script_command
from tasks.benchmark.job import Job, take_up, timed_count
from tasks.benchmark.progress import Progress
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.gpu.busy import GpuWatch
from tasks.machines.lab import Lab
from tasks.machines.node import CommandResult
from tasks.ollama.servers import servers_of


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
    order = [(arm, run) for arm, run in schedule(job.arms, job.planned, bench.seed) if run <= job.runs]
    done = take_up(job, bench.requests)
    left = [turn for turn in order if timed_count(done.get(turn, [])) < bench.requests]
    schedule_run = ScheduleRun(lab, job, Progress(left, job.runs, bench.warmups + bench.requests))
    for arm, run in left:
        schedule_run.one_run(arm, run, done.get((arm, run), []))
    schedule_run.unload_all()
    return Measured([f"{arm}:{run}" for arm, run in order], len(order) - len(left), schedule_run.loaded)


class ScheduleRun:
    """One call's way through a schedule: which arm is in memory, what was seen of it, who is told."""

    def __init__(self, lab: Lab, job: Job, progress: Progress) -> None:
        self.lab = lab
        self.job = job
        self.progress = progress
        self.exo = ExoArm(lab, job.pair) if "exo" in job.arms else None
        self.servers = servers_of(lab)
        self.loaded: dict[str, OllamaModel] = {}

    def one_run(self, arm: str, run: int, finished: list[Sample]) -> None:
        """Load one arm alone, measure what its run lacks beyond the `finished` requests, keep its conditions."""
        self.progress.begin(arm, run)
        still, reload_s = alone(self.lab, arm, self.exo, self.job.pair.ollama)
        exo = self.exo if arm == "exo" else None
        reload_s += exo.refresh() if exo else 0.0
        how = exo.reload if exo else self.lab.inventory.bench.ollama_reload
        conditions = conditions_before(self.lab, arm, run, how, reload_s, still)
        if exo:
            exo.load()
        with GpuWatch(self.lab.nodes.values()) as watch:
            samples = self._ask_script(arm, run, finished)
        conditions = msgspec.structs.replace(self._conditions_after(arm, conditions), gpu_busy_percent=watch.busy)
        append_conditions(self.job.conditions, conditions)
        self.progress.end(arm, run, samples)

    def unload_all(self) -> None:
        """Leave no arm in memory."""
        if self.exo is not None:
            self.exo.refresh()
        for arm in self.job.arms:
            if arm != "exo":
                self.servers[arm].unload(self.job.pair.ollama)

    def _conditions_after(self, arm: str, conditions: Conditions) -> Conditions:
        if arm == "exo" and self.exo is not None:
            return msgspec.structs.replace(conditions, topology_complete_after=self.exo.cluster.complete_now())
        model = self.servers[arm].in_memory(self.job.pair.ollama)
        if model is None:
            return conditions
        self.loaded[arm] = model
        return msgspec.structs.replace(
            conditions, ollama_size_bytes=model.size_bytes, ollama_size_vram_bytes=model.size_vram_bytes
        )

    def _ask_script(self, arm: str, run: int, finished: list[Sample]) -> list[Sample]:
        lab, job = self.lab, self.job
        options = run_options(lab, job, arm, run)
        if finished:
            options += ["--skip-requests", ",".join(str(sample.request) for sample in finished)]
        samples = [*finished]

        def take(sample: Sample) -> None:
            samples.append(sample)
            self.progress.request(sample)

        ran = run_script(lab, job, options, take)
        if not ran.ok and not any(not s.error for s in samples):
            causes = [s.error for s in samples if s.error] or (ran.stderr.strip() or "no word").splitlines()
            raise StepError(
                f"run {run} gave no good sample: {causes[-1][:300]}",
                "answers",
                f"fab {job.step.name} takes up from here",
                who=arm,
            )
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
        raise StepError(
            f"the script printed no sample: {stray[0][:200]}", "JSON lines", "fab create-benchmark", who=node.key
        )
    return ran


def run_options(lab: Lab, job: Job, arm: str, run: int) -> list[str]:
    """Return the options that have the script measure one run of one arm."""
    options = [*script_options(lab, job), "--only", f"{arm}:{run}", "--no-unload-after"]  # /api/ps is read first
    return options if arm == "exo" else [*options, "--reload", f"{arm}={lab.inventory.bench.ollama_reload}"]


def script_options(lab: Lab, job: Job) -> list[str]:
    """Return the options that tell the script the arms and settings of a job, samples going to its stdout."""
    bench = lab.inventory.bench
    options: list[str] = []
    for arm in job.arms:
        if arm == "exo":
            entry = ExoCluster(lab).entry
            options += ["--exo", f"exo=http://{entry.address}:{entry.ports.api}", "--exo-model", job.pair.exo]
        else:
            options += ["--ollama", f"{arm}={lab.inventory.ollama[arm].url}"]
    options += ["--model", job.pair.ollama, "--runs", str(job.planned), "--requests", str(bench.requests)]
    options += ["--warmup", str(bench.warmups), "--max-tokens", str(bench.max_tokens), "--seed", str(bench.seed)]
    return [*options, "--timeout", f"{bench.request_timeout_s:g}", "--campaign", job.label, "--samples", "-"]
