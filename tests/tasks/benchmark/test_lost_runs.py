"""A run that looks like a load in its first timed request is lost, and so measured again; a steady one is not."""

from __future__ import annotations

import msgspec

from records.samples import Sample
from tasks.benchmark.measure import cold_in
from tests.support.campaigns import sample


def a_run(run: int, first_token_s: float = 0.04, attempt: int = 1) -> list[Sample]:
    """Return a warm-up and three timed requests, the first of which takes `first_token_s` to its first token."""
    made = [sample("exo", run, number, 30.0, warmup=number == 0) for number in range(4)]
    waits = [0.4, first_token_s, 0.04, 0.05]
    return [
        msgspec.structs.replace(s, first_token_s=wait, attempt=attempt, load_s=None)
        for s, wait in zip(made, waits, strict=True)
    ]


def test_one_stall_loses_its_run_alone() -> None:
    """Half a second before one first token, 0.04 s before all others: that run is lost, and the next one is not."""
    steady, stalled, later = a_run(1), a_run(2, first_token_s=0.62), a_run(3)
    assert cold_in(steady, steady) == []
    (words,) = cold_in(stalled, [*steady, *stalled])
    assert words.startswith("request 1: first token after 0.62 s")
    assert cold_in(later, [*steady, *stalled, *later]) == []


def test_the_repeat_is_judged_by_itself() -> None:
    """The second try of a run whose first one stalled is whole, and lost where it stalls as well."""
    before = [*a_run(1), *a_run(2, first_token_s=0.62)]
    again, as_bad = a_run(2, attempt=2), a_run(2, first_token_s=0.7, attempt=2)
    assert cold_in(again, [*before, *again]) == []
    assert len(cold_in(as_bad, [*before, *as_bad])) == 1


def test_a_server_that_is_always_slow_at_first_is_steady_in_nothing() -> None:
    """Where every run's first timed request stalls, every run is lost: it is the server's way, and no campaign."""
    runs = [a_run(run, first_token_s=0.6) for run in (1, 2, 3)]
    everything = [s for run in runs for s in run]
    assert all(cold_in(run, everything) for run in runs)
