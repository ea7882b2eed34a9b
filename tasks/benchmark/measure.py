"""Run a schedule of benchmark runs: one arm loaded at a time, every finished request on disk, resumable at any point.

The script on the bench node measures; here is only what surrounds a run: who is in memory, under which conditions it
runs, what is already done (tasks.benchmark.job).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from records.samples import Conditions, LoadedModel, Sample, append_conditions, append_sample, each_sample
from records.settings import Settings, settings_carried
from reports.checks.check import Check
from reports.checks.memory import kept_its_engine, strangers
from scripts.benchmark_exo_vs_ollama import schedule
from tasks import console
from tasks.benchmark.arms import ExoArm, alone, conditions_before, engines_of, memory_of
from tasks.benchmark.instrument import ensure_script, script_command
from tasks.benchmark.job import NOTHING, Job, Turn, archive_job, take_up, timed_count
from tasks.benchmark.progress import Progress
from tasks.benchmark.ring import RingWatch
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.gpu.busy import GpuWatch
from tasks.machines import survey
from tasks.machines.lab import Lab
from tasks.machines.node import CommandResult, Node
from tasks.machines.paths import script_path
from tasks.ollama.api import LOOK
from tasks.ollama.servers import OllamaError, servers_of

SERVER_BACK_S = 60.0
"""How long a server that went away in a run may take to answer again before the run is given up."""


class Measured(msgspec.Struct, frozen=True):
    """What a schedule left behind."""

    job: Job
    """As it was gone through: its label tells when it began."""
    order: list[str]
    resumed: int
    ollama: dict[str, LoadedModel]
    """What each baseline held of its model while it was loaded."""
    versions: dict[str, list[str]]
    """Arm -> its server's version before the first run and after the last."""


def measure(lab: Lab, job: Job, *, anyway: bool = False) -> Measured:
    """Run the whole schedule of `job`, or what is missing of it. Raises StepError; what was measured stays.

    It stops as soon as the campaign can only be INVALID, unless `anyway`.
    """
    end_orphans(lab.bench_node)
    ensure_script(lab.bench_node)
    bench = lab.inventory.bench
    if not anyway and fatal_so_far(lab, job):
        console.note("", "what an earlier call left can only be INVALID: it goes to the archive")
        archive_job(job)
    job, done = take_up(job, bench.requests)
    order = turns_in_order(job, bench.seed)
    left = [turn for turn in order if not done.get(turn, NOTHING).over]
    schedule_run = ScheduleRun(lab, job, Progress(left, job.runs, bench.warmups + bench.requests))
    before = schedule_run.versions()
    schedule_run.unload_all()  # whoever pins a model is named before anything is measured
    for place, (arm, run) in enumerate(left, start=1):
        schedule_run.one_run(arm, run, done.get((arm, run), NOTHING))
        if all(later != run for _, later in left[place:]):
            schedule_run.progress.end_of_round(run)
        if not anyway and (fatal := fatal_so_far(lab, job)):
            raise _only_invalid(job, fatal)
    schedule_run.unload_all()
    after = schedule_run.versions()
    versions = {arm: [told, after[arm]] for arm, told in before.items()}
    names = [f"{arm}:{run}" for arm, run in order]
    return Measured(job, names, len(order) - len(left), schedule_run.loaded, versions)


def end_orphans(node: Node) -> None:
    """End a script of ours that an interrupted call or a lost link has left at work: it would load what is measured.

    Nobody else's can be there: this call holds the node's lock.
    """
    path = script_path(node)
    orphans = [process for process in survey.survey(node) if path in process.argv]
    for ended in survey.end(node, orphans):
        console.note(node.key, f"ended the script of an interrupted call (PID {ended.pid})")


