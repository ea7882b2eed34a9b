"""What the report says of how it was measured."""

from __future__ import annotations

import msgspec
import pytest

from records.campaign import Campaign
from reports.pages.methods import methods_said
from tests.support.campaigns import make_campaign


def lasting(campaign: Campaign, elapsed_s: float) -> Campaign:
    """Return the campaign with a step 12 of this length."""
    record = msgspec.structs.replace(campaign.records[12], elapsed_s=elapsed_s)
    return msgspec.structs.replace(campaign, records={**campaign.records, 12: record})


def said_of_step_12(campaign: Campaign) -> str:
    """Return the sentence about the comparison."""
    return next(line for line in methods_said(campaign) if line.startswith("Comparison"))


def test_what_is_no_request_and_no_restart_is_told() -> None:
    """Of a step that took twice as long as its requests and restarts together, half was this program's own doing."""
    campaign = make_campaign()
    spent_s = sum((s.total_s or 0) + (s.connect_s or 0) for s in campaign.samples[12])
    spent_s += sum(note.reload_s or 0 for note in campaign.conditions[12])
    assert "everything else 50%" in said_of_step_12(lasting(campaign, 2 * spent_s))


@pytest.mark.parametrize("elapsed_s", [0.0, 1.0])
def test_a_time_that_does_not_hold_its_requests_is_not_divided(elapsed_s: float) -> None:
    """Where several calls made the step, its record has the last one's time alone, and no shares are told."""
    assert "everything else" not in said_of_step_12(lasting(make_campaign(), elapsed_s))


def test_samples_that_the_script_was_late_for_are_told() -> None:
    """Held up by less than the instrument's own error is nothing; more is counted, and the worst is named."""
    campaign = make_campaign()
    timed = [s for s in campaign.samples[12] if not s.warmup]
    late = {id(timed[0]): 0.0004, id(timed[1]): 0.0031, id(timed[2]): 0.0102}
    samples = [msgspec.structs.replace(s, held_up_s=late.get(id(s), 0.0)) for s in campaign.samples[12]]
    said = methods_said(msgspec.structs.replace(campaign, samples={**campaign.samples, 12: samples}))
    assert [line for line in said if line.startswith(f"In 2 timed requests of {len(timed)} ") and "10.2 ms" in line]
    assert not [line for line in methods_said(campaign) if "held_up_s" in line]
