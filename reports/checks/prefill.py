"""Checks of what comes before the first token: no model load and no cached prompt in a timed request."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from records.campaign import Campaign
from records.samples import Sample
from reports.checks.check import Check
from reports.checks.evidence import (
    conditions_by_run,
    first_few,
    schedule_samples,
    sent_by_arm,
    timed_by_arm,
    with_last_tries,
)
from reports.checks.memory import kept_its_engine
from reports.stats.runs import is_good

LOAD_FACTOR, LOAD_SHARE = 4.0, 0.05
"""A load stands out from the arm's own requests by this factor and this share of the request. What a warm server tells
differs by version: 1 to 2 ms in 0.33, 97 to 345 ms in 0.32.14, and 0.9 to 2.5 s there on a machine that is busy."""
LOAD_NEARNESS, LOAD_ALL_NEARNESS, NEAR_FACTOR = 0.75, 0.6, 2.0
"""Or one comes this near to the load at the run's start, and is so much longer than usual; or the usual one does."""
COLD_FLOOR_S, COLD_SHARE, COLD_FACTOR = 0.3, 0.15, 5.0
UNEVEN_FACTOR, UNEVEN_COUNT = 1.5, 6
"""Prompts are of one length, so first tokens scatter by a few per cent; kernels compiled for a new shape by factors."""
CACHED_SHARE, TEMPLATE_SLACK = 2 / 3, 8
QUICK_SHARE, QUICK_COUNT = 0.2, 3
"""A prompt evaluated in less than this share of the time that the first one after the load took, by token."""


def warm(campaign: Campaign, step: int) -> Check:
    """Tell whether a timed request contains a model load.

    Ollama tells the load's duration, and tells some overhead in every request of a loaded model: a load is what stands
    out from that, or comes near the load that was seen when the run began. EXO tells none: there the first timed
    request of a run is cold when its first token took COLD_FACTOR times the arm's median and at least COLD_FLOOR_S and
    COLD_SHARE of a request longer. First tokens that scatter by factors are a warning: EXO 0.0.15 compiled in every
    timed request for as long as prompts differed in length, and no single one stood out.
    """
    name, why = "warm", "A load takes seconds and belongs to no token."
    campaign = with_last_tries(campaign, step)  # a run may be lost, and its repeat, because its server lets go
    by_arm = timed_by_arm(campaign, step)
    if not by_arm:
        return Check(name, "unknown", "nothing was measured", why)
    cold, untold, uneven, constant = [], [], [], []
    begun = _loads_at_start(campaign, step)
    kept = {key for key, notes in conditions_by_run(campaign, step).items() if all(map(kept_its_engine, notes))}
    warmed = {(s.arm, s.run) for s in schedule_samples(campaign, step) if s.warmup}
    for arm, members in by_arm.items():
        good = [s for s in members if is_good(s)]
        cold += [
            f"{arm} run {s.run} request {s.request}: {s.load_s:.2f} s of loading inside"
            for s in loading(good, begun.get(arm))
            if (arm, s.run) not in kept
        ]
        overhead = overhead_of(good)
        constant += [f"{arm}: {overhead.words}"] if overhead else []
        silent = [s for s in good if s.load_s is None]
        cold += [
            f"{arm} run {s.run} request {s.request}: first token after {s.first_token_s:.2f} s"
            for s in cold_firsts(good)
        ]
        uneven += _uneven(arm, good)
        bare = sorted({s.run for s in silent if (arm, s.run) not in warmed})
        if bare:
            untold.append(f"{arm}: no warm-up in run {', '.join(map(str, bare[:6]))}, and its server tells no load")
    if cold:
        return Check(name, "fatal", first_few(cold), why)
    if untold:
        return Check(name, "unknown", first_few(untold), why)
    if uneven:
        return Check(name, "warn", "; ".join([f"{first_few(uneven)}: more than prefill is inside", *constant]), why)
    return Check(name, "pass", "; ".join(["no load inside a timed request, no cold first one", *constant]), why)


class Overhead(msgspec.Struct, frozen=True):
    """What a server of Ollama spends in every request of a loaded model before it looks at the prompt."""

    median_s: float
    least_s: float
    most_s: float
    share: float
    """Of the wall time of its requests, and so of its rate: without it the arm would be faster by 1 / (1 - share)."""

    @property
    def words(self) -> str:
        """Figures, and what they do to the ratio."""
        return (
            f"{self.median_s * 1000:.0f} ms ({self.least_s * 1000:.0f} to {self.most_s * 1000:.0f}) before each prompt,"
            f" {self.share:.1%} of its time; without it the ratio would be {1 - self.share:.3f} of what it is"
        )


def overhead_of(members: Iterable[Sample]) -> Overhead | None:
    """Return the constant overhead of an arm's good requests (`load_duration` of a loaded model); None where untold."""
    told = [(s.load_s, s.total_s) for s in members if is_good(s) and s.load_s is not None and s.total_s]
    if not told:
        return None
    loads = sorted(load for load, _ in told)
    shares = sorted(load / total for load, total in told)
    return Overhead(statistics.median(loads), loads[0], loads[-1], statistics.median(shares))


