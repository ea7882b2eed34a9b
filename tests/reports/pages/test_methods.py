"""How the numbers came about, in sentences: the rule of a campaign's time is named."""

from __future__ import annotations

from records.facts import RULE
from reports.pages.methods import methods_said
from reports.verdict.decision import decide
from tests.support.campaigns import make_campaign, with_result


def test_an_older_campaign_is_judged_by_this_rule_and_says_by_which_it_was_planned() -> None:
    """A record without a rule is from the time of two heaps of runs; the verdict is the same, the sentence is not."""
    old, new = (with_result(make_campaign(1.6), 12, rule=rule) for rule in ("", RULE))
    assert decide(old).verdict == decide(new).verdict == "GO"
    assert any("planned with the rule of its time" in sentence for sentence in methods_said(old))
    assert not any("rule of its time" in sentence for sentence in methods_said(new))
