"""The verdict, as a table of cases with their edges."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import plan
from records.record import Problem
from records.samples import Sample
from reports.verdict.decision import decide
from tests.support.campaigns import (
    changed,
    failed,
    make_campaign,
    with_failed_step,
    with_records,
    with_result,
)


@pytest.mark.parametrize(
    ("speedup", "verdict", "word"),
    [(1.6, "GO", "SUCCESS"), (1.2, "NO-GO", "PARTIAL"), (0.8, "NO-GO", "FAIL"), (1.3, "INCONCLUSIVE", "-")],
)
def test_whole_campaigns(speedup: float, verdict: str, word: str) -> None:
    """A campaign that is in order gets the verdict of its rates, with the plan's word beside a verdict."""
    found = decide(make_campaign(speedup=speedup))
    assert (found.verdict, found.plan_word) == (verdict, word)
    assert found.headline.startswith(verdict)
    assert found.comparisons[0].baseline == "rog"
    assert found.because
    assert found.would_change


@pytest.mark.parametrize("truth", [1.0, 1.2])
def test_no_false_go_in_twenty_campaigns(truth: float) -> None:
    """At a true speed-up of 1.0 and 1.2 with realistic noise, none of 20 seeded campaigns says GO."""
    assert [decide(make_campaign(truth, 0.05, 5, seed=seed)).verdict for seed in range(20)].count("GO") == 0


def test_go_in_twenty_campaigns() -> None:
    """At a true 1.6 with realistic noise, at least 19 of 20 seeded campaigns say GO."""
    assert [decide(make_campaign(1.6, 0.05, 5, seed=seed)).verdict for seed in range(20)].count("GO") >= 19


@pytest.mark.parametrize("step", [4, 8, 9])
def test_a_step_that_exo_cannot_do_is_blocked(step: int) -> None:
    """A step before any sample of step 12 that EXO says it cannot do is NO-GO (blocked), with EXO's own line."""
    found = decide(with_failed_step(make_campaign(), step, "the API never answered"))
    assert (found.verdict, found.blocked_step) == ("NO-GO (blocked)", step)
    assert f"step {step} " in found.headline
    assert found.headline.endswith("srv2: RuntimeError: no way")
    assert "the API never answered" in found.because[1]


@pytest.mark.parametrize("step", [1, 4, 8, 9])
def test_what_the_operator_can_mend_blocks_nothing(step: int) -> None:
    """The same step without a word of EXO's is NOT YET, with what was found and what to type."""
    found = decide(with_failed_step(make_campaign(), step, "its disk is full", exo_said=""))
    assert (found.verdict, found.blocked_step) == ("NOT YET", None)
    assert "its disk is full" in found.headline
    assert found.would_change == f"Going on: fab {plan.step_numbered(step).name}"


def test_an_exo_that_is_down_blocks_nothing() -> None:
    """Where no request to EXO even found a connection, somebody has to start it: no finding about EXO."""

    def down(s: Sample) -> Sample:
        refused = failed(s, "Connection refused")
        return msgspec.structs.replace(refused, connect_s=None) if s.arm == "exo" else s

    assert decide(changed(make_campaign(), down)).verdict == "INVALID"


@pytest.mark.parametrize("step", [10, 11])
def test_our_own_steps_that_fail_say_nothing_about_exo(step: int) -> None:
    """A script that cannot be placed or a baseline that fails leaves NOT YET, not a NO-GO."""
    found = decide(with_failed_step(make_campaign(), step))
    assert (found.verdict, found.blocked_step) == ("NOT YET", None)


def test_an_interrupted_step_is_not_blocked() -> None:
    """Ctrl-C on step 3 is nobody's finding: NOT YET."""
    campaign = with_failed_step(make_campaign(), 3)
    stopped = msgspec.structs.replace(campaign.records[3], status="interrupted")
    found = decide(with_records(campaign, {**campaign.records, 3: stopped}))
    assert (found.verdict, found.blocked_step) == ("NOT YET", None)
    assert found.would_change == "Going on: fab install-srv2"


def test_a_later_success_mends_an_earlier_failure() -> None:
    """Step 4's old failed record does not block once the cluster stood and the model answered after it."""
    whole = make_campaign(last_step=11)
    old = msgspec.structs.replace(
        whole.records[4], status="failed", result={}, errors=[Problem("rog", "x", "y", "z", "e")]
    )
    found = decide(with_records(whole, {**whole.records, 4: old}))
    assert found.verdict == "NOT YET"
    newer = msgspec.structs.replace(old, started_utc="2027-01-01T00:00:00.000+00:00")
    found = decide(with_records(whole, {**whole.records, 4: newer}))
    assert (found.verdict, found.blocked_step) == ("NO-GO (blocked)", 4)


@pytest.mark.parametrize("last_step", [0, 1, 7, 11])
def test_not_there_yet(last_step: int) -> None:
    """Without step 12 and without a failure it is NOT YET, and the next command is named."""
    found = decide(make_campaign(last_step=last_step))
    assert found.verdict == "NOT YET"
    assert found.would_change.startswith("Going on: fab ")
    assert found.comparisons == []


