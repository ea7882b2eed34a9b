"""One thing wrong at a time, for every validity check: how to make it so, the status and the words it must give."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from reports.campaign import Campaign
from reports.facts import Calibration
from reports.samples import Conditions, Sample, TornLine
from tests.campaigns import NODES, changed, failed, measurement, with_conditions, with_failed_step, with_result

replace = msgspec.structs.replace


def in_run(arm: str, run: int, request: int | None = None, **fields: object) -> Callable[[Sample], Sample]:
    """Return a change of one run's samples (or of one request of it)."""

    def change(s: Sample) -> Sample:
        hit = s.arm == arm and s.run == run and request in (None, s.request)
        return replace(s, **fields) if hit else s

    return change


def of_arm(arm: str, **fields: object) -> Callable[[Sample], Sample]:
    """Return a change of every sample of an arm."""
    return lambda s: replace(s, **fields) if s.arm == arm else s


def noted(arm: str, run: int, **fields: object) -> Callable[[Conditions], Conditions]:
    """Return a change of what was noted before one run."""
    return lambda c: replace(c, **fields) if (c.arm, c.run) == (arm, run) else c


def longer(s: Sample) -> Sample:
    """Have EXO write 6 % more tokens, at the same rate."""
    return replace(s, output_tokens=68, total_s=(s.total_s or 0) * 68 / 64) if s.arm == "exo" else s


def labelled_twice(s: Sample) -> Sample:
    """Mark the last run as measured under another hosts.yaml."""
    return replace(s, campaign="fedcba987654-12") if s.run == 6 else s


def in_blocks(s: Sample) -> Sample:
    """Put all of EXO's runs a day later."""
    return replace(s, start_utc=s.start_utc.replace("2026-01-31", "2026-02-01")) if s.arm == "exo" else s


def rising(campaign: Campaign) -> Campaign:
    """Have every arm's rate rise from run to run."""
    chance = random.Random(1)
    lines, notes = measurement(
        ("exo", "rog", "srv1"), {"exo": 50.0, "rog": 30.0, "srv1": 9.0}, 0.005, 6, chance=chance, drift=0.005
    )
    return replace(campaign, samples={**campaign.samples, 12: lines}, conditions={**campaign.conditions, 12: notes})


def controlled(campaign: Campaign, second: float) -> Campaign:
    """Run a control whose second arm is `second` times as fast as its first."""
    lines, _ = measurement(
        ("rog-a", "rog-b"), {"rog-a": 30.0, "rog-b": 30.0 * second}, 0.02, 6, chance=random.Random(8)
    )
    return replace(campaign, control=lines)


def coarse(error: float, first_token_s: float = 1e-4) -> list[Calibration]:
    """Return a calibration whose rate is off by `error`."""
    return [Calibration(20, 1, 20, first_token_s, 1e-3, 1e-6, 1e-3, error, error)]


def rehearsed_partly(campaign: Campaign) -> Campaign:
    """Have run step 12 in a rehearsal, and the others not."""
    return replace(campaign, records={**campaign.records, 12: replace(campaign.records[12], rehearsal={"speedup": 2})})


def under_other_settings(campaign: Campaign) -> Campaign:
    """Have recorded step 2 under another hosts.yaml."""
    return replace(campaign, records={**campaign.records, 2: replace(campaign.records[2], campaign="fedcba987654")})


def torn(campaign: Campaign) -> Campaign:
    """Have one line that cannot be read, with nothing missing."""
    return replace(campaign, torn={"12-bench-comparison.samples.jsonl": [TornLine(7, "truncated")]})


def without_bench_record(campaign: Campaign) -> Campaign:
    """Have step 12 not ended."""
    return replace(campaign, records={n: r for n, r in campaign.records.items() if n != 12})


def without_cleanup(campaign: Campaign) -> Campaign:
    """Have `fab cleanup` not typed yet."""
    return replace(campaign, records={n: r for n, r in campaign.records.items() if n != 15})


