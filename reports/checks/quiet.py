"""The check that nothing else was at work: no neighbour's model in memory, no foreign load on the machines."""

from __future__ import annotations

import math
from bisect import bisect_left

from records.campaign import Campaign
from records.samples import Conditions
from records.settings import Settings
from reports.checks.check import Check
from reports.checks.evidence import (
    conditions_by_run,
    first_few,
    lost_tries,
    schedule_samples,
    seconds_of,
    with_last_tries,
)
from reports.checks.memory import strangers
from reports.stats.runs import is_good

SEEN = "/api/ps of every Ollama the same before and after each run"
BLIND = (
    "no request waited in line (another client's request to the same model shows by that, or, where a server answers"
    " several at once, only as slowness)"
)
LOAD_MINUTE_S = 60.0
"""Linux's one-minute load average forgets with this time constant (kernel/sched/loadavg.c)."""
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
QUEUE_FLOOR_S, QUEUE_SHARE = 0.1, 0.1
"""A request waited in line where more than this, and this share of it, is in no figure of its server. Never compared
with the arm's other requests: where another client asks all the time, every one of them waits."""
OWN_LOAD_PER_CPU = 1.1
"""What a run of ours may add at most while it lasts: every CPU busy, and a little queueing."""
FORGOTTEN_S = 30 * LOAD_MINUTE_S
"""Work that ended so long ago adds less than 1e-13 to the average; and no request lasts so long."""


def no_neighbour(campaign: Campaign, step: int) -> Check:
    """Tell whether the other arms were out of memory and the machines idle before every run.

    A run ends seconds before the next one begins, so the load average still remembers our own work; what the runs
    before can explain at most is taken off before the rest is held against the limit.
    """
    name, why = (
        "no neighbour",
        "Whatever else computes on these machines is measured as slowness of the arm that runs.",
    )
    notes = conditions_by_run(campaign, step)
    campaign = with_last_tries(campaign, step)  # a neighbour may have cost every run
    runs = {(s.arm, s.run) for s in schedule_samples(campaign, step)}
    if not runs:
        return Check(name, "unknown", "nothing was measured", why)
    loaded: list[str] = []
    high: list[str] = []
    explained: list[str] = []
    peak = 0.0
    limit, settings = campaign.limits.load_per_cpu, campaign.settings_of(step)
    spans = _own_spans(campaign, step)
    for (arm, run), of_run in sorted(notes.items()):
        for note in of_run:
            loaded += [f"{arm} run {run}: {what}" for what in strangers(note)]
            for node, load in _loads(settings, note).items():
                peak = max(peak, load)
                if load <= limit:
                    continue
                own = _own_load(spans.get(node, []), note)
                evidence = f"before {arm} run {run}: load {load:.2f} per CPU on {node}"
                (high if load - own > limit else explained).append(evidence)
    waited = _queued(campaign, step)
    if loaded or high:
        return Check(name, "fatal", first_few([*loaded, *high]) + f" (limit {limit:g} per CPU)", why)
    untold = sorted(runs - {key for key, of_run in notes.items() if any(n.load_1m and n.cpu_count for n in of_run)})
    if untold:
        return Check(name, "unknown", "not noted for " + first_few(f"{arm} run {run}" for arm, run in untold), why)
    seen = all(note.memory_after for of_run in notes.values() for note in of_run)
    asked = SEEN if seen else "not asked after the runs"
    asked += f"; {BLIND}" if seen and not waited else ""
    evidence = f"no other model in memory; {asked}; load at most {peak:.2f} per CPU before a run (limit {limit:g})"
    if explained:
        evidence += f"; above it {len(explained)} times, no more than the run before explains"
    again = [f"{n.arm} run {n.run}" for n in lost_tries(campaign, step) if strangers(n)]
    if again:
        evidence += f"; measured again because something else was in memory: {first_few(again)}"
    if waited:
        return Check(name, "warn", f"{first_few(waited)}; {evidence}", why)
    return Check(name, "pass", evidence, why)


def _queued(campaign: Campaign, step: int) -> list[str]:
    """Name timed requests of which Ollama's own figures do not explain a part: they waited in line.

    `total_duration` less load, prompt and answer is 5 to 10 ms on a quiet server, and 4 to 30 ms on a busy machine,
    whatever the version; a request that another client has in flight comes first, and its time is in no other figure.
    """
    named = []
    for s in (s for s in schedule_samples(campaign, step) if is_good(s)):
        parts = [part / 1e9 for key in DURATIONS if isinstance(part := s.server.get(key), (int, float))]
        if len(parts) < len(DURATIONS):
            continue
        whole, *inner, answer_s = parts
        token_s = answer_s / max(1, (s.output_tokens or 1) - 1)  # `eval_duration` may leave out the first token
        left = whole - sum(inner) - answer_s - token_s
        if left > max(QUEUE_FLOOR_S, QUEUE_SHARE * (s.total_s or 0.0)):
            named.append(
                f"{s.arm} run {s.run} request {s.request}: {left:.2f} s in no figure of its server, as in a queue"
            )
    return named


def _loads(settings: Settings, note: Conditions) -> dict[str, float]:
    """Return the load per CPU of the nodes that bear on the run: all for EXO, else its own and the bench node."""
    nodes = set(note.load_1m) & set(note.cpu_count)
    if note.arm != "exo":
        own = {settings.node_of(note.arm), settings.bench.node if settings.bench else None} - {None}
        nodes = nodes & own if own else nodes
    return {node: note.load_1m[node] / max(1, note.cpu_count[node]) for node in sorted(nodes)}


def _own_spans(campaign: Campaign, step: int) -> dict[str, list[tuple[float, float]]]:
    """Return per node when requests of ours computed there, as (start, end) in seconds, by their end."""
    spans: dict[str, list[tuple[float, float]]] = {}
    settings = campaign.settings_of(step)
    everywhere = {node for note in campaign.conditions.get(step, []) for node in note.load_1m}
    for sample in schedule_samples(campaign, step):
        start = seconds_of(sample.start_utc)
        if start is None:
            continue
        node = settings.node_of(sample.arm) if sample.engine == "ollama" else None
        for name in {node} if node else everywhere:
            spans.setdefault(name, []).append((start, start + (sample.total_s or 0.0)))
    return {name: sorted(of_node, key=_end) for name, of_node in spans.items()}


def _own_load(spans: list[tuple[float, float]], note: Conditions) -> float:
    """Return the most that our own work up to then can have added to the load average per CPU; `spans` by their end.

    Every second of work at load l adds l to an average that fades as exp(-t / 60 s). Loading a model afresh just
    before the note is our work too.
    """
    now = seconds_of(note.noted_utc)
    if now is None:
        return 0.0
    reload = (now - note.reload_s, now) if note.reload_s else None
    total = 0.0
    near = slice(*(bisect_left(spans, now + far, key=_end) for far in (-FORGOTTEN_S, FORGOTTEN_S)))
    for start, end in [*spans[near], *([reload] if reload else [])]:
        if start < now:
            faded = math.exp(-(now - min(end, now)) / LOAD_MINUTE_S) - math.exp(-(now - start) / LOAD_MINUTE_S)
            total += max(0.0, faded)
    return OWN_LOAD_PER_CPU * min(1.0, total)


def _end(span: tuple[float, float]) -> float:
    return span[1]