def _loads_at_start(campaign: Campaign, step: int) -> dict[str, float]:
    """Return by arm the median of the loads that were seen when its runs began."""
    loads: dict[str, list[float]] = {}
    for note in campaign.conditions.get(step, []):
        if note.load_s:
            loads.setdefault(note.arm, []).append(note.load_s)
    return {arm: statistics.median(seen) for arm, seen in loads.items()}


def loading(good: Sequence[Sample], begun_s: float | None) -> list[Sample]:
    """Return those of one arm's good requests that contain a load; `begun_s` is what one took when a run began."""
    told = sorted(s.load_s for s in good if s.load_s is not None)
    if not told:
        return []
    usual = statistics.median_low(told)
    near_s = math.inf
    if begun_s is not None:
        all_near_s = LOAD_ALL_NEARNESS * begun_s
        near_s = all_near_s if usual > all_near_s else max(LOAD_NEARNESS * begun_s, NEAR_FACTOR * usual)

    def loads(s: Sample) -> bool:
        load_s = s.load_s or 0.0
        stands_out = load_s > LOAD_FACTOR * usual and load_s - usual > LOAD_SHARE * (s.total_s or 0.0)
        return stands_out or load_s > near_s

    return [s for s in good if loads(s)]


def no_cache(campaign: Campaign, step: int) -> Check:
    """Tell whether a timed request was answered from a cached prompt.

    Servers share the chat template's opening between any two prompts, so a few cached tokens are normal: the smallest
    number above zero that an arm reports is taken for its template. Beyond that (and TEMPLATE_SLACK tokens), or beyond
    CACHED_SHARE of the prompt, the prompt itself was cached. A server that tells nothing is judged by the prompts (none
    may be sent twice to one loaded model) and by how many tokens of them it says that it evaluated.
    """
    name, why = "no cache", "A cached prompt skips the prefill, and only one arm may have it."
    by_arm = timed_by_arm(campaign, step)
    if not by_arm:
        return Check(name, "unknown", "nothing was measured", why)
    benchmark = campaign.benchmark(step)
    wrong, untold, evidence = [], [], []
    for arm, members in by_arm.items():
        cached = [s.cached_prompt_tokens for s in members if s.cached_prompt_tokens is not None]
        template = min((count for count in cached if count > 0), default=0)
        for s in members:
            if _cached(s, template) or _says_hit(s):
                wrong.append(f"{arm} run {s.run} request {s.request}: {s.cached_prompt_tokens} of {s.prompt_tokens}")
        sent = sent_by_arm(campaign, step)[arm]
        wrong += _unevaluated(sent)
        wrong += [f"{arm} {words}" for words in _quick_requests(members)]
        kept = benchmark is not None and benchmark.reload.get(arm) == "keep"
        places = [(s.prompt_sha256, 0 if kept else s.run) for s in sent]
        if len(cached) < len([s for s in members if is_good(s)]):
            if any(not prompt for prompt, _ in places):
                untold.append(f"{arm}: neither cached tokens nor prompts are told")
            elif len(set(places)) < len(places):
                untold.append(
                    f"{arm}: a prompt was sent twice to one loaded model, and its server tells no cached tokens"
                )
            evidence.append(_new_prompts(campaign, step, arm, sent))
        else:
            evidence.append(f"{arm}: at most {max(cached, default=0)} cached tokens (the template's)")
    if wrong:
        return Check(name, "fatal", "prompt tokens from the cache: " + first_few(wrong), why)
    if untold:
        return Check(name, "unknown", first_few(untold), why)
    quick = _quick_prompts(campaign, step)
    if quick:
        return Check(
            name, "warn", f"{first_few(quick)}: a server still cold at first, or a cache it does not tell", why
        )
    return Check(name, "pass", "; ".join(evidence), why)


def _new_prompts(campaign: Campaign, step: int, arm: str, sent: list[Sample]) -> str:
    """Say what is known of an arm whose server does not tell how many tokens came from its cache."""
    others = [s for number, of_step in campaign.samples.items() if number != step for s in of_step]
    before = {s.prompt_sha256 for s in [*others, *campaign.control] if s.engine == sent[0].engine}
    again = len({s.prompt_sha256 for s in sent} & before)
    words = f"{arm}: {len(sent)} prompts, none twice to one loaded model"
    words += f", {again} of them in another step too" if again else ", none in another step"
    spent = sorted(per_token for s in sent if not s.warmup and (per_token := evaluation_s_per_token(s)))
    if not spent:
        return f"{words}; its server tells neither cached tokens nor how long it evaluated"
    return f"{words}; evaluated in {spent[0] * 1e3:.2f} to {spent[-1] * 1e3:.2f} ms a token"


def evaluation_s_per_token(s: Sample) -> float | None:
    """Return how long the server evaluated the prompt, by token of it; None where it does not tell (EXO)."""
    spent_ns = s.server.get("prompt_eval_duration")
    if not isinstance(spent_ns, (int, float)) or spent_ns <= 0 or not s.prompt_tokens:
        return None
    return spent_ns / 1e9 / s.prompt_tokens


