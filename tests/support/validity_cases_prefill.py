"""The cases of what comes before the first token: a load inside a request, a prompt from the cache."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from records.campaign import Campaign
from records.samples import Sample
from tests.support.campaigns import changed
from tests.support.validity_changes import in_run, of_arm


def compiling(s: Sample) -> Sample:
    """Have EXO's first tokens scatter as they do while it compiles for every new prompt length."""
    uneven = {1: 0.9, 2: 0.3, 3: 0.5}
    return msgspec.structs.replace(s, first_token_s=uneven[s.request]) if s.arm == "exo" and not s.warmup else s


PREFILL_CASES: list[tuple[str, str, str, Callable[[Campaign], Campaign], str]] = [
    ("warm", "load told", "fatal", lambda c: changed(c, in_run("srv1", 2, 1, load_s=1.8)), "1.80 s of loading"),
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
    ("no cache", "prompt sent twice", "unknown", lambda c: changed(c, of_arm("exo", prompt_sha256="same")), "twice"),
]
