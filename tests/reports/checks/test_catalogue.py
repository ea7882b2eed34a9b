"""Every validity check: silent on a campaign in order, and speaking, with figures, on the one thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from records.campaign import Campaign
from records.samples import Conditions
from reports.checks.catalogue import CHECKS, Check, check_all
from tests.support.campaigns import changed, make_campaign, with_conditions
from tests.support.validity_cases import CASES
from tests.support.validity_changes import controlled, failing, of_arm

replace = msgspec.structs.replace
NEEDS_CONTROL = "A/A"


def check_named(name: str, campaign: Campaign) -> Check:
    """Return one check's finding."""
    return next(check for check in check_all(campaign) if check.name == name)


@pytest.mark.parametrize(("name", "status", "change", "words"), [(n, s, c, w) for n, _, s, c, w in CASES],
                         ids=[f"{name}: {what}" for name, what, *_ in CASES])  # fmt: skip
def test_a_check_names_the_one_thing_that_is_wrong(
    name: str, status: str, change: Callable[[Campaign], Campaign], words: str
) -> None:
    """The check has this status on this campaign, and its evidence has the figures."""
    found = check_named(name, change(make_campaign()))
    assert (found.status, words in found.evidence) == (status, True), found.evidence
    assert found.why


def test_a_campaign_in_order_passes_everything() -> None:
    """Nothing speaks without a reason: every check passes; without a control, A/A alone is unknown."""
    found = check_all(controlled(make_campaign(), 1.0))
    assert {check.name: check.status for check in found if check.status != "pass"} == {}
    assert [check.name for check in check_all(make_campaign()) if check.status != "pass"] == [NEEDS_CONTROL]


def test_checks_have_one_name_each() -> None:
    """A report can name a check without doubt."""
    names = [check.name for check in check_all(make_campaign())]
    assert len(set(names)) == len(names) == len(CHECKS)


def test_nothing_measured_is_unknown_and_never_fatal() -> None:
    """On an empty folder no check passes, fails or falls over: nothing is known."""
    empty = Campaign("p")
    assert {check.status for check in check_all(empty)} == {"unknown"}


def test_a_few_failures_are_listed_and_do_not_forbid() -> None:
    """One failure in 36 is below the limit: a warning that lists it."""
    many = make_campaign(runs=12)
    found = check_named("errors", changed(many, failing(1)))
    assert found.status == "warn"
    assert "exo 1 of 36" in found.evidence


def test_our_own_load_is_not_a_neighbour() -> None:
    """A load average that the run just before explains is no neighbour's; more than that is."""
    campaign = make_campaign()
    first, second = (s for s in campaign.samples[12] if (s.arm, s.run, s.request) in (("srv1", 1, 3), ("srv1", 2, 0)))

    def right_after(c: Conditions) -> Conditions:
        """Note it as srv1's last request of run 1 begins, its CPUs busy for some 20 s by then."""
        if (c.arm, c.run) != (second.arm, second.run):
            return c
        return replace(c, noted_utc=first.start_utc, load_1m={"srv1": load}, cpu_count={"srv1": 8}, reload_s=None)

    load = 4.8
    found = check_named("no neighbour", with_conditions(campaign, right_after))
    assert found.status == "pass"
    assert "the run before explains" in found.evidence
    load = 12.0
    assert check_named("no neighbour", with_conditions(campaign, right_after)).status == "fatal"


def test_the_template_in_the_cache_is_no_cached_prompt() -> None:
    """Every server shares the chat template's opening between prompts: that alone says nothing."""
    found = check_named("no cache", changed(make_campaign(), of_arm("rog", cached_prompt_tokens=24)))
    assert found.status == "pass"
    assert "24 cached tokens" in found.evidence
    told_less = changed(make_campaign(), lambda s: s if s.warmup else msgspec.structs.replace(s, prompt_tokens=36))
    assert check_named("no cache", told_less).status == "pass"  # a server that leaves the template out of its count


@pytest.mark.parametrize(("off", "status"), [(0.0499, "pass"), (0.0501, "fatal")])
def test_the_length_limit_is_five_per_cent(off: float, status: str) -> None:
    """Just below the limit passes, just above is fatal."""
    campaign = changed(
        make_campaign(), lambda s: replace(s, output_tokens=round(10_000 * (1 + off)) if s.arm == "exo" else 10_000)
    )
    assert check_named("same work", campaign).status == status