def fatal_so_far(lab: Lab, job: Job) -> list[Check]:
    """Return the checks that no further run can mend of what a step has measured; the control's are its own."""
    from records.campaign import COMPARISON_STEP, load_campaign
    from reports.checks.catalogue import BEYOND_REPAIR

    if job.samples.name != job.step.samples_name:
        return []
    campaign, step = load_campaign(lab.logs), job.step.number
    settings = msgspec.convert(settings_carried(lab.inventory), Settings)
    campaign = msgspec.structs.replace(  # the step's record is that of an earlier measurement, or there is none yet
        campaign,
        records={number: record for number, record in campaign.records.items() if number != step},
        results={number: result for number, result in campaign.results.items() if number != step},
        settings_by_step=dict.fromkeys((*campaign.settings_by_step, COMPARISON_STEP, step), settings),
    )
    return [found for check in BEYOND_REPAIR if (found := check(campaign, step)).status == "fatal"]


def _only_invalid(job: Job, fatal: Sequence[Check]) -> StepError:
    return StepError(
        f"from here on the verdict can only be INVALID: {'; '.join(f'{c.name}: {c.evidence}' for c in fatal)}",
        "numbers that compare like with like",
        f"mend that; `fab {job.step.name}` then begins anew (--anyway goes on all the same)",
    )


class Try(NamedTuple):
    """What became of one try at a run."""

    lost: str
    """Why it counts for nothing; "" where it counts."""
    good: bool
    """Whether it has a good timed sample."""
    do: str
    """What to do about its Ollama."""


