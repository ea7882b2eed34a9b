"""Checks of what the runs themselves say about a machine that warms up: within a run, and from one run to the next."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from records.campaign import Campaign
from reports.checks.check import Check
from reports.checks.evidence import runs_of, within_runs_of
from reports.stats.comparison import compare
from reports.stats.rounds import FEWEST_ROUNDS, order_effect

ORDER_ERROR = 0.05
"""Probability of calling an effect of the order where there is none, per baseline."""
CLOCK_FELL = 0.9
"""A clock below so much of its highest before a run of the same step has been throttled."""
WITHIN_ERROR = 0.01
"""Probability of calling a trend within the runs where there is none, per arm."""


def within_run(campaign: Campaign, step: int) -> Check:
    """Tell whether an arm's requests get slower or faster from the first to the last of a run.

    The slope of every run is one value; their mean is held against 0 by a t test. Clock and temperature of the nodes
    stand beside it, as far as they were noted.
    """
    name, why = "within runs", "An arm that slows down within a run is measured by how many requests a run has."
    found = within_runs_of(campaign, step)
    if not found:
        return Check(name, "unknown", "no arm has two runs of two timed requests", why, essential=False)
    trends = [row for row in found if abs(row.t) >= stdtrit(len(row.changes) - 1, 1 - WITHIN_ERROR / 2)]
    words = "; ".join(f"{row.arm} {row.change:+.1%} from a run's first request to its last" for row in trends or found)
    beside = throttled(campaign, step)
    evidence = f"{words}; {beside}" if beside else words
    return Check(name, "warn" if trends or beside else "pass", evidence, why, essential=False)


def throttled(campaign: Campaign, step: int) -> str:
    """Return which node's clock fell between the runs, with its temperature; empty where none did or none was told."""
    notes = campaign.conditions.get(step, [])
    words = []
    for node in dict.fromkeys(node for note in notes for node in note.clock_mhz):
        clocks = [note.clock_mhz[node] for note in notes if node in note.clock_mhz]
        if min(clocks) < CLOCK_FELL * max(clocks):
            hottest = max((note.temperature_c[node] for note in notes if node in note.temperature_c), default=None)
            heat = f" at up to {hottest:.0f} °C" if hottest is not None else ""
            words.append(f"the clock of {node} fell from {max(clocks):.0f} to {min(clocks):.0f} MHz{heat}")
    return "; ".join(words)


def order(campaign: Campaign, step: int) -> Check:
    """Tell whether the ratio depends on which of the two ran first in its round: one arm's run then changes the next.

    It is all that the order can show of a drift that is tied to an arm: one that lasts longer than a run looks like
    speed.
    """
    name, why = (
        "order",
        "A machine that one arm's run leaves hot makes the next arm's run slower, and the ratio wrong.",
    )
    exo, baselines = runs_of(campaign, step)
    warned, evidence = [], []
    for c in compare(exo, baselines, campaign.limits.target_ratio, 1 - campaign.limits.confidence):
        places = np.array([[0, 1] if round_.exo_first else [1, 0] for round_ in c.rounds]).T
        if len(c.rounds) < FEWEST_ROUNDS or not 2 <= places[0].sum() <= len(c.rounds) - 2:
            continue
        effect, t = order_effect(np.log([round_.ratio for round_ in c.rounds]), places)
        evidence.append(f"{c.baseline} {math.expm1(effect):+.1%} where EXO ran first")
        if abs(t) >= stdtrit(len(c.rounds) - 2, 1 - ORDER_ERROR / 2):
            warned.append(evidence[-1])
    if warned:
        return Check(name, "warn", f"the order shows in the ratio: {'; '.join(warned)}", why, essential=False)
    if not evidence:
        return Check(name, "unknown", "too few rounds of either order", why, essential=False)
    return Check(name, "pass", f"no effect beyond the noise: {'; '.join(evidence)}", why, essential=False)
