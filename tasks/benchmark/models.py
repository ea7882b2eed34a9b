"""Step 9: the model pair is on the nodes, and the cluster answers under the right name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from records.facts import ModelReady, OllamaModel
from records.settings import ModelPair
from tasks import console
from tasks.errors import StepError, one_each
from tasks.exo.cluster import ExoCluster
from tasks.exo.interface import Answer
from tasks.machines.lab import Lab
from tasks.ollama.servers import ask_servers, refuse_silent, servers_of
from tasks.steps import StepNotes, step

PROOF_PROMPT = "Say hello."


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
        refuse_unreachable_hub(cluster, prepared.silent, logs)
    try:
        answer, elapsed_s = first_answer(cluster, pair, lab.inventory.bench.request_timeout_s)
    except StepError:
        refuse_unreachable_hub(cluster, list(lab.nodes), logs)  # where the logs know why, they are told instead
        raise
    return ModelReady(
        pair=name,
        exo_model=pair.exo,
        exo_answered=answer.model,
        exo_precision=pair.exo_precision,
        first_answer_s=round(elapsed_s, 3),
        downloaded=prepared.downloaded,
        ollama=models,
    )


def first_answer(cluster: ExoCluster, pair: ModelPair, timeout_s: float) -> tuple[Answer, float]:
    """Have the cluster answer one chat, which loads the model; return the answer and the seconds it took.

    Raises StepError where another model answers, or none.
    """
    generation, begin = cluster.generation, time.monotonic()
    console.note("exo", f"waits for the first answer of {pair.exo} (loads the model)")
    reply = cluster.entry.ask(generation.chat_request(pair.exo, PROOF_PROMPT, 1, timeout_s))
    return generation.parse_chat(reply, pair.exo), time.monotonic() - begin


def refuse_unreachable_hub(cluster: ExoCluster, keys: Sequence[str], logs: Mapping[str, int]) -> None:
    """Raise StepError with every node of `keys` whose log, beyond its size in `logs`, says that no hub answers it."""
    causes = cluster.each(lambda exo: exo.generation.hub_problem(exo.log_since(logs[exo.key])), keys)
    problems = {key: cause for key, cause in causes.items() if cause}
    if problems:
        raise one_each(
            problems,
            "a model hub that every node reaches, even where the files are on its disk already",
            "on such a node: curl -sI https://huggingface.co; a proxy or HF_ENDPOINT goes into exo.environment of"
            " hosts.yaml, then: fab start download-model",
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
