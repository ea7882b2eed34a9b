"""Step 9: the model pair is on the nodes, and the cluster answers under the right name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from records.facts import ModelReady, OllamaModel
from records.settings import ModelPair
from tasks import console
from tasks.benchmark.arms import exo_targets
from tasks.errors import StepError, one_each
from tasks.exo.catalogue import generation_of
from tasks.exo.interface import Answer, Prepared
from tasks.machines import daemon
from tasks.machines.http import call, call_url, drive
from tasks.machines.lab import Lab
from tasks.machines.paths import run_folder
from tasks.ollama import api as ollama
from tasks.ollama.servers import ask_servers
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
    models = ollama_models(lab, pair)
    if every_baseline:
        _need_everywhere(lab, pair, models)
    for arm, model in models.items():
        if model.quantization and model.quantization.lower() != pair.ollama_precision.lower():
            notes.warn(f"{arm}: {pair.ollama} is {model.quantization}, hosts.yaml says {pair.ollama_precision}")
    logs = lab.each(lambda node: daemon.log_size(node, run_folder(lab, node)))
    prepared = _download(lab, pair)
    if prepared.silent:
        refuse_unreachable_hub(lab, prepared.silent, logs)
    try:
        answer, elapsed_s = first_answer(lab, pair)
    except StepError:
        refuse_unreachable_hub(lab, list(lab.nodes), logs)  # where the logs know why, they are told instead
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


def first_answer(lab: Lab, pair: ModelPair) -> tuple[Answer, float]:
    """Have the cluster answer one chat, which loads the model; return the answer and the seconds it took.

    Raises StepError where another model answers, or none.
    """
    exo = lab.profile.exo
    generation = generation_of(exo.release)
    entry, begin = exo_targets(lab)[lab.bench_node.key], time.monotonic()
    console.note("exo", f"waits for the first answer of {pair.exo} (loads the model)")
    reply = call(*entry, generation.chat_request(pair.exo, PROOF_PROMPT, 1, lab.inventory.bench.request_timeout_s))
    return generation.parse_chat(reply, pair.exo), time.monotonic() - begin


def refuse_unreachable_hub(lab: Lab, keys: Sequence[str], logs: Mapping[str, int]) -> None:
    """Raise StepError with every node of `keys` whose log, beyond its size in `logs`, says that no hub answers it."""
    generation = generation_of(lab.profile.exo.release)
    said = lab.each(
        lambda node: generation.hub_problem(daemon.log_since(node, run_folder(lab, node), logs[node.key])), keys
    )
    problems = {key: problem for key, problem in said.items() if problem}
    if problems:
        raise one_each(
            problems,
            "a model hub that every node reaches, even where the files are on its disk already",
            "on such a node: curl -sI https://huggingface.co; a proxy or HF_ENDPOINT goes into exo.environment of"
            " hosts.yaml, then: fab start download-model",
        )


def ollama_models(lab: Lab, pair: ModelPair) -> dict[str, OllamaModel]:
    """Return the pair's model at every baseline that has it. Raises StepError where a server does not answer."""
    servers = ask_servers(lab)
    silent = {f"Ollama '{arm}'": f"{state.url}: {state.error}" for arm, state in servers.items() if state.error}
    if silent:
        raise one_each(silent, "every baseline answering", "is it running? then type it again")
    found = {}
    for arm, baseline in lab.inventory.ollama.items():
        shown = ollama.parse_model(arm, pair.ollama, call_url(lab.bench_node, baseline.url, ollama.tags_request()))
        if shown is not None:
            found[arm] = shown
    return found


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


def _download(lab: Lab, pair: ModelPair) -> Prepared:
    exo = lab.profile.exo
    flow = generation_of(exo.release).make_ready(pair, list(lab.nodes), lab.bench_node.key, exo.download_timeout_s)
    prepared = drive(exo_targets(lab), flow, lambda text: console.note("exo", text))
    assert isinstance(prepared, Prepared)
    return prepared
