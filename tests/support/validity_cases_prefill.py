"""The cases of what comes before the first token: a load inside a request, a prompt from the cache."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from records.campaign import Campaign
from records.samples import Sample
from tests.support.campaigns import changed, with_conditions
from tests.support.validity_changes import in_run, lost_run, noted_of, of_arm


def compiling(s: Sample) -> Sample:
    """Have EXO's first tokens scatter as they do while it compiles for every new prompt length."""
    uneven = {1: 0.9, 2: 0.3, 3: 0.5}
    return msgspec.structs.replace(s, first_token_s=uneven[s.request]) if s.arm == "exo" and not s.warmup else s


def loading(campaign: Campaign, load_s: float, begun_s: float | None) -> Campaign:
    """Have rog tell `load_s` in every request, after loads of `begun_s` at the start of its runs."""
    told = with_conditions(campaign, noted_of("rog", load_s=begun_s))
    return changed(told, of_arm("rog", load_s=load_s))


def busy(campaign: Campaign) -> Campaign:
    """Have rog spend up to the time of a load in its requests, while one engine is seen before and after each run."""
    told = with_conditions(
        loading(campaign, 0.9, 3.2), noted_of("rog", engines_before=["7 100"], engines_after=["7 100"])
    )
    return changed(told, in_run("rog", 3, 1, load_s=2.5))


def evaluated(campaign: Campaign, quick: dict[tuple[int, int], float]) -> Campaign:
    """Have rog tell 670 ms of evaluation for each prompt of 60 tokens, and `quick` seconds for these requests."""

    def tell(s: Sample) -> Sample:
        spent_s = quick.get((s.run, s.request), 0.67)
        return msgspec.structs.replace(s, server={"prompt_eval_duration": spent_s * 1e9}) if s.arm == "rog" else s

    return changed(campaign, tell)


PREFILL_CASES: list[tuple[str, str, str, Callable[[Campaign], Campaign], str]] = [
    ("warm", "load told", "fatal", lambda c: changed(c, in_run("srv1", 2, 1, load_s=1.8)), "1.80 s of loading"),
    (
        "warm",
        "lost and lost again, for it loads each time",
        "fatal",
        lambda c: lost_run("rog", 2, "gone", again=False)(changed(c, in_run("rog", 2, 2, load_s=1.8))),
        "rog run 2 request 2: 1.80 s",
    ),
    ("warm", "every request loads", "fatal", lambda c: loading(c, 0.9, 1.0), "0.90 s of loading"),
    ("warm", "seconds of 0.32.14 on a busy machine", "pass", busy, "rog: 900 ms (900 to 2500) before each prompt"),
    ("warm", "constant 101 ms", "pass", lambda c: loading(c, 0.101, None), "rog: 101 ms (101 to 101) before"),
    ("warm", "constant 300 ms of 0.32.14", "pass", lambda c: loading(c, 0.3, 0.9), "without it the ratio would be"),
    (
        "warm",
        "late first token",
        "fatal",
        lambda c: changed(c, in_run("exo", 3, 1, first_token_s=31.0)),
        "first token after 31.00 s",
    ),
    (
        "warm",
        "compiles in every request",
        "warn",
        lambda c: changed(c, compiling),
        "exo: first tokens after 0.30 to 0.90 s",
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
    (
        "no cache",
        "hardly evaluated",
        "fatal",
        lambda c: changed(c, in_run("rog", 2, 2, prompt_tokens=4)),
        "rog run 2 request 2: 4 evaluated, 60 after the load",
    ),
    (
        "no cache",
        "no evaluation told",
        "fatal",
        lambda c: changed(c, in_run("rog", 2, 2, prompt_tokens=None)),
        "rog run 2 request 2: 0 evaluated",
    ),
    (
        "no cache",
        "counted, and not evaluated",
        "fatal",
        lambda c: evaluated(c, {(2, 2): 0.021}),
        "rog run 2 request 2: evaluated in 3% of the usual time",
    ),
    ("no cache", "evaluated every time", "pass", lambda c: evaluated(c, {}), "evaluated in 11.17 to 11.17 ms a token"),
    (
        "no cache",
        "0.33.3 tells the cache",
        "pass",
        lambda c: changed(c, of_arm("rog", cached_prompt_tokens=6)),
        "rog: at most 6 cached tokens",
    ),
    ("no cache", "prompt sent twice", "unknown", lambda c: changed(c, of_arm("exo", prompt_sha256="same")), "twice"),
]
