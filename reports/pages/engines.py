"""Records -> tables of the engines and instruments: Ollama, EXO's model, the GPU's witnesses, the calibration."""

from __future__ import annotations

from records import facts
from records.campaign import Campaign
from reports.text import format as fmt
from reports.text.table import Code, Table, clip, without_empty_columns


def ollama_table(campaign: Campaign) -> Table | None:
    """Tabulate every baseline: its server, its model, where that computes."""
    rows = []
    models: dict[str, facts.OllamaModel] = {}
    for source in (campaign.models, campaign.benchmark(11), campaign.benchmark(12)):
        models.update(source.ollama if source else {})
    servers = campaign.preflight.ollama if campaign.preflight else {}
    for arm in [*servers, *(name for name in models if name not in servers)]:
        server, model = servers.get(arm), models.get(arm)
        digest = model.digest if model else ""
        rows.append(
            [
                arm,
                Code(clip(server.url, cap=80)) if server else "",
                clip(server.version or server.error or fmt.UNKNOWN, cap=80) if server else "",
                Code(clip(model.model, cap=80)) if model else "",
                Code(clip(digest, cap=71)[:19]) if digest else "",
                clip(model.quantization or fmt.UNKNOWN, cap=40) if model else "",
                clip(model.parameter_size or "", cap=40) if model else "",
                fmt.size(model.size_bytes) if model else "",
                fmt.size(model.memory_bytes) if model and model.memory_bytes else "",
                f"{model.context_length}" if model and model.context_length else "",
                _vram(model) if model else "",
            ]
        )
    if not rows:
        return None
    head = ["Baseline", "URL", "Ollama", "Model", "Digest", "Quantisation", "Parameters", "File"]
    head += ["In memory", "Context", "In GPU memory"]
    return without_empty_columns(Table(head, rows, [7, 8, 9]))


def _vram(model: facts.OllamaModel) -> str:
    if model.size_vram_bytes is None:
        return "not loaded when asked"
    if model.size_vram_bytes == 0:
        return "nothing: it runs on the CPU"
    return fmt.size(model.size_vram_bytes)


def model_table(ready: facts.ModelReady | None) -> Table | None:
    """Tabulate what step 9 says about EXO's own model."""
    rows = []
    if ready:
        rows.append(["answers as", Code(clip(ready.exo_answered, cap=120))])
        rows.append(["EXO's model", Code(clip(ready.exo_model, cap=120))])
        rows.append(["its precision", clip(ready.exo_precision, cap=80)])
        tokens = f", {ready.first_answer_tokens} tokens" if ready.first_answer_tokens is not None else ""
        rows.append(["first answer after", fmt.duration(ready.first_answer_s) + tokens])
        rows += [[f"on {node}", clip(what, cap=160)] for node, what in ready.downloaded.items()]
    return Table(["EXO's model", ""], rows) if rows else None


def gpu_table(truths: list[facts.GpuTruth]) -> Table | None:
    """Tabulate the witnesses of every GPU that hosts.yaml names, and what they come to."""
    words = {True: "yes", False: "no", None: "says nothing either way"}
    rows = [
        [truth.node, clip(truth.expected, cap=80), clip(w.name, cap=60), clip(w.said), words[w.agrees]]
        for truth in truths
        for w in truth.witnesses
    ]
    rows += [[t.node, clip(t.expected, cap=80), "all of them", _gpu_verdict(t), fmt.yes_no(t.present)] for t in truths]
    return Table(["Node", "Expected", "Witness", "Says", "Agrees"], rows) if rows else None


def _gpu_verdict(truth: facts.GpuTruth) -> str:
    usable = {
        True: "the user may use it",
        False: "the user may not use it",
        None: "whether the user may use it is not known",
    }
    return f"{'the GPU is there' if truth.present else 'the GPU is not there'}, {usable[truth.usable]}"


def calibration_said(campaign: Campaign) -> tuple[Table | None, str]:
    """Return the instrument's own errors, and a sentence on where they come from."""
    script = campaign.script
    if script is None:
        return None, "The instrument's own error is not known: step 10 (create-benchmark) has left no result."
    rows = [
        [
            f"{c.tokens_per_s:g} tokens/s, {fmt.count(c.tokens_per_frame, 'token')} a frame",
            fmt.duration(c.first_token_error_mean_s),
            fmt.duration(c.first_token_error_p99_s),
            fmt.duration(c.inter_token_error_mean_s),
            fmt.duration(c.inter_token_error_p99_s),
            fmt.fraction(c.rate_error_mean_fraction),
            fmt.fraction(c.rate_error_p99_fraction),
        ]
        for c in script.calibration
    ]
    head = ["Metronome", "TTFT (first token), mean", "p99", "ITL (between tokens), mean", "p99", "Rate, mean", "p99"]
    sentence = (
        f"The benchmark script (SHA-256 {clip(script.sha256, cap=64)[:16]}..., Python "
        f"{clip(script.python_version, cap=20)} on {clip(script.node, cap=40)}) timed a metronome of known speed "
        "before it timed anything else; these are its errors."
    )
    return (Table(head, rows, list(range(1, 7))) if rows else None), sentence
