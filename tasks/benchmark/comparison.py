"""One interleaved comparison: the cluster whole before and after, the schedule in between, what it ran on beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count

from records import plan
from records.facts import RULE, Benchmark, DeviceKind, OllamaModel
from records.samples import Sample, read_conditions
from records.settings import ModelPair
from tasks import console
from tasks.benchmark.job import Job, job_for
from tasks.benchmark.measure import Measured, measure
from tasks.benchmark.models import ollama_models
from tasks.errors import StepError, one_each
from tasks.exo.cluster import ExoCluster
from tasks.machines.lab import Lab
from tasks.ollama import api as ollama
from tasks.steps import StepNotes


def compare(
    lab: Lab,
    notes: StepNotes,
    name: str,
    size: str,
    pair: ModelPair,
    baselines: Iterable[str],
    runs: int,
    *,
    until_decided: bool = False,
    anyway: bool = False,
) -> Benchmark:
    """Measure EXO against `baselines` in one interleaved schedule. Raises StepError where the cluster is not whole.

    With `until_decided` the schedule stops at the first of three looks (reports.verdict.rule) that decides.
    """
    cluster = ExoCluster(lab)
    start = whole_cluster(cluster, lab.inventory.bench.exo_reload)
    step, arms = plan.step_named(name), ["exo", *baselines]
    if until_decided:
        job, measured = _until_decided(lab, pair, step, arms, anyway=anyway)
    else:
        job = job_for(lab, step, pair, arms, runs)
        measured = measure(lab, job, anyway=anyway)
    notes.summary = summary_of(job, measured)
    return benchmark_record(lab, size, job, measured, start, cluster.complete_now(), until_decided=until_decided)


def whole_cluster(cluster: ExoCluster, reload: str) -> dict[str, bool]:
    """Return every node's view, all complete. Raises StepError where one is not, or hosts.yaml asks the impossible."""
    start = cluster.complete_now()
    bad = [key for key, complete in start.items() if not complete]
    if bad:
        raise one_each(
            dict.fromkeys(bad, "its own topology is not complete"),
            "a whole cluster before anything is measured",
            "fab verify-cluster",
        )
    if reload == "reload" and not cluster.generation.CAN_RELOAD:
        raise StepError(
            f"bench.exo_reload is `reload`, and EXO {cluster.exo.release} cannot unload a model",
            "restart or keep",
            "set bench.exo_reload: restart",
            who="hosts.yaml",
        )
    return start


def _until_decided(
    lab: Lab, pair: ModelPair, step: plan.PlanStep, arms: list[str], *, anyway: bool
) -> tuple[Job, Measured]:
    """Measure up to the first look that decides."""
    from records.samples import marked, read_samples
    from reports.stats.arms import arm_estimates, runs_of_arms
    from reports.verdict.rule import LOOKS, RateDecision, decide_looks

    def decision(job: Job, rounds: int | None = None) -> RateDecision:
        samples = marked(read_samples(job.samples)[0], read_conditions(job.conditions)[0])
        samples = [s for s in samples if s.campaign == job.label]
        finished = rounds or finished_rounds(samples, job.arms, lab.inventory.bench.requests)
        return decide_looks(*runs_of_arms(arm_estimates(samples)), lab.inventory.decision, finished)

    for rounds in LOOKS:
        job = job_for(lab, step, pair, arms, rounds, LOOKS[-1])
        measured = measure(lab, job, anyway=anyway)
        verdict = decision(measured.job, rounds).verdict
        console.note("", f"look after {rounds} rounds: {verdict}")
        if verdict != "go on":
            break
    return job, measured


def finished_rounds(samples: Sequence[Sample], arms: Sequence[str], requests: int) -> int:
    """Return how many rounds, from the first on, every arm has made all requests of."""
    timed = Counter((sample.arm, sample.run) for sample in samples if not sample.warmup)
    return next(round_ - 1 for round_ in count(1) if any(timed[arm, round_] < requests for arm in arms))


def summary_of(job: Job, measured: Measured) -> str:
    """Return the summary line of a measurement."""
    again = f", {measured.resumed} of them from an interrupted call" if measured.resumed else ""
    return f"{len(measured.order)} runs of {', '.join(job.arms)}{again}; samples in {job.samples.name}"


def benchmark_record(
    lab: Lab,
    size: str,
    job: Job,
    measured: Measured,
    start: dict[str, bool],
    end: dict[str, bool],
    *,
    until_decided: bool = False,
) -> Benchmark:
    """Return what a step's record keeps of its measurement; the samples themselves lie beside it."""
    bench = lab.inventory.bench
    described = {
        arm: ollama.with_memory(model, measured.ollama.get(arm)) for arm, model in ollama_models(lab, job.pair).items()
    }
    placed = {
        arm: _exo_device(ExoCluster(lab)) if arm == "exo" else _ollama_device(described.get(arm)) for arm in job.arms
    }
    claims = {arm: lab.inventory.ollama[arm].gpu for arm in job.arms if arm != "exo"}
    if "exo" in job.arms:
        claims["exo"] = any(exo.claims_gpu for exo in ExoCluster(lab).nodes.values())
    return Benchmark(
        pair=size,
        exo_model=job.pair.exo if "exo" in job.arms else None,
        ollama_model=job.pair.ollama,
        arms=list(job.arms),
        runs=job.runs,
        requests=bench.requests,
        warmups=bench.warmups,
        max_tokens=bench.max_tokens,
        seed=bench.seed,
        order=measured.order,
        reload={arm: bench.exo_reload if arm == "exo" else _reloaded(job, arm) for arm in job.arms},
        devices={arm: words for arm, (words, _) in placed.items()},
        gpu_claims=claims,
        gpu_kinds={arm: kind for arm, (_, kind) in placed.items()},
        topology_start=start,
        topology_end=end,
        ollama=described,
        exo_precision=job.pair.exo_precision if "exo" in job.arms else "",
        resumed=measured.resumed,
        num_ctx=bench.num_ctx,
        ollama_versions=measured.versions,
        until_decided=until_decided,
        rule=RULE,
    )


def _reloaded(job: Job, arm: str) -> str:
    """Return `reload` where the server was seen without the model and then with it before every run, else `keep`."""
    notes = [note for note in read_conditions(job.conditions)[0] if note.arm == arm and not note.lost]
    return "reload" if notes and all(note.seen_unloaded for note in notes) else "keep"


def _exo_device(cluster: ExoCluster) -> tuple[str, DeviceKind]:
    """Return where EXO computed, as its engine said when it was seen to compute, in words and as a kind.

    It counts as `gpu` when every node that claims one computed there: one node on its CPU slows a pipeline down.
    """
    from records.campaign import load_campaign

    campaign = load_campaign(cluster.lab.logs)
    devices = {key: campaign.device(key) for key in cluster.nodes}
    claiming = [key for key, exo in cluster.nodes.items() if exo.claims_gpu] or list(cluster.nodes)
    kinds = {devices[key][1] for key in claiming}
    words = "; ".join(f"{key}: {device or 'unknown'}" for key, (device, _) in devices.items())
    return words, kinds.pop() if len(kinds) == 1 else "cpu" if "cpu" in kinds else "unknown"


def _ollama_device(model: OllamaModel | None) -> tuple[str, DeviceKind]:
    return ollama.device_of(model) if model else ("not told by its server", "unknown")