class ScheduleRun:
    """One call's way through a schedule: which arm is in memory, what was seen of it, who is told."""

    def __init__(self, lab: Lab, job: Job, progress: Progress) -> None:
        self.lab = lab
        self.job = job
        self.progress = progress
        self.exo = ExoArm(lab, job.pair)
        """Also where it is not measured: nothing of it may be in memory then."""
        self.servers = servers_of(lab)
        self.loaded: dict[str, LoadedModel] = {}
        self._repeated: set[int] = set()
        """Rounds of which a lost run was measured again: once is the most."""

    def versions(self) -> dict[str, str]:
        """Return the version that each Ollama of the schedule tells now."""
        return {arm: self.servers[arm].version() for arm in self.job.arms if arm != "exo"}

    def one_run(self, arm: str, run: int, before: Turn) -> None:
        """Measure one run, or what it lacks; where it is lost, measure it again as a whole, once a round.

        Raises StepError where neither try gave a good sample.
        """
        attempt = before.attempts if before.samples else before.attempts + 1
        tried = self._attempt(arm, run, attempt, before.samples)
        if tried.lost and run not in self._repeated:
            self._repeated.add(run)
            console.note(arm, f"run {run} is lost ({tried.lost}); it stays in the data, marked, and is measured again")
            self.progress.again(arm, run)
            self._wait_for(arm)
            tried = self._attempt(arm, run, attempt + 1, [])
        if tried.lost and not tried.good:
            again = f"fab {self.job.step.name} takes up from here"
            raise StepError(
                f"run {run} gave no good sample: {self._named(arm, tried.lost)}{tried.lost[:300]}",
                "answers",
                again if arm == "exo" else f"{tried.do}; {again}",
                who=arm,
            )
        if tried.lost:
            console.note(arm, f"run {run} is lost: {tried.lost}")

    def _attempt(self, arm: str, run: int, attempt: int, finished: list[Sample]) -> Try:
        """Load one arm alone and measure."""
        self.progress.begin(arm, run)
        still, reload_s = alone(self.lab, arm, self.exo, self.job.pair.ollama)
        exo = self.exo if arm == "exo" else None
        reload_s += exo.refresh() if exo else 0.0
        how = exo.reload if exo else self.lab.inventory.bench.ollama_reload
        conditions = conditions_before(self.lab, arm, run, how, reload_s, still)
        conditions = msgspec.structs.replace(conditions, attempt=attempt)
        samples = [*finished]
        failures: list[str] = []
        do = LOOK
        try:
            if exo:
                conditions = msgspec.structs.replace(conditions, placing_s=exo.load())
            else:
                conditions = self._load(arm, conditions)
            conditions = msgspec.structs.replace(
                conditions, memory_before=memory_of(self.lab, arm), engines_before=engines_of(self.lab, arm)
            )
            with GpuWatch(self.lab.nodes.values(), longest_s(self.lab)) as watch, self._ring_watch(arm) as ring:
                failures += self._ask_script(arm, run, attempt, samples)
            failures[:0] = [f"{key}: {words}" for key, words in ring.lost.items()]
            conditions = msgspec.structs.replace(conditions, gpu_busy_percent=watch.busy, gpu_power_w=watch.power_w)
            conditions = self._conditions_after(arm, conditions)
            failures += let_go_in(samples, conditions)
            failures += cold_in(samples, [s for s in each_sample(self.job.samples, []) if s.arm == arm])
        except OllamaError as error:
            failures.append(error.problem.found)
            do = error.problem.do
        gone = [node for node, whole in conditions.topology_complete_after.items() if not whole]
        failures += [f"after it {', '.join(gone)} did not see the whole cluster"] if gone else []
        lost = "; ".join([*failures, *strangers(conditions)])
        append_conditions(self.job.conditions, msgspec.structs.replace(conditions, lost=lost))
        self.progress.end(arm, run, samples)
        return Try(lost, any(not s.error and not s.warmup for s in samples), do)

    def unload_all(self) -> None:
        """Leave no arm in memory."""
        if "exo" in self.job.arms:
            self.exo.refresh()
        for arm in self.job.arms:
            if arm != "exo":
                self.servers[arm].unload(self.job.pair.ollama)

    def _load(self, arm: str, conditions: Conditions) -> Conditions:
        bench, server, model = self.lab.inventory.bench, self.servers[arm], self.job.pair.ollama
        conditions = msgspec.structs.replace(conditions, ollama_version=server.version())
        if bench.ollama_reload == "keep" and (held := server.holding(model)):
            self.loaded[arm] = held[0]
            return _with_loaded(conditions, held[0], seen_unloaded=False)
        load = server.load_afresh(model, bench.num_ctx, bench.request_timeout_s)
        self.loaded[arm] = load.model
        return _with_loaded(conditions, load.model, seen_unloaded=True, load_s=round(load.seconds, 3))

    def _conditions_after(self, arm: str, conditions: Conditions) -> Conditions:
        after = msgspec.structs.replace(
            conditions, memory_after=memory_of(self.lab, arm), engines_after=engines_of(self.lab, arm)
        )
        if arm != "exo":
            return after
        return msgspec.structs.replace(after, topology_complete_after=self.exo.cluster.complete_now())

    def _wait_for(self, arm: str) -> None:
        """Give a server that went away the time to come back, and bring a lost ring back. Raises StepError."""
        if arm == "exo" and self.exo.cluster.generation.CAN_RELOAD:
            self.exo.recover()
        deadline = time.monotonic() + SERVER_BACK_S
        while arm != "exo" and not self.servers[arm].version():
            if time.monotonic() > deadline:
                self.servers[arm].memory()  # raises with its words and what to do
                return
            time.sleep(1)

    def _ring_watch(self, arm: str) -> RingWatch:
        """Return the watch over a run of EXO 1.x; 0.0.x is restarted for each, and over an Ollama's it sees nothing."""
        watched = self.exo.cluster if arm == "exo" and self.exo.cluster.generation.CAN_RELOAD else None
        return RingWatch(watched, self.lab.bench_node, pid_file(self.lab.bench_node))

    def _named(self, arm: str, words: str) -> str:
        """Return the address of an arm's server, where `words` do not tell it."""
        return "" if arm == "exo" or self.servers[arm].url in words else f"{self.servers[arm].url}: "

    def _ask_script(self, arm: str, run: int, attempt: int, samples: list[Sample]) -> list[str]:
        """Have the script measure what `samples` lacks, and add to it; return why the run is lost, if it is."""
        lab, job = self.lab, self.job
        options = run_options(lab, job, arm, run, attempt)
        if samples:
            options += ["--skip-requests", ",".join(str(sample.request) for sample in samples)]

        def take(sample: Sample) -> None:
            samples.append(sample)
            self.progress.request(sample)

        ran = run_script(lab, job, options, take)
        failed = next((s for s in samples if s.error), None)
        if failed is not None:
            return [f"request {failed.request}: {failed.error}"]
        if timed_count(samples) < lab.inventory.bench.requests:
            return [(ran.stderr.strip() or "the script said nothing").splitlines()[-1][:300]]
        return []


