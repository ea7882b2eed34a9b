"""What `fab bench` says before its hours: how many rounds, how long, and what they can tell at the noise known."""

from __future__ import annotations

from tasks import console
from tasks.machines.lab import Lab


def say_outlook(lab: Lab, rounds: int | None) -> None:
    """Show what `rounds` rounds (None: as many as it takes) of all arms can decide, and how long they take.

    The noise is that of a control, the duration that of its runs or of the last measurement, where there is one.
    """
    from records.campaign import load_campaign
    from reports.stats.rounds import FEWEST_ROUNDS
    from reports.stats.sample_size import plan_from_control, seconds_per_run
    from reports.text.format import about, count

    campaign, arms = load_campaign(lab.logs), 1 + len(lab.inventory.ollama)
    how_many = count(rounds, "round") if rounds is not None else "6, 12 or 18 rounds, as it takes,"
    run_s = seconds_per_run(campaign.samples.get(12) or campaign.control or campaign.samples.get(11, []))
    lasting = f", {about(rounds * arms * run_s)} by what was measured before" if rounds and run_s else ""
    console.text(f"bench: {how_many} of {arms} arms{lasting}")
    plan = plan_from_control(campaign.control, lab.inventory.decision, arms)
    if plan is None:
        console.text("bench: how many rounds these machines need is not known: fab bench --control")
    elif plan.rounds is not None:
        console.text(
            f"bench: the control's rounds scatter by {plan.round_cv:.1%}; {plan.rounds} rounds tell"
            f" {plan.alternative_ratio:.2f}x from {plan.target_ratio:.2f}x"
        )
    if rounds is not None and rounds < FEWEST_ROUNDS:
        console.text(
            f"bench: {count(rounds, 'round')} can give neither GO nor NO-GO; {FEWEST_ROUNDS} are the fewest, 6 are"
            " better: fab bench --runs 6"
        )
    elif rounds is not None and rounds % 2:
        console.text(
            "bench: an odd number leaves one round without its mirror image, and machines that warm up look faster or"
            f" slower than they are; {rounds + 1} are better: fab bench --runs {rounds + 1}"
        )
