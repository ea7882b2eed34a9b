"""What every node computed on, how loaded it was before the runs and how busy its GPU was during them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from records.campaign import Campaign
from records.samples import Conditions
from reports.charts.figure import COLOURS, INK, SMALL, ArmMark, name_rows, some_of
from reports.text.escape import one_line

if TYPE_CHECKING:
    from reports.charts.figure import Axes, Figure

KINDS = {"gpu": "GPU", "cpu": "CPU", "unknown": "device not known"}


class NodeRow(msgspec.Struct, frozen=True):
    """One node: what it computes on and what kept it busy."""

    node: str
    device: str
    device_kind: Literal["gpu", "cpu", "unknown"]
    load_per_cpu: list[float]
    """Load average per CPU just before each run; 1 is all CPUs busy."""
    gpu_busy_percent: list[tuple[ArmMark, list[float]]]
    """Samples during every arm's runs, where there are any."""

    def in_words(self) -> str:
        """Return the row as words."""
        loads = self.load_per_cpu
        load = f"load per CPU before the runs {min(loads):.2f} to {max(loads):.2f}" if loads else "load not read"
        busy = [
            f"GPU {min(values):.0f} to {max(values):.0f}% busy while {mark.label} ran"
            for mark, values in self.gpu_busy_percent
        ]
        return f"{self.node} ({self.device}): {', '.join([load, *busy])}."


class NodesChart(msgspec.Struct, frozen=True):
    """Device and load of every node."""

    name: ClassVar[str] = "nodes"
    title: ClassVar[str] = "What every node computed on, and how busy it was"

    rows: list[NodeRow]
    load_limit: float

    @classmethod
    def of(cls, campaign: Campaign, marks: dict[str, ArmMark], step: int) -> NodesChart | None:
        """Return the chart of what was noted around `step`'s runs; None where nothing was."""
        conditions = campaign.conditions.get(step, [])
        started = campaign.started
        noted = {node for c in conditions for node in (*c.load_1m, *c.gpu_busy_percent)}
        rows = []
        for node in [*started, *sorted(noted - set(started))]:
            device, kind = campaign.device(node)
            rows.append(
                NodeRow(
                    node=one_line(node, 24),
                    device=one_line(device, 60) or "device not known",
                    device_kind=kind,
                    load_per_cpu=[
                        c.load_1m[node] / c.cpu_count[node]
                        for c in conditions
                        if c.cpu_count.get(node) and node in c.load_1m
                    ],
                    gpu_busy_percent=_gpu_busy(conditions, node, marks),
                )
            )
        told = any(row.load_per_cpu or row.gpu_busy_percent for row in rows)
        return cls(rows, campaign.limits.load_per_cpu) if told else None

    def alternative(self) -> str:
        """Return every node's device, load and GPU, in words."""
        return f"Load limit {self.load_limit:g} per CPU. " + " ".join(row.in_words() for row in self.rows)

    def draw(self, figure: Figure) -> None:
        """Draw each node's load before the runs against the limit, and how busy its GPU was while each arm ran."""
        figure.set_figheight(1.7 + 0.62 * len(self.rows))
        left, right = figure.subplots(1, 2, sharey=True)
        left.set_title("Load before each run, per CPU")
        right.set_title("GPU busy during the runs")
        for place, row in enumerate(self.rows):
            _load(left, place, row)
            _busy(right, place, row)
        left.axvline(self.load_limit, color=INK, linewidth=2)
        left.text(self.load_limit, 1.0, " limit", transform=left.get_xaxis_transform(), va="top", fontsize=9)
        left.set_xlim(0, max([self.load_limit * 1.5, *(1.1 * v for row in self.rows for v in row.load_per_cpu)]))
        right.set_xlim(-3, 103)
        left.set_ylim(len(self.rows) - 0.5, -0.5)
        left.set_xlabel("1 = every CPU busy", **SMALL)
        right.set_xlabel("percent (line: least to most, mark: median)", **SMALL)
        for axes in (left, right):
            name_rows(axes, [f"{row.node}\n{KINDS[row.device_kind]}" for row in self.rows])
        unique = dict(zip(*reversed(right.get_legend_handles_labels()), strict=True))
        if unique:
            figure.legend(unique.values(), unique.keys(), loc="outside upper right", ncols=3, fontsize=9)


def _load(axes: Axes, place: int, row: NodeRow) -> None:
    # Equal values must not hide each other, and never at random.
    shown = some_of(row.load_per_cpu)
    heights = [place + 0.055 * ((number * 3) % 7 - 3) for number in range(len(shown))]
    axes.plot(shown, heights, "o", color=COLOURS[0], markersize=4.5, alpha=0.6, markeredgewidth=0)
    if not row.load_per_cpu:
        axes.text(0.02, place, "not read", va="center", **SMALL)


def _busy(axes: Axes, place: int, row: NodeRow) -> None:
    for lane, (mark, values) in enumerate(row.gpu_busy_percent):
        height = place + 0.2 * (lane - (len(row.gpu_busy_percent) - 1) / 2)
        median = sorted(values)[len(values) // 2]
        axes.plot([min(values), max(values)], [height] * 2, color=mark.colour, linewidth=1.4)
        axes.plot([median], [height], mark.shape, color=mark.colour, markersize=6.5, label=mark.label)
    if not row.gpu_busy_percent:
        axes.text(2, place, "no GPU used" if row.device_kind == "cpu" else "no reading", va="center", **SMALL)


def _gpu_busy(
    conditions: Sequence[Conditions], node: str, marks: dict[str, ArmMark]
) -> list[tuple[ArmMark, list[float]]]:
    busy = [
        (mark, [v for c in conditions if c.arm == arm for v in c.gpu_busy_percent.get(node, [])])
        for arm, mark in marks.items()
    ]
    return [(mark, values) for mark, values in busy if values]