def _quick_requests(members: list[Sample]) -> list[str]:
    """Name the timed requests whose prompt took a fraction of the time that the arm's others took, by token.

    From 0.30 on Ollama counts cached tokens as evaluated ones (68 of 68), and only the time tells: 21 for 670 ms.
    """
    told = [(s, per_token) for s in members if is_good(s) and (per_token := evaluation_s_per_token(s))]
    if len(told) < QUICK_COUNT:
        return []
    usual = statistics.median(per_token for _, per_token in told)
    return [
        f"run {s.run} request {s.request}: evaluated in {per_token / usual:.0%} of the usual time"
        for s, per_token in told
        if per_token < QUICK_SHARE * usual
    ]


def _unevaluated(members: list[Sample]) -> list[str]:
    """Name one arm's timed requests of which the server evaluated far fewer prompt tokens than after the load.

    Ollama's `prompt_eval_count` leaves out what came from the cache in most versions, and is absent where that was all
    (0.5.13; 0.30 counts everything again, see `_quick_prompts`). All prompts are of about one length, and the template
    alone is less than CACHED_SHARE of one.
    """
    firsts: dict[int, Sample] = {}
    for s in sorted(members, key=lambda s: (s.run, s.request)):
        if s.error is None:
            firsts.setdefault(s.run, s)
    named = []
    for s in (s for s in members if is_good(s) and s is not firsts.get(s.run)):
        whole = firsts[s.run].prompt_tokens if s.run in firsts else None
        if whole and (s.prompt_tokens or 0) < (1 - CACHED_SHARE) * whole:
            named.append(
                f"{s.arm} run {s.run} request {s.request}: {s.prompt_tokens or 0} evaluated, {whole} after the load"
            )
    return named


def _quick_prompts(campaign: Campaign, step: int) -> list[str]:
    """Name the arms whose server evaluated timed prompts far faster than the first prompt after each load.

    Only Ollama tells `prompt_eval_duration`. The first prompt after a load cannot come from a cache, so it is the
    measure; that it also warms up the server is why this only warns.
    """
    named = []
    for arm, sent in sorted(sent_by_arm(campaign, step).items()):
        firsts: dict[int, float] = {}
        later: list[float] = []
        for s in (s for s in sent if s.error is None):
            spent_s = evaluation_s_per_token(s)
            if spent_s is None:
                continue
            if s.warmup:
                firsts.setdefault(s.run, spent_s)
            else:
                later.append(spent_s)
        if firsts and later:
            share = statistics.median(later) / statistics.median(firsts.values())
            if share < QUICK_SHARE:
                named.append(f"{arm}: timed prompts took {share:.0%} of the first one's time after the load, by token")
    return named


def cold_firsts(good: Sequence[Sample]) -> list[Sample]:
    """Return those first timed requests of a run that look like loads, among an arm's good ones that tell of none."""
    silent = [s for s in good if s.load_s is None]
    waits = sorted(s.first_token_s for s in silent if s.first_token_s is not None)
    totals = sorted(s.total_s for s in silent if s.total_s is not None)
    if len(waits) < 3:
        return []
    usual = statistics.median(waits)
    extra = max(COLD_FLOOR_S, COLD_SHARE * statistics.median(totals))
    first: dict[int, int] = {}
    for s in silent:
        first[s.run] = min(s.request, first.get(s.run, s.request))
    return [
        s
        for s in silent
        if s.first_token_s is not None
        and s.request == first[s.run]
        and s.first_token_s > COLD_FACTOR * usual
        and s.first_token_s > usual + extra
    ]


def _uneven(arm: str, good: list[Sample]) -> list[str]:
    """Name an arm whose first tokens scatter by more than UNEVEN_FACTOR, and by a share of a request that matters."""
    waits = sorted(s.first_token_s for s in good if s.first_token_s is not None)
    totals = sorted(s.total_s for s in good if s.total_s is not None)
    if len(waits) < UNEVEN_COUNT:
        return []
    low, high = waits[len(waits) // 10], waits[-1 - len(waits) // 10]
    if high <= UNEVEN_FACTOR * low or high - low <= COLD_SHARE * statistics.median(totals):
        return []
    return [f"{arm}: first tokens after {low:.2f} to {high:.2f} s though all prompts are of one length"]


def _cached(sample: Sample, template: int) -> bool:
    cached = sample.cached_prompt_tokens or 0
    beyond_template = cached > template + TEMPLATE_SLACK
    most_of_it = sample.prompt_tokens is not None and cached > CACHED_SHARE * sample.prompt_tokens
    return cached > 0 and (beyond_template or most_of_it)


def _says_hit(sample: Sample) -> bool:
    """EXO 1.x says `prefix_cache_hit`: none, partial or exact, beside its other generation_stats."""
    stats = sample.server.get("generation_stats")
    hit = (stats if isinstance(stats, dict) else sample.server).get("prefix_cache_hit")
    return isinstance(hit, str) and hit == "exact"
