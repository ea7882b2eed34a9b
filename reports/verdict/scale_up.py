"""Step 13, the larger model. Where no single node can run it there is no ratio, and nothing is called a speed-up."""

from __future__ import annotations

import msgspec

from records.campaign import Campaign
from records.facts import Skipped
from records.record import result_of
from reports.checks.evidence import benchmark_of, first_few, timed_by_arm
from reports.stats.arms import ArmEstimate, arm_estimates
from reports.stats.runs import is_good

STEP = 13


class ScaleUp(msgspec.Struct, frozen=True):
    """What the larger model showed."""

    ran: bool
    """EXO gave at least one good answer."""
    model: str
    exo: ArmEstimate | None
    has_ratio: bool
    """Some single-node Ollama ran the model too, so that `decide(campaign, 13)` has something to compare."""
    unable: dict[str, str]
    """Baselines that could not run it -> why."""
    sentence: str


def scale_up(campaign: Campaign) -> ScaleUp:
    """Say what EXO made possible and at what rate; a speed-up is only spoken of where there is a ratio."""
    arms = {arm.arm: arm for arm in arm_estimates(campaign.samples.get(STEP, []))}
    exo = next((arm for arm in arms.values() if arm.engine == "exo" and arm.rate_tokens_per_s is not None), None)
    benchmark = benchmark_of(campaign, STEP)
    model = (benchmark.exo_model if benchmark else None) or "the larger model"
    unable = _unable(campaign, STEP)
    able = [name for name, arm in arms.items() if arm.engine == "ollama" and name not in unable]
    record = campaign.records.get(STEP)
    if exo is None or exo.rate_tokens_per_s is None:
        skipped = result_of(record, Skipped)
        reason = skipped.reason if skipped else record.summary if record else "step 13 has not been run"
        return ScaleUp(False, model, None, False, unable, f"EXO did not run {model}: {reason}.")
    rate = f"{exo.rate_tokens_per_s:.3g} tokens per second"
    if able:
        said = f"EXO ran {model} at {rate}; so did the single-node Ollama on {', '.join(able)}, hence there is a ratio."
        return ScaleUp(True, model, exo, True, unable, said)
    said = f"EXO ran {model} over the cluster at {rate}. No single node ran it, so there is no ratio to state."
    return ScaleUp(True, model, exo, False, unable, said)


def without_unable(campaign: Campaign, step: int) -> Campaign:
    """Return the campaign without the baselines that could not run the larger model at all; step 12 is left alone.

    In step 12 a baseline that fails is a fault: it might have been the best. In step 13 it is the finding.
    """
    unable = _unable(campaign, step) if step == STEP else {}
    if not unable:
        return campaign
    kept = [sample for sample in campaign.samples[step] if sample.arm not in unable]
    records, benchmark = dict(campaign.records), benchmark_of(campaign, step)
    if benchmark is not None:
        fewer = msgspec.structs.replace(benchmark, arms=[arm for arm in benchmark.arms if arm not in unable])
        records[step] = msgspec.structs.replace(records[step], result=msgspec.to_builtins(fewer))
    return msgspec.structs.replace(campaign, records=records, samples={**campaign.samples, step: kept})


def _unable(campaign: Campaign, step: int) -> dict[str, str]:
    return {
        arm: first_few(dict.fromkeys(s.error or "no tokens in the answer" for s in members))
        for arm, members in timed_by_arm(campaign, step).items()
        if members[0].engine == "ollama" and not any(map(is_good, members))
    }
