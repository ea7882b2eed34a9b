"""Step 9: the model pair is on the nodes, and the cluster answers under the right name."""

from __future__ import annotations

from records.facts import ModelReady, OllamaModel
from records.settings import ModelPair
from tasks.errors import one_each
from tasks.exo import trouble
from tasks.exo.cluster import ExoCluster
from tasks.exo.first_answer import first_answer
from tasks.machines.lab import Lab
from tasks.ollama.servers import ask_servers, refuse_silent, servers_of
from tasks.steps import StepNotes, step


@step
def download_model(lab: Lab, notes: StepNotes) -> ModelReady:
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
    ready = make_ready(lab, notes, "small", pair)
    notes.summary = f"{ready.exo_answered} answers after {ready.first_answer_s:.1f} s; Ollama has {pair.ollama}"
    return ready


def make_ready(lab: Lab, notes: StepNotes, name: str, pair: ModelPair, *, every_baseline: bool = True) -> ModelReady:
    """Bring `pair` to the nodes, see that the baselines have it, and have the cluster prove that it serves it.

    `every_baseline` False lets Ollama servers lack the model (step 13: no single node may be able to hold it).
    Raises StepError.
    """
    cluster, models = ExoCluster(lab), ollama_models(lab, pair)
    if every_baseline:
        _need_everywhere(lab, pair, models)
    for arm, model in models.items():
        if model.quantization and model.quantization.lower() != pair.ollama_precision.lower():
            notes.warn(f"{arm}: {pair.ollama} is {model.quantization}, hosts.yaml says {pair.ollama_precision}")
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
