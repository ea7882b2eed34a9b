"""Ways in which a campaign that was in order goes wrong, one at a time."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from records.campaign import Campaign
from records.facts import Calibration
from records.samples import Conditions, LoadedModel, Sample, TornLine, marked
from tests.support.campaigns import changed, failed, measurement, with_conditions, with_records

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


def pulled_from(arm: str, run: int) -> Callable[[Conditions], Conditions]:
    """Have an Ollama hold another digest from a run on."""

    def change(note: Conditions) -> Conditions:
        model = LoadedModel("m:latest", "a1" if note.run < run else "b2")
        own = {"ollama_name": model.name, "seen_unloaded": True, "memory_before": {arm: [model]}}
        return replace(note, **own) if note.arm == arm else note

    return change


def noted_of(arm: str, **fields: object) -> Callable[[Conditions], Conditions]:
    """Replace these fields in what was noted around every run of one arm."""
    return lambda note: replace(note, **fields) if note.arm == arm else note


def held(name: str, **fields: object) -> LoadedModel:
    """Return a model in memory, as /api/ps told it."""
    return replace(LoadedModel(name, f"sha256:{name}", 7_000_000_000, 7_000_000_000, 4096, 960.0), **fields)


def seen_in_memory(
    arm: str, run: int, before: dict[str, list[LoadedModel]], after: dict[str, list[LoadedModel]], lost: str = ""
) -> Callable[[Campaign], Campaign]:
    """Have one run of an Ollama called `ours` begin and end with this in the servers' memory."""
    fields = {"memory_before": before, "memory_after": after, "ollama_name": "ours", "lost": lost}
    return lambda c: with_conditions(c, noted(arm, run, **fields))


def lost_run(arm: str, run: int, reason: str, again: bool = True) -> Callable[[Campaign], Campaign]:
    """Have one run lost by its first timed request; with `again` it was measured once more, in order."""

    def change(campaign: Campaign) -> Campaign:
        samples, notes = [], []
        for s in campaign.samples[12]:
            if (s.arm, s.run) != (arm, run):
                samples.append(s)
                continue
            samples += [failed(s, reason)] if s.request == 1 else [s] if s.warmup or not again else []
            samples += [replace(s, attempt=2)] if again else []
        for note in campaign.conditions[12]:
            notes += [note] if (note.arm, note.run) != (arm, run) else [replace(note, lost=reason)]
            notes += [replace(note, attempt=2)] if again and (note.arm, note.run) == (arm, run) else []
        told = replace(campaign, conditions={**campaign.conditions, 12: notes})
        return replace(told, samples={**campaign.samples, 12: marked(samples, notes)})

    return change


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


def tiring(campaign: Campaign) -> Campaign:
    """Have every arm lose 3 % from one request of a run to the next."""
    return changed(campaign, lambda s: replace(s, total_s=(s.total_s or 0) * 1.03**s.request))


def heated(campaign: Campaign) -> Campaign:
    """Have every Ollama be 10 % slower where EXO ran before it in its round."""

    def slower(sample: Sample) -> Sample:
        after_exo = sample.engine == "ollama" and sample.run % 2 == 1
        return replace(sample, total_s=(sample.total_s or 0) * (1.1 if after_exo else 1))

    return changed(campaign, slower)


def throttled(campaign: Campaign) -> Campaign:
    """Have the clock of rog fall from 3000 to 2000 MHz at 95 °C."""
    notes = [
        replace(n, clock_mhz={"rog": 3000.0 if n.run < 4 else 2000.0}, temperature_c={"rog": 95.0})
        for n in campaign.conditions[12]
    ]
    return replace(campaign, conditions={**campaign.conditions, 12: notes})


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
    return with_records(campaign, {**campaign.records, 12: replace(campaign.records[12], rehearsal={"speedup": 2})})


def under_other_settings(campaign: Campaign) -> Campaign:
    """Have recorded step 2 under another hosts.yaml."""
    return with_records(campaign, {**campaign.records, 2: replace(campaign.records[2], campaign="fedcba987654")})


def torn(campaign: Campaign) -> Campaign:
    """Have one line that cannot be read, with nothing missing."""
    return replace(campaign, torn={"12-bench-comparison.samples.jsonl": [TornLine(7, "truncated")]})


def without_bench_record(campaign: Campaign) -> Campaign:
    """Have step 12 not ended."""
    return with_records(campaign, {n: r for n, r in campaign.records.items() if n != 12})


def without_cleanup(campaign: Campaign) -> Campaign:
    """Have `fab cleanup` not typed yet."""
    return with_records(campaign, {n: r for n, r in campaign.records.items() if n != 15})


def failing(count: int) -> Callable[[Sample], Sample]:
    """Make the first `count` timed requests of EXO fail."""
    bad = [(run, request) for run in range(1, 7) for request in (1, 2, 3)][:count]
    return lambda s: failed(s) if s.arm == "exo" and (s.run, s.request) in bad else s