def let_go_in(samples: Sequence[Sample], note: Conditions) -> list[str]:
    """Return why a run is lost in whose timed requests its server loaded the model anew."""
    from reports.checks.prefill import loading
    from reports.stats.runs import is_good

    if kept_its_engine(note):
        return []
    return [
        f"request {s.request}: {s.load_s:.2f} s of loading inside: its server loaded the model anew in the run"
        for s in loading([s for s in samples if not s.warmup and is_good(s)], note.load_s)
    ]


def cold_in(samples: Sequence[Sample], of_arm: Sequence[Sample]) -> list[str]:
    """Return why a run is lost whose first timed request looks like a load beside all that its arm was asked.

    A machine that stands still for half a second, once in a night, looks the same: measured again, it does not.
    """
    from reports.checks.prefill import cold_firsts
    from reports.stats.runs import is_good

    good = [s for s in of_arm if not s.warmup and is_good(s)]
    mine = {(s.run, s.attempt) for s in samples}
    return [
        f"request {s.request}: first token after {s.first_token_s:.2f} s: something was loaded in it, or stood still"
        for s in cold_firsts(good)
        if (s.run, s.attempt) in mine
    ]


def _with_loaded(
    conditions: Conditions, loaded: LoadedModel, *, seen_unloaded: bool, load_s: float | None = None
) -> Conditions:
    return msgspec.structs.replace(
        conditions,
        seen_unloaded=seen_unloaded,
        load_s=load_s,
        ollama_size_bytes=loaded.memory_bytes,
        ollama_size_vram_bytes=loaded.vram_bytes,
        ollama_name=loaded.name,
    )


def measuring_command(node: Node, options: list[str]) -> str:
    """Return the command that has the script measure, its PID noted."""
    return f"echo $$ >{shlex.quote(pid_file(node))}; exec {script_command(node)} {shlex.join(options)}"


def longest_s(lab: Lab) -> float:
    """Return how long one run of the script may take: every request up to its time-out, and a minute."""
    bench = lab.inventory.bench
    return (bench.requests + bench.warmups) * bench.request_timeout_s + 60


def run_script(lab: Lab, job: Job, options: list[str], tell: Callable[[Sample], None] | None = None) -> CommandResult:
    """Have the script measure; every line it prints is on disk before the next one is read, then told to `tell`.

    Raises StepError.
    """
    node = lab.bench_node
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

    ran = node.run(measuring_command(node, options), check=False, timeout_s=longest_s(lab), on_line=keep)
    if stray:
        raise StepError(
            f"the script printed no sample: {stray[0][:200]}", "JSON lines", "fab create-benchmark", who=node.key
        )
    return ran


def turns_in_order(job: Job, seed: int) -> list[tuple[str, int]]:
    """Return the runs that a job measures in their order, as (arm, run)."""
    return [(arm, run) for arm, run in schedule(job.arms, job.planned, seed) if run <= job.runs]


def run_options(lab: Lab, job: Job, arm: str, run: int, attempt: int = 1) -> list[str]:
    """Return the options that have the script measure one run of one arm."""
    options = [*script_options(lab, job), "--only", f"{arm}:{run}", "--no-unload-after"]  # /api/ps is read first
    options += ["--attempt", str(attempt), "--stop-at-failure"]
    return options if arm == "exo" else [*options, "--reload", f"{arm}=keep"]  # it was loaded before, and that was seen


def pid_file(node: Node) -> str:
    """Return where the PID of the script that measures is noted on the bench node."""
    return f"{script_path(node)}.pid"


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
    options += ["--num-ctx", str(bench.num_ctx)]
    return [*options, "--timeout", f"{bench.request_timeout_s:g}", "--campaign", job.label, "--samples", "-"]
