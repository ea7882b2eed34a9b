"""Step 9: the model pair is on the nodes, and the cluster answers under the right name."""

from __future__ import annotations

import msgspec

from records.facts import ModelReady, OllamaModel
from records.samples import LoadedModel
from records.settings import ModelPair
from tasks.errors import StepError, all_of, one_each
from tasks.exo import trouble
from tasks.exo.cluster import ExoCluster
from tasks.exo.first_answer import first_answer
from tasks.machines.lab import Lab
from tasks.ollama import api as ollama
from tasks.ollama.before import ollama_before
from tasks.ollama.servers import OllamaServer, ask_servers, refuse_silent, servers_of
from tasks.steps import StepNotes, step


@step
def download_model(lab: Lab, notes: StepNotes, anyway: bool = False) -> ModelReady:
    """Make the model pair available and prove by one answer that the cluster serves it."""
    pair = lab.profile.models.small
    notes.deviation(
        "exo download qwen2.5:3b, then find it in /v1/models",
        f"`{pair.exo}` was fetched through the API and had to answer a chat under that very name",
        "EXO has no `download` command, /v1/models lists 73 models as ready whatever is there, and an unknown name"
        " is answered with HTTP 200 by another model",
    )
    if (pair.exo, pair.ollama) != ("qwen2.5:3b", "qwen2.5:3b"):
        notes.deviation(
            "qwen2.5:3b on both engines",
            f"EXO `{pair.exo}` ({pair.exo_precision}) against Ollama `{pair.ollama}` ({pair.ollama_precision})",
            "no engine knows a model by the other's name, and each profile names a pair that its EXO can run",
        )
    ready = make_ready(lab, notes, "small", pair, anyway=anyway)
    notes.summary = f"{ready.exo_answered} answers after {ready.first_answer_s:.1f} s; Ollama has {pair.ollama}"
    return ready


def make_ready(
    lab: Lab, notes: StepNotes, name: str, pair: ModelPair, *, every_baseline: bool = True, anyway: bool = False
) -> ModelReady:
    """Bring `pair` to the nodes, see that the baselines have it, and have the cluster prove that it serves it.

    Every Ollama loads its model once and is asked what became of it: what makes the verdict INVALID is said here and
    not after the hours, unless `anyway`. `every_baseline` False lets Ollama servers lack the model (step 13: no single
    node may be able to hold it). Raises StepError.
    """
    cluster, models = ExoCluster(lab), ollama_models(lab, pair)
    if every_baseline:
        _need_everywhere(lab, pair, models)
    for arm, model in models.items():
        if model.quantization and model.quantization.lower() != pair.ollama_precision.lower():
            notes.warn(f"{arm}: {pair.ollama} is {model.quantization}, hosts.yaml says {pair.ollama_precision}")
    models = seen_loaded(lab, notes, pair, models, anyway=anyway)
    logs = cluster.each(lambda exo: exo.log_size())
    prepared = cluster.make_ready(pair)
    if prepared.silent:
        written = cluster.each(lambda exo: exo.log_since(logs[exo.key]), prepared.silent)
        if error := trouble.in_logs(written, cluster.generation, pair.exo):
            raise error
    answer, elapsed_s = first_answer(cluster, pair, lab.inventory.bench.request_timeout_s, logs)
    return ModelReady(
        pair=name,
        exo_model=pair.exo,
        exo_answered=answer.model,
        exo_precision=pair.exo_precision,
        first_answer_s=round(elapsed_s, 3),
        first_answer_tokens=answer.output_tokens,
        downloaded=prepared.downloaded,
        ollama=models,
    )


