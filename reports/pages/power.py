"""What the GPUs drew while each arm was measured, and how many tokens a joule bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from records.campaign import Campaign
from reports.pages.conditions import noted_step
from reports.stats.arms import ArmEstimate
from reports.text import format as fmt
from reports.text.table import Table, clip

CAPTION = (
    "Mean over the runs of step {step}, warm-ups included, as the kernel's hwmon tells it: of an APU its whole package,"
    " of no machine all. Tokens per joule: the arm's rate by that power, where the arm computes on that node; of EXO"
    " only what these GPUs draw is in it."
)


def power_table(campaign: Campaign, arms: Mapping[int, Sequence[ArmEstimate]]) -> Table | None:
    """Tabulate the mean power of every node that tells it, by arm; None where nothing was measured in step 11 or 12."""
    step = noted_step(campaign)
    if step is None:
        return None
    drawn: dict[tuple[str, str], list[float]] = {}
    for note in campaign.conditions[step]:
        for node, seen_w in () if note.lost else note.gpu_power_w.items():
            drawn.setdefault((node, note.arm), []).extend(seen_w)
    rows = []
    for node in dict.fromkeys(node for node, _ in drawn):
        for arm in arms.get(step, ()):
            if watts := drawn.get((node, arm.arm)):
                mean_w = sum(watts) / len(watts)
                there = arm.engine == "exo" or campaign.settings.node_of(arm.arm) == node
                bought = arm.rate_tokens_per_s / mean_w if there and arm.rate_tokens_per_s and mean_w else None
                label = fmt.arm_label(arm.arm, arm.engine)
                rows.append([clip(node, cap=40), label, f"{mean_w:.1f} W", f"{bought:.2f}" if bought else "-"])
    head = ["GPU of", "While measuring", "Power", "Tokens per joule"]
    if not rows:
        return Table(head, [["-", "-", "not measured", "-"]], [2, 3], "No node's hwmon told what its GPU draws.")
    return Table(head, rows, [2, 3], CAPTION.format(step=step))
