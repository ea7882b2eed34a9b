"""For every validity check: what is wrong, the status that must follow, how to make it so, and the evidence's words."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from records.campaign import Campaign
from records.facts import OllamaModel
from records.samples import Sample
from tests.support.campaigns import changed, with_conditions, with_failed_step, with_result
from tests.support.made_records import NODES
from tests.support.validity_cases_prefill import PREFILL_CASES
from tests.support.validity_changes import (
    coarse,
    controlled,
    failing,
    heated,
    held,
    in_blocks,
    in_run,
    labelled_twice,
    longer,
    lost_run,
    noted,
    noted_of,
    of_arm,
    pulled_from,
    rehearsed_partly,
    rising,
    seen_in_memory,
    throttled,
    tiring,
    torn,
    under_other_settings,
    without_bench_record,
    without_cleanup,
)

replace = msgspec.structs.replace

MODELS = {
    "rog": OllamaModel("rog", "m", "1", quantization="Q4_K_M", parameter_size=None, size_bytes=1),
}
BUSY = dict.fromkeys(NODES, 7.0)


def queued(s: Sample, rest_s: float) -> Sample:
    """Have rog tell durations that leave `rest_s` of its request's time unexplained."""
    if s.arm != "rog":
        return s
    parts = {"load_duration": 0.01, "prompt_eval_duration": 0.5, "eval_duration": 1.0}
    told = {name: seconds * 1e9 for name, seconds in parts.items()}
    return replace(s, server=told | {"total_duration": (sum(parts.values()) + rest_s) * 1e9})


def often_lost(campaign: Campaign) -> Campaign:
    """Have EXO lose three runs of six, all of them measured again."""
    for run in (1, 2, 3):
        campaign = lost_run("exo", run, "cut off")(campaign)
    return campaign


