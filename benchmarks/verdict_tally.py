"""The verdicts of campaigns whose truth is known: counted, held against the limits, put into a table. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

WORDS = ("GO", "NO-GO", "INCONCLUSIVE")
NO_GO_UP_TO = 1.2
"""True speed-ups at which not one GO may fall."""
GO_FROM = 1.6
FEWEST_GO = 19 / 20
MOST_OTHERS = 1 / 20
"""Campaigns may end without a verdict on the rates (INVALID, a failed step), but not so many that limits hold idly."""


class Outcome(msgspec.Struct, frozen=True):
    """One campaign: its verdict, and the ratio to the fastest baseline with its one-sided 95 % bounds."""

    verdict: str
    said: str
    ratio: float | None = None
    lower: float | None = None
    upper: float | None = None


def tally(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Count the outcomes by WORDS and `other`."""
    return Counter(one.verdict if one.verdict in WORDS else "other" for one in outcomes)


def table(found: Mapping[float, Sequence[Outcome]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, one row a true speed-up."""
    columns = ["true speed-up", *WORDS, "other", "mean estimated ratio", "L at most the truth", "U at least the truth"]
    yield f"| {' | '.join(columns)} |"
    yield "|" + "--:|" * len(columns)
    for truth, outcomes in sorted(found.items()):
        counts = tally(outcomes)
        measured = [one for one in outcomes if one.ratio is not None]
        mean = sum(one.ratio or 0.0 for one in measured) / max(1, len(measured))
        below = sum(one.lower is not None and one.lower <= truth for one in measured)
        above = sum(one.upper is not None and one.upper >= truth for one in measured)
        cells = [f"{truth:.2f}", *(str(counts[word]) for word in (*WORDS, "other"))]
        cells += [f"{mean:.3f}" if measured else "-", f"{below} of {len(measured)}", f"{above} of {len(measured)}"]
        yield f"| {' | '.join(cells)} |"


def broken_limits(found: Mapping[float, Sequence[Outcome]], campaigns: int) -> list[str]:
    """Return in words which limits the verdicts break, `campaigns` being how many there should be of each truth."""
    broken = []
    for truth, outcomes in sorted(found.items()):
        counts = tally(outcomes)
        if len(outcomes) < campaigns:
            broken.append(f"true {truth:.2f}: only {len(outcomes)} of {campaigns} campaigns were run")
        if truth <= NO_GO_UP_TO and counts["GO"]:
            broken.append(f"true {truth:.2f}: {counts['GO']} false GO, where none may be")
        if truth >= GO_FROM and counts["GO"] < FEWEST_GO * campaigns:
            broken.append(f"true {truth:.2f}: GO in {counts['GO']} of {campaigns}, fewer than {FEWEST_GO:.0%}")
        if counts["other"] > MOST_OTHERS * campaigns:
            broken.append(f"true {truth:.2f}: {counts['other']} campaigns without a verdict on the rates")
    return broken
