"""Step 13, the larger model: a single node that cannot run it is the finding there, and not a fault."""

from __future__ import annotations

import msgspec

from records.campaign import Campaign
from reports.checks.evidence import timed_by_arm
from reports.stats.runs import is_good

STEP = 13


def without_unable(campaign: Campaign, step: int) -> Campaign:
    """Return the campaign without the baselines that could not run the larger model at all; step 12 is left alone.

    In step 12 a baseline that fails is a fault: it might have been the best. In step 13 it is the finding.
    """
    unable = _unable(campaign) if step == STEP else set()
    if not unable:
        return campaign
    kept = [sample for sample in campaign.samples[step] if sample.arm not in unable]
    results, benchmark = dict(campaign.results), campaign.benchmark(step)
    if benchmark is not None:
        able = [arm for arm in benchmark.arms if arm not in unable]
        results[step] = msgspec.structs.replace(benchmark, arms=able)
    return msgspec.structs.replace(campaign, results=results, samples={**campaign.samples, step: kept})


def _unable(campaign: Campaign) -> set[str]:
    return {
        arm
        for arm, members in timed_by_arm(campaign, STEP).items()
        if members[0].engine == "ollama" and not any(map(is_good, members))
    }
