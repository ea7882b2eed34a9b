"""Whether the plan can work out, before any work: what can run, what GO would take, what a pipeline could give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from records import plan
from records.facts import Feasible
from reports.text.format import listed
from tasks import console
from tasks.errors import StepError
from tasks.feasibility.assess import Assessment
from tasks.machines.network import Way


def warnings_of(assessment: Assessment, profile: str, ways: Mapping[str, Way]) -> list[str]:
    """Return what the owner should hear of the profile in force: pairs that cannot run, GO out of reach, relays."""
    relayed = [f"{key} ({way.words})" for key, way in ways.items() if way.kind == "relayed"]
    relays = [f"relayed by Tailscale instead of direct: {', '.join(relayed)}"] if relayed else []
    return _in_the_way(assessment, profile) + relays


def refuse_infeasible(assessment: Assessment, profile: str) -> None:
    """Raise StepError where a pair of the profile in force cannot run, or GO cannot be reached with it."""
    reasons = _in_the_way(assessment, profile)
    if reasons:
        raise StepError(
            "; ".join(reasons),
            "model pairs that EXO can run on these nodes, with GO within reach",
            "\n".join(assessment.alternatives)
            or "fab feasibility shows what is in the way; change the profile in hosts.yaml",
            who=profile,
        )


def _in_the_way(assessment: Assessment, profile: str) -> list[str]:
    """Return which pairs of the profile cannot run; where all can, why GO is out of reach, if it is."""
    mine = [row for row in assessment.feasible if row.profile == profile]
    reasons = [f"EXO cannot run `{row.exo_model}` here: {row.reasons[0]}" for row in mine if not row.can_run]
    return reasons or [reason for reason in (assessment.go_unreachable_because,) if reason]


def show_feasibility(assessment: Assessment) -> None:
    """Print a line a pair with what to expect below it, then why GO is out of reach and what could run instead."""
    console.text("\nfeasibility, by profile and pair:")
    for profile, of_profile in groupby(assessment.feasible, key=lambda row: row.profile):
        rows = list(of_profile)
        times = Counter(reason for row in rows for reason in row.reasons)
        shared = [reason for reason, count in times.items() if count == len(rows) > 1]
        for row in rows:
            _show(_line(row), [reason for reason in row.reasons if times[reason] < len(rows) or len(rows) == 1])
        if shared:
            _show(f"  {profile} {listed([row.pair for row in rows])}:", shared)
    if assessment.go_unreachable_because:
        console.text(f"\n{assessment.go_unreachable_because}")
    if assessment.alternatives:
        console.text("what could run instead:")
        for alternative in assessment.alternatives:
            console.text(f"  - {alternative}")


def _show(line: str, reasons: list[str]) -> None:
    console.text(line)
    for reason in reasons:
        console.text(f"      - {reason}")


def show_estimate(logs: Path) -> None:
    """Print what a pipeline over these nodes may give, where single-node rates were measured before."""
    if not any((logs / plan.step_numbered(step).samples_name).exists() for step in (11, 12)):
        return  # before a tenth of a second of imports
    from records.campaign import load_campaign
    from reports.stats.arms import arm_estimates
    from reports.verdict.estimates import campaign_estimate

    campaign = load_campaign(logs)
    samples = campaign.samples.get(12) or campaign.samples.get(11) or []
    pipeline = campaign_estimate(campaign, arm_estimates(samples)) if samples else None
    if pipeline is not None:
        console.text(
            f"\nestimate: with the rates measured before, a pipeline over these nodes decodes about"
            f" {pipeline.rate_tokens_per_s:.3g} tokens/s, {pipeline.ratio:.2f} times the fastest node alone"
            f" ({pipeline.compute_share:.0%} of a token's time computing, {pipeline.hop_share:.0%} hops); no bound:"
            " embedding and head, which are not spread over the nodes, are left open"
        )


def _line(row: Feasible) -> str:
    can = "can run" if row.can_run else "CANNOT RUN"
    weights = "equal precision" if row.equal_precision else "precision differs"
    return f"  {row.profile} {row.pair}: {can}, {row.device}; `{row.exo_model}` against `{row.ollama_model}`, {weights}"