def test_an_unfinished_schedule_gives_no_verdict() -> None:
    """Samples that say GO ten times over are NOT YET while step 12 has no record, or a failed one."""
    whole = make_campaign(3.0)
    running = with_records(whole, {n: r for n, r in whole.records.items() if n < 12})
    assert decide(running).verdict == "NOT YET"
    broke = msgspec.structs.replace(
        whole.records[12], status="failed", result={}, errors=[Problem("exo", "x", "y", "z")]
    )
    found = decide(with_records(whole, {**running.records, 12: broke}))
    assert found.verdict == "NOT YET"
    assert "ended early" in found.headline


def test_a_fatal_check_forbids_every_verdict() -> None:
    """EXO on its CPU where the GPU is claimed is INVALID at any speed, named with its evidence."""
    for speedup in (0.5, 3.0):
        found = decide(with_result(make_campaign(speedup), 12, gpu_kinds={"exo": "cpu", "rog": "gpu"}))
        assert (found.verdict, found.plan_word) == ("INVALID", "-")
        assert "device" in found.headline
        assert "computed on its CPU" in found.because[0]


def test_unknown_forbids_go_and_not_no_go() -> None:
    """Not knowing whether the GPU computed leaves a would-be GO INCONCLUSIVE; a NO-GO stands."""
    fast, slow = (with_result(make_campaign(x), 12, gpu_kinds={"exo": "gpu", "rog": "unknown"}) for x in (2.0, 1.0))
    found = decide(fast)
    assert (found.verdict, found.further_rounds) == ("INCONCLUSIVE", None)
    assert "device" in found.headline
    assert decide(slow).verdict == "NO-GO"


def test_a_baseline_that_was_not_measured_forbids_go() -> None:
    """hosts.yaml names rog; a campaign against srv1 alone cannot say GO, whatever it measured."""
    campaign = changed(make_campaign(2.0), lambda s: None if s.arm == "rog" else s)
    found = decide(with_result(campaign, 12, arms=["exo", "srv1"]))
    assert found.verdict == "INCONCLUSIVE"
    assert "baselines" in found.headline


def test_before_cleanup_a_verdict_is_possible() -> None:
    """`fab report` is typed before `fab cleanup`: what is unknown only until then forbids nothing."""
    assert decide(make_campaign(1.6, last_step=13)).verdict == "GO"


def test_exo_that_never_answers_is_blocked() -> None:
    """All of EXO's requests fail while Ollama answers: the step could not be done, with reasons and where to look."""
    campaign = make_campaign()
    found = decide(changed(campaign, lambda s: failed(s, "HTTP 500") if s.arm == "exo" else s))
    assert (found.verdict, found.blocked_step) == ("NO-GO (blocked)", 12)
    assert "HTTP 500" in found.headline
    assert f"srv1:{campaign.started['srv1'].log}" in found.would_change
    assert found.would_change.endswith("fab start")


def test_exo_that_answers_with_another_model_is_invalid() -> None:
    """When every answer came from the default model the finding is the wrong model, not silence."""

    def other(s: Sample) -> Sample:
        if s.arm != "exo":
            return s
        return msgspec.structs.replace(failed(s, "answered by llama-3.2-1b"), model_answered="llama-3.2-1b")

    found = decide(changed(make_campaign(), other))
    assert found.verdict == "INVALID"
    assert "same model" in found.headline


def test_everything_failed_is_invalid() -> None:
    """Where neither engine answered nothing is known about EXO."""
    assert decide(changed(make_campaign(), failed)).verdict == "INVALID"


def test_further_rounds_are_a_fresh_campaign_larger_than_this_one() -> None:
    """INCONCLUSIVE near the line names more rounds than there were, and how long they take."""
    found = decide(make_campaign(1.42, 0.06, 5))
    assert found.verdict == "INCONCLUSIVE"
    assert found.further_rounds is not None
    assert found.further_rounds > 5
    assert f"--runs {found.further_rounds}" in found.would_change
    assert "about" in found.would_change


@pytest.mark.parametrize(
    ("speedup", "cv", "runs_done", "verdict", "rounds"),
    [
        (1.6, 0.02, 6, "GO", 6),
        (1.0, 0.02, 6, "NO-GO", 6),
        (1.6, 0.02, 4, "NOT YET", None),
        (1.3, 0.02, 6, "NOT YET", 6),
    ],
)
def test_until_decided(speedup: float, cv: float, runs_done: int, verdict: str, rounds: int | None) -> None:
    """The looks decide; before the first, or after one that says go on, it is NOT YET."""
    found = decide(make_campaign(speedup, cv, runs_done, until_decided=True))
    assert found.verdict == verdict
    assert (found.looks[-1].rounds if found.looks else None) == rounds


def test_until_decided_ends_after_eighteen_rounds() -> None:
    """What eighteen rounds on the line do not settle is INCONCLUSIVE, with three looks spent."""
    found = decide(make_campaign(1.30, 0.05, 18, until_decided=True, seed=2))
    assert (found.verdict, [look.rounds for look in found.looks]) == ("INCONCLUSIVE", [6, 12, 18])
    assert any("Looks spent" in reason for reason in found.because)


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_move_the_verdict(chance: random.Random) -> None:
    """The same samples in any order give the same decision, word for word."""
    campaign = make_campaign(1.4, 0.03, 4)
    shuffled = campaign.samples[12][:]
    chance.shuffle(shuffled)
    assert decide(msgspec.structs.replace(campaign, samples={**campaign.samples, 12: shuffled})) == decide(campaign)
