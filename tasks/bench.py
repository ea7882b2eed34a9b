"""Group `bench`, steps 9 to 13: the models, the instrument, the baseline, the comparison, and 32B if that passed."""

from __future__ import annotations

from collections.abc import Iterable

from reports import plan
from reports.facts import Benchmark, ModelReady, OllamaModel, Skipped
from tasks import ollama
from tasks.cluster import cluster_now, topology_of
from tasks.command_line import whole_number
from tasks.errors import StepError
from tasks.exo.catalogue import generation_of
from tasks.hosts import Pair
from tasks.instrument import create_benchmark
from tasks.lab import Lab
from tasks.measure import Job, Measured, job_for, measure
from tasks.models import download_model, make_ready, ollama_models
from tasks.start import gpu_claimed
from tasks.steps import Book, step


@step
def bench_baseline(lab: Lab, book: Book, runs: str = "") -> Benchmark:
    """Measure single-node Ollama alone.

    Options:
      runs: freshly loaded runs of each Ollama (bench.baseline_runs of hosts.yaml when left out)
    """
    count = whole_number("runs", runs) or lab.inventory.bench.baseline_runs
    pair = lab.profile.models.small
    book.departs(
        "run the script (which asks EXO as well) three times and note the best rate",
        f"{count} freshly loaded runs of each Ollama in interleaved order, every request kept",
        "the best of three requests after one load says nothing about the next load",
    )
    job = job_for(lab, plan.step_named("bench-baseline"), pair, lab.inventory.ollama, count)
    measured = measure(lab, job)
    book.summary = _summary(job, measured)
    return _benchmark(lab, "small", job, measured, {}, {})


@step
def bench_comparison(lab: Lab, book: Book, runs: str = "") -> Benchmark:
    """Measure EXO and Ollama in one interleaved schedule.

    Options:
      runs: freshly loaded runs of each side (bench.runs of hosts.yaml when left out)
    """
    count = whole_number("runs", runs) or lab.inventory.bench.runs
    book.departs(
        "run the script once, all of one side and then all of the other, five requests each",
        f"{count} runs a side in ABBA order with a seeded start, the side that does not run unloaded and that verified",
        "one side after the other lets a drift decide (10-25 % false GO), and five requests of one load are one run",
    )
    return compare(lab, book, "bench-comparison", "small", lab.profile.models.small, lab.inventory.ollama, count)


@step
def bench_scale_up(lab: Lab, book: Book, runs: str = "") -> Benchmark | Skipped:
    """Repeat with the large model, only if the comparison said GO.

    Options:
      runs: freshly loaded runs of each side (bench.baseline_runs of hosts.yaml when left out)
    """
    from reports.campaign import load_campaign
    from reports.decision import decide

    verdict = decide(load_campaign(lab.logs)).verdict
    if verdict != "GO":
        return Skipped(f"step 12 ended in {verdict}; the plan goes on only if it passed")
    count = whole_number("runs", runs) or lab.inventory.bench.baseline_runs
    pair = lab.profile.models.large
    book.departs(
        "exo download qwen2.5-coder:32b, distributed across the cluster",
        f"EXO `{pair.exo}` ({pair.exo_precision}) against Ollama `{pair.ollama}` on every baseline that has it",
        "no release of EXO spreads a 32B model over Linux nodes as the plan has it; see the profile in hosts.yaml",
    )
    ready: ModelReady = make_ready(lab, book, "large", pair, every_baseline=False)
    lacking = [arm for arm in lab.inventory.ollama if arm not in ready.ollama]
    for arm in lacking:
        book.warn(f"{arm}: its Ollama has no {pair.ollama}, so there is no ratio against it")
    return compare(lab, book, "bench-scale-up", "large", pair, ready.ollama, count)


def bench_group(lab: Lab, runs: str = "") -> None:
    """Run steps 9 to 13."""
    whole_number("runs", runs)  # before an hour of work, not after it
    download_model(lab)
    create_benchmark(lab)
    bench_baseline(lab)
    bench_comparison(lab, runs=runs)
    bench_scale_up(lab)


def compare(lab: Lab, book: Book, name: str, size: str, pair: Pair, baselines: Iterable[str], runs: int) -> Benchmark:
    """Measure EXO against `baselines` in one interleaved schedule. Raises StepError where the cluster is not whole."""
    start = cluster_now(lab)
    if not all(start.values()):
        bad = [key for key, complete in start.items() if not complete]
        raise StepError(
            ", ".join(bad),
            "; ".join(f"{key}: its own topology is not complete" for key in bad),
            "a whole cluster before anything is measured",
            "fab verify-cluster",
        )
    if lab.inventory.bench.exo_reload == "reload" and not generation_of(lab.profile.exo.release).CAN_RELOAD:
        raise StepError(
            "hosts.yaml",
            f"bench.exo_reload is `reload`, and EXO {lab.profile.exo.release} cannot unload a model",
            "restart or keep",
            "set bench.exo_reload: restart",
        )
    job = job_for(lab, plan.step_named(name), pair, ["exo", *baselines], runs)
    measured = measure(lab, job)
    book.summary = _summary(job, measured)
    return _benchmark(lab, size, job, measured, start, cluster_now(lab))


def _summary(job: Job, measured: Measured) -> str:
    again = f", {measured.resumed} of them from an interrupted call" if measured.resumed else ""
    return f"{len(measured.order)} runs of {', '.join(job.arms)}{again}; samples in {job.samples.name}"


def _benchmark(
    lab: Lab, size: str, job: Job, measured: Measured, start: dict[str, bool], end: dict[str, bool]
) -> Benchmark:
    bench = lab.inventory.bench
    described = ollama_models(lab, job.pair) | measured.ollama
    devices, kinds = _devices(lab, job, described)
    claims = {arm: lab.inventory.ollama[arm].gpu for arm in job.arms if arm != "exo"}
    if "exo" in job.arms:
        claims["exo"] = any(gpu_claimed(lab, key) for key in lab.nodes)
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
        reload={arm: bench.exo_reload if arm == "exo" else bench.ollama_reload for arm in job.arms},
        devices=devices,
        gpu_claims=claims,
        gpu_kinds=kinds,  # type: ignore[arg-type]
        topology_start=start,
        topology_end=end,
        ollama=described,
        exo_precision=job.pair.exo_precision if "exo" in job.arms else "",
        resumed=measured.resumed,
    )


def _devices(lab: Lab, job: Job, described: dict[str, OllamaModel]) -> tuple[dict[str, str], dict[str, str]]:
    """Return where each arm computed, in its server's words and as gpu, cpu or unknown.

    EXO counts as `gpu` when every node that claims one says so: one node on its CPU is what slows a pipeline down.
    """
    devices: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for arm in job.arms:
        if arm == "exo":
            topology = topology_of(lab, lab.bench_node.key)
            nodes = topology.nodes if topology else {}
            devices[arm] = "; ".join(f"{key}: {nodes.get(key, 'unknown')}" for key in lab.nodes)
            generation = generation_of(lab.profile.exo.release)
            claiming = [key for key in lab.nodes if gpu_claimed(lab, key)] or list(lab.nodes)
            said = {generation.device_kind(nodes.get(key, "")) for key in claiming}
            kinds[arm] = said.pop() if len(said) == 1 else ("cpu" if "cpu" in said else "unknown")
            continue
        model = described.get(arm)
        devices[arm], kinds[arm] = ollama.device_of(model) if model else ("not told by its server", "unknown")
    return devices, kinds