def failing(count: int) -> Callable[[Sample], Sample]:
    """Make the first `count` timed requests of EXO fail."""
    bad = [(run, request) for run in range(1, 7) for request in (1, 2, 3)][:count]
    return lambda s: failed(s) if s.arm == "exo" and (s.run, s.request) in bad else s


MODELS = {
    "rog": {
        "arm": "rog",
        "model": "m",
        "digest": "1",
        "quantization": "Q4_K_M",
        "parameter_size": None,
        "size_bytes": 1,
    }
}
BUSY = dict.fromkeys(NODES, 7.0)

CASES: list[tuple[str, str, str, Callable[[Campaign], Campaign], str]] = [
    (
        "right software",
        "another revision",
        "fatal",
        lambda c: with_result(c, 3, revision="beef"),
        "different revisions",
    ),
    ("right software", "another release", "fatal", lambda c: with_result(c, 4, release="1.0.71"), "not 0.0.15"),
    ("right software", "an install failed", "unknown", lambda c: with_failed_step(c, 3, "Yeast"), "step 3: Yeast"),
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
        "half on the GPU",
        "warn",
        lambda c: with_conditions(c, noted("rog", 2, ollama_size_vram_bytes=3_000_000_000)),
        "50%",
    ),
    (
        "device",
        "never busy",
        "warn",
        lambda c: with_conditions(c, lambda n: replace(n, gpu_busy_percent={"rog": [0.0]})),
        "ever busy",
    ),
    ("device", "not told", "unknown", lambda c: with_result(c, 12, gpu_kinds={"exo": "gpu"}), "rog should be on a GPU"),
    ("warm", "load told", "fatal", lambda c: changed(c, in_run("srv1", 2, 1, load_s=1.8)), "1.80 s of loading"),
    (
        "warm",
        "late first token",
        "fatal",
        lambda c: changed(c, in_run("exo", 3, 1, first_token_s=31.0)),
        "first token after 31.00 s",
    ),
    ("warm", "no warm-ups", "unknown", lambda c: changed(c, lambda s: None if s.warmup else s), "no warm-up"),
    (
        "no cache",
        "whole prompt",
        "fatal",
        lambda c: changed(c, in_run("rog", 2, 2, cached_prompt_tokens=59)),
        "59 of 60",
    ),
    ("no cache", "every prompt", "fatal", lambda c: changed(c, of_arm("rog", cached_prompt_tokens=59)), "59 of 60"),
    (
        "no cache",
        "beyond the template",
        "fatal",
        lambda c: changed(
            changed(c, of_arm("rog", cached_prompt_tokens=20)), in_run("rog", 1, 1, cached_prompt_tokens=35)
        ),
        "35 of 60",
    ),
    (
        "no cache",
        "EXO says so",
        "fatal",
        lambda c: changed(c, in_run("exo", 1, 1, server={"generation_stats": {"prefix_cache_hit": "exact"}})),
        "exo run 1",
    ),
    ("no cache", "prompt sent twice", "unknown", lambda c: changed(c, of_arm("exo", prompt_sha256="same")), "twice"),
    (
        "no neighbour",
        "model in memory",
        "fatal",
        lambda c: with_conditions(c, noted("exo", 2, neighbours_loaded=["rog: llama"])),
        "rog: llama in memory",
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
    ("A/A", "differs from itself", "warn", lambda c: controlled(c, 1.2), "6 and 6 runs"),
    ("A/A", "same as itself", "pass", lambda c: controlled(c, 1.0), "rog-a / rog-b"),
    (
        "Ollama unaffected",
        "changed",
        "fatal",
        lambda c: with_result(c, 15, ollama_unchanged=False, ollama_changes=["rog: a model is gone"]),
        "a model is gone",
    ),
    ("Ollama unaffected", "before cleanup", "unknown", without_cleanup, "fab cleanup"),
]
