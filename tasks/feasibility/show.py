"""Say before any work whether the plan can work out: what can run, what GO would take, what a pipeline could give."""

from __future__ import annotations

from records.facts import Feasible
from tasks import console
from tasks.errors import StepError
from tasks.feasibility.assess import Assessment
from tasks.machines.lab import Lab


def warnings_of(lab: Lab, found: Assessment, ways: dict[str, str]) -> list[str]:
    """Return what the owner should hear of the profile in force: pairs that cannot run, GO out of reach, relays."""
    mine = [row for row in found.feasible if row.profile == lab.inventory.profile]
    said = [f"EXO cannot run `{row.exo_model}` here: {row.reasons[0]}" for row in mine if not row.can_run]
    if found.go_unreachable_because and not said:
        said.append(found.go_unreachable_because)
    relayed = [f"{way} ({how})" for way, how in ways.items() if how.startswith("relayed")]
    return said + ([f"relayed by Tailscale instead of direct: {', '.join(relayed)}"] if relayed else [])


def refuse_infeasible(lab: Lab, found: Assessment) -> None:
    """Raise StepError where a pair of the profile in force cannot run, or GO cannot be reached with it."""
    bad = [row for row in found.feasible if row.profile == lab.inventory.profile and not row.can_run]
    reasons = [f"EXO cannot run `{row.exo_model}`: {row.reasons[0]}" for row in bad]
    if found.go_unreachable_because and not reasons:
        reasons.append(found.go_unreachable_because)
    if reasons:
        raise StepError(
            "; ".join(reasons),
            "model pairs that EXO can run on these nodes, with GO within reach",
            "\n".join(found.alternatives)
            or "fab feasibility shows what is in the way; change the profile in hosts.yaml",
            who=lab.inventory.profile,
        )


def show_feasibility(found: Assessment) -> None:
    """Print a line a pair with what to expect below it, then why GO is out of reach and what could run instead."""
    console.text("\nfeasibility, by profile and pair:")
    for row in found.feasible:
        console.text(_line(row))
        for reason in row.reasons:
            console.text(f"      - {reason}")
    if found.go_unreachable_because:
        console.text(f"\n{found.go_unreachable_because}")
    if found.alternatives:
        console.text("what could run instead:")
        for alternative in found.alternatives:
            console.text(f"  - {alternative}")


def show_ceiling(lab: Lab) -> None:
    """Print the best that a pipeline over these nodes could give, where single-node rates were measured before."""
    from records.campaign import load_campaign
    from reports.stats.arms import arm_estimates
    from reports.verdict.estimates import campaign_ceiling

    campaign = load_campaign(lab.logs)
    samples = campaign.samples.get(12) or campaign.samples.get(11) or []
    ceiling = campaign_ceiling(campaign, arm_estimates(samples)) if samples else None
    if ceiling is not None:
        console.text(
            f"\nceiling: with the rates measured before, a pipeline over these nodes decodes at most"
            f" {ceiling.rate_tokens_per_s:.3g} tokens/s, {ceiling.ratio:.2f} times the fastest node alone"
            f" ({ceiling.compute_share:.0%} of a token's time computing, {ceiling.hop_share:.0%} hops)"
        )


def _line(row: Feasible) -> str:
    can = "can run" if row.can_run else "CANNOT RUN"
    weights = "equal precision" if row.equal_precision else "precision differs"
    return f"  {row.profile} {row.pair}: {can}, {row.device}; `{row.exo_model}` against `{row.ollama_model}`, {weights}"