CASES: list[tuple[str, str, str, Callable[[Campaign], Campaign], str]] = [
    *PREFILL_CASES,
    (
        "right software",
        "another revision",
        "fatal",
        lambda c: with_result(c, 3, revision="beef"),
        "different revisions",
    ),
    ("right software", "another release", "fatal", lambda c: with_result(c, 4, release="1.0.71"), "not 0.0.15"),
    (
        "right software",
        "an install failed",
        "unknown",
        lambda c: with_failed_step(c, 3, "Yeast"),
        "3: srv2: Yeast",
    ),
    (
        "right software",
        "Ollama changed in between",
        "fatal",
        lambda c: with_result(c, 12, ollama_versions={"rog": ["0.32.14", "0.33.0"]}),
        "rog: Ollama was 0.32.14 and then 0.33.0",
    ),
    (
        "right software",
        "Ollama changed, and the step has not ended",
        "fatal",
        lambda c: without_bench_record(with_conditions(c, lambda n: replace(n, ollama_version=f"0.33.{n.run // 3}"))),
        "rog: Ollama was 0.33.0 and then 0.33.1",
    ),
    (
        "whole cluster",
        "lost at the end",
        "fatal",
        lambda c: with_result(c, 12, topology_end={"srv2": False}),
        "at the end",
    ),
    (
        "whole cluster",
        "lost before a run",
        "fatal",
        lambda c: with_conditions(c, noted("exo", 3, topology_complete={"rog": False})),
        "before EXO run 3: not on rog",
    ),
    ("whole cluster", "not told", "unknown", lambda c: with_result(c, 12, topology_end={"srv1": True}), "rog, srv2"),
    ("whole cluster", "not ended", "unknown", without_bench_record, "step 8 saw it whole"),
    (
        "same model",
        "default model",
        "fatal",
        lambda c: changed(c, of_arm("exo", model_answered="llama-3.2-1b")),
        "llama-3.2-1b",
    ),
    (
        "same model",
        "asked for another",
        "fatal",
        lambda c: changed(c, of_arm("rog", model_asked="x", model_answered="x")),
        "hosts.yaml has",
    ),
    ("same model", "nameless", "unknown", lambda c: changed(c, of_arm("exo", model_answered=None)), "exo"),
    (
        "same model",
        "made anew in the campaign",
        "fatal",
        lambda c: with_conditions(c, pulled_from("rog", 3)),
        "rog had another model of that name from run 3 on (digest b2, a1 before)",
    ),
    ("same weights", "other precision", "warn", lambda c: with_result(c, 12, ollama=MODELS), "Q4_K_M"),
    ("same weights", "not told", "unknown", lambda c: with_result(c, 12, exo_precision=""), "not told"),
    ("same work", "longer answers", "fatal", lambda c: changed(c, longer), "6.2%"),
    (
        "same work",
        "other prompts",
        "fatal",
        lambda c: changed(c, in_run("rog", 2, 1, prompt_sha256="else")),
        "1 of 18 prompts",
    ),
    (
        "same work",
        "other templates",
        "warn",
        lambda c: changed(c, of_arm("exo", prompt_tokens=89)),
        "prompts of 89 tokens for EXO, 60 for rog",
    ),
    ("same work", "no hashes", "unknown", lambda c: changed(c, of_arm("rog", prompt_sha256="")), "not comparable"),
    (
        "device",
        "EXO on CPU",
        "fatal",
        lambda c: with_result(c, 12, gpu_kinds={"exo": "cpu", "rog": "gpu"}),
        "exo computed on its CPU",
    ),
    ("device", "EXO node on CPU", "fatal", lambda c: with_result(c, 7, device_kind="cpu"), "EXO on rog"),
    (
        "device",
        "Ollama on CPU",
        "fatal",
        lambda c: with_conditions(c, noted("rog", 2, ollama_size_vram_bytes=0)),
        "size_vram 0",
    ),
    (
        "device",
        "Ollama fell back to the CPU, and the step has not ended",
        "fatal",
        lambda c: without_bench_record(with_conditions(c, noted("rog", 2, ollama_size_vram_bytes=0))),
        "rog: its server held nothing of the model on the GPU (size_vram 0) in run 2",
    ),
    (
        "device",
        "half on the GPU",
        "warn",
        lambda c: with_conditions(c, noted("rog", 2, ollama_size_vram_bytes=3_000_000_000)),
        "50%",
    ),
    (
        "device",
        "a stage of a pipeline idles",
        "pass",
        lambda c: with_conditions(c, lambda n: replace(n, gpu_busy_percent={"rog": [0.0]})),
        "probe on rog: tinygrad computed on AMD in 3.2 s (tinygrad 0.11.0)",
    ),
    (
        "device",
        "only the topology says AMD",
        "unknown",
        lambda c: with_result(c, 4, probe=None),
        "no compute probe has proven the GPU of rog",
    ),
    (
        "device",
        "the probe computed on the CPU",
        "fatal",
        lambda c: with_result(c, 4, probe=replace(c.results[4].probe, device="CPU")),  # type: ignore[attr-defined]
        "EXO on rog computes on its CPU",
    ),
    (
        "device",
        "the topology says nothing",
        "pass",
        lambda c: with_result(c, 12, gpu_kinds={"exo": "unknown", "rog": "gpu"}),
        "EXO answered prompts of up to 60 tokens",
    ),
    (
        "device",
        "EXO itself does not count prompts",
        "pass",
        lambda c: changed(c, of_arm("exo", prompt_tokens=None)),
        "EXO answered prompts of up to 60 tokens",
    ),
    (
        "device",
        "only a greeting answered",
        "unknown",
        lambda c: changed(c, lambda s: replace(s, prompt_tokens=3)),
        "more than 10 tokens",
    ),
    (
        "device",
        "an Ollama on no GPU does not tell",
        "unknown",
        lambda c: with_conditions(
            with_result(c, 12, gpu_kinds={"exo": "gpu", "rog": "gpu", "srv1": "unknown"}),
            noted_of("srv1", ollama_size_vram_bytes=None),
        ),
        "srv1 did not tell where it computed",
    ),
    ("device", "not told", "unknown", lambda c: with_result(c, 12, gpu_kinds={"exo": "gpu"}), "rog should be on a GPU"),
    (
        "no neighbour",
        "model in memory",
        "fatal",
        lambda c: with_conditions(c, noted("exo", 2, neighbours_loaded=["rog: llama"])),
        "exo run 2: rog: llama in memory",
    ),
    (
        "no neighbour",
        "one appeared at the measured server",
        "fatal",
        seen_in_memory("rog", 2, {"rog": [held("ours")]}, {"rog": [held("ours"), held("theirs")]}),
        "rog run 2: rog: theirs in memory after the run",
    ),
    (
        "no neighbour",
        "ours was loaded anew",
        "fatal",
        seen_in_memory("rog", 2, {"rog": [held("ours")]}, {"rog": [held("ours", context_length=131072)]}),
        "loaded anew by another client (context 131072)",
    ),
    (
        "no neighbour",
        "ours was asked by another",
        "fatal",
        seen_in_memory("rog", 2, {"rog": [held("ours")]}, {"rog": [held("ours", expires_in_s=299.0)]}),
        "another client asked ours: it would stay 299 s, and we asked for 960 s",
    ),
    (
        "no neighbour",
        "ours is gone",
        "fatal",
        seen_in_memory("rog", 2, {"rog": [held("ours")]}, {"rog": []}),
        "ours was gone from memory after the run",
    ),
    (
        "no neighbour",
        "a second runner",
        "fatal",
        seen_in_memory("rog", 2, {"rog": [held("ours")]}, {"rog": [held("ours"), held("ours")]}),
        "rog: ours in memory after the run",
    ),
    (
        "no neighbour",
        "a request in line",
        "warn",
        lambda c: changed(c, lambda s: queued(s, 1.4 if (s.run, s.request) == (2, 2) else 0.007)),
        "rog run 2 request 2: 1.38 s in no figure of its server",
    ),
    (
        "no neighbour",
        "every request in line",
        "warn",
        lambda c: changed(c, lambda s: queued(s, 1.4)),
        "s in no figure of its server, as in a queue; and 12 more",
    ),
    (
        "no neighbour",
        "foreign load",
        "fatal",
        lambda c: with_conditions(c, noted("exo", 1, load_1m=BUSY)),
        "0.88 per CPU",
    ),
    ("no neighbour", "not noted", "unknown", lambda c: with_conditions(c, noted("rog", 4, load_1m={})), "rog run 4"),
    ("instrument", "too coarse", "fatal", lambda c: with_result(c, 10, calibration=coarse(0.02)), "2.00%"),
    (
        "instrument",
        "late first token",
        "warn",
        lambda c: with_result(c, 10, calibration=coarse(0.001, 0.05)),
        "not voting",
    ),
    ("instrument", "no calibration", "unknown", lambda c: with_result(c, 10, calibration=[]), "no calibration"),
    ("errors", "a lost run, and its repeat", "warn", lost_run("rog", 2, "HTTP 500"), "rog run 2 was lost (HTTP 500)"),
    ("complete", "a lost run, and its repeat", "pass", lost_run("rog", 2, "HTTP 500"), "all 54 planned requests"),
    ("same work", "a lost run, and its repeat", "pass", lost_run("rog", 2, "HTTP 500"), "equal prompts"),
    ("errors", "a lost round", "warn", lost_run("rog", 2, "HTTP 500", again=False), "rog: 1 round of 6 lost"),
    ("complete", "a lost round", "warn", lost_run("rog", 2, "HTTP 500", again=False), "lost: rog run 2"),
    ("errors", "loses again and again", "fatal", often_lost, "exo lost 3 runs"),
    ("errors", "2 of 18", "fatal", lambda c: changed(c, failing(2)), "exo 2 of 18"),
    ("errors", "1 of 18", "fatal", lambda c: changed(c, failing(1)), "run 1 request 1: the stream ended"),
    (
        "complete",
        "a run is missing",
        "fatal",
        lambda c: changed(c, lambda s: None if (s.arm, s.run) == ("rog", 6) else s),
        "rog run 6 has 0 of 3",
    ),
    ("complete", "torn line", "warn", torn, "line 7"),
    ("complete", "not ended", "unknown", without_bench_record, "not ended"),
    ("baselines", "one is missing", "unknown", lambda c: changed(c, lambda s: None if s.arm == "rog" else s), "rog"),
    ("one campaign", "two labels", "fatal", lambda c: changed(c, labelled_twice), "fedcba987654"),
    ("one campaign", "partly rehearsed", "fatal", rehearsed_partly, "rehearsal"),
    ("one campaign", "hosts.yaml changed", "warn", under_other_settings, "step 2"),
    ("interleaved", "blocks", "fatal", lambda c: changed(c, in_blocks), "all of EXO's 6 runs"),
    ("interleaved", "no times", "unknown", lambda c: changed(c, of_arm("exo", start_utc="")), "no times"),
    ("token counts", "frames", "warn", lambda c: changed(c, of_arm("exo", token_source="frames")), "exo: frames"),
    ("drift", "rising", "warn", rising, "from first to last run"),
    ("drift", "none", "pass", lambda c: c, "no trend beyond the noise"),
    ("within runs", "tiring", "warn", tiring, "rog -6.3% from a run's first request to its last"),
    ("within runs", "throttled", "warn", throttled, "the clock of rog fell from 3000 to 2000 MHz at up to 95 °C"),
    ("within runs", "steady", "pass", lambda c: c, "from a run's first request to its last"),
    ("order", "EXO heats", "warn", heated, "srv1 +13.3% where EXO ran first"),
    ("order", "none", "pass", lambda c: c, "no effect beyond the noise"),
    ("A/A", "differs from itself", "warn", lambda c: controlled(c, 1.2), "6 rounds"),
    ("A/A", "same as itself", "pass", lambda c: controlled(c, 1.0), "itself / itself"),
    (
        "Ollama unaffected",
        "changed",
        "fatal",
        lambda c: with_result(c, 15, ollama_unchanged=False, ollama_changes=["rog: a model is gone"]),
        "a model is gone",
    ),
    (
        "Ollama unaffected",
        "started anew",
        "warn",
        lambda c: with_result(c, 15, ollama_unchanged=False, ollama_restarts=["rog: its process was started anew"]),
        "its process was started anew",
    ),
    ("Ollama unaffected", "before cleanup", "unknown", without_cleanup, "fab cleanup"),
]