def seen_loaded(
    lab: Lab, notes: StepNotes, pair: ModelPair, models: dict[str, OllamaModel], *, anyway: bool = False
) -> dict[str, OllamaModel]:
    """Have every Ollama load its model once, alone, and let go of it; return the models with what they were in memory.

    Raises StepError where a model cannot be unloaded or loaded, and, unless `anyway`, for what could only end INVALID:
    computing on the CPU where hosts.yaml names a GPU, another client's model, another context than the one asked for,
    another version or model than at preflight.
    """
    bench, servers, seen = lab.inventory.bench, servers_of(lab), dict(models)
    fatal = _changed_since_preflight(lab)
    for arm in models:
        load = servers[arm].load_afresh(pair.ollama, bench.num_ctx, bench.request_timeout_s)
        listed = servers[arm].memory()
        servers[arm].unload(pair.ollama)
        seen[arm] = msgspec.structs.replace(ollama.with_memory(models[arm], load.model), load_s=round(load.seconds, 3))
        others = [model.name for model in listed if model.name != load.model.name]
        fatal += _unfit(servers[arm], bench.num_ctx, load.model, others)
    if fatal and not anyway:
        raise all_of(fatal)
    for error in fatal:
        notes.warn(f"{error} (went on with --anyway)")
    return seen


def _unfit(server: OllamaServer, num_ctx: int, loaded: LoadedModel, others: list[str]) -> list[StepError]:
    """Return what is wrong with a model that was just loaded."""
    who, unfit = f"Ollama '{server.arm}'", []
    if server.baseline.gpu and loaded.vram_bytes == 0:
        unfit.append(
            StepError(
                f"{server.url} loaded {loaded.name} on its CPU (size_vram 0), and hosts.yaml says gpu: true",
                "the model in the GPU's memory",
                "look at `ollama ps` and at its log there; an integrated GPU needs OLLAMA_IGPU_ENABLE=1 in Ollama's"
                " environment since 0.30; or take `gpu: true` out of hosts.yaml; --anyway goes on all the same",
                who=who,
            )
        )
    if others:
        unfit.append(
            StepError(
                f"{server.url} holds {', '.join(others)} beside {loaded.name}",
                "a server that nobody else uses while it is measured",
                f"end what uses it; `ollama stop {others[0]}` lets go of it; --anyway goes on all the same",
                who=who,
            )
        )
    if loaded.context_length is not None and loaded.context_length != num_ctx:
        unfit.append(
            StepError(
                f"{server.url} gave {loaded.name} a context of {loaded.context_length} tokens, not {num_ctx}",
                "one context on every Ollama",
                "set bench.num_ctx in hosts.yaml to what every server can give; --anyway goes on all the same",
                who=who,
            )
        )
    return unfit


def _changed_since_preflight(lab: Lab) -> list[StepError]:
    """Return a problem for every Ollama of another version, or with another model, than preflight saw."""
    before = ollama_before(lab.bench_node, lab.inventory.profile)
    now = ask_servers(lab)
    return [
        StepError(
            f"{'; '.join(changes)} (since `fab preflight`)",
            "one Ollama from preflight to cleanup",
            "fab cleanup preflight start bench; --anyway goes on all the same",
            who=f"Ollama '{arm}'",
        )
        for arm, state in now.items()
        if arm in before and (changes := ollama.changes(before[arm], state))
    ]


def ollama_models(lab: Lab, pair: ModelPair) -> dict[str, OllamaModel]:
    """Return the pair's model at every baseline that has it. Raises StepError where a server does not answer."""
    refuse_silent(ask_servers(lab).values(), "every baseline answering", "is it running? then type it again")
    models = {arm: server.model(pair.ollama) for arm, server in servers_of(lab).items()}
    return {arm: model for arm, model in models.items() if model is not None}


def _need_everywhere(lab: Lab, pair: ModelPair, models: dict[str, OllamaModel]) -> None:
    lacking = {arm: lab.inventory.ollama[arm] for arm in lab.inventory.ollama if arm not in models}
    if lacking:
        raise one_each(
            {f"Ollama '{arm}'": f"{baseline.url} has no {pair.ollama}" for arm, baseline in lacking.items()},
            f"{pair.ollama} on every baseline",
            {
                f"Ollama '{arm}'": f"on {lab.nodes[baseline.node].spec.host}: ollama pull {pair.ollama}"
                for arm, baseline in lacking.items()
            },
        )
