"""Where the time of one token goes: measured systems beside the estimate of a pipeline over these nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from reports.charts.figure import CARD, INK, SMALL, name_rows
from reports.stats.arms import ArmEstimate
from reports.stats.estimate import PipelineEstimate
from reports.text import format as fmt
from reports.verdict.estimates import token_time_s

if TYPE_CHECKING:
    from reports.charts.figure import Axes, Figure

HATCHES = {"compute": "", "hops": "////", "rest": "\\\\\\", "whole": "", "undivided": ""}
FILLS = {"compute": "#0b4f9e", "hops": "#f3c98b", "rest": "#e9e6df", "whole": "#98a2ae", "undivided": "#5d86bd"}


class TimePart(msgspec.Struct, frozen=True):
    """One piece of a bar; `rest` is what was measured beyond computing and hops."""

    label: str
    kind: Literal["compute", "hops", "rest", "whole", "undivided"]
    milliseconds: float


class TokenBar(msgspec.Struct, frozen=True):
    """Where the time of one token goes on one system."""

    label: str
    parts: list[TimePart]

    @property
    def milliseconds(self) -> float:
        """Return the time of all parts."""
        return sum(part.milliseconds for part in self.parts)


class TokenTimeChart(msgspec.Struct, frozen=True):
    """Time per token: single nodes, the estimate of a pipeline, and EXO as measured."""

    name: ClassVar[str] = "token-time"
    title: ClassVar[str] = "Where the time of one token goes"

    bars: list[TokenBar]
    target_ms: float | None
    """What EXO would need for the target ratio against the fastest baseline."""

    @classmethod
    def of(cls, arms: Sequence[ArmEstimate], pipeline: PipelineEstimate | None, target: float) -> TokenTimeChart | None:
        """Return one bar a system; None where nothing was measured."""
        times = [(arm, token_s) for arm in arms if (token_s := token_time_s(arm)) is not None]
        single = [(arm, token_s) for arm, token_s in times if arm.engine == "ollama"]
        exo_s = next((token_s for arm, token_s in times if arm.engine == "exo"), None)
        bars = [
            TokenBar(fmt.arm_label(arm.arm, arm.engine), [TimePart("one node", "whole", token_s * 1000)])
            for arm, token_s in single
        ]
        estimated = []
        if pipeline:
            estimated = [TimePart("computing, in turn", "compute", pipeline.compute_s * 1000)]
            hops_ms = pipeline.hops_s * 1000
            estimated += [TimePart("hops between nodes", "hops", hops_ms)] if hops_ms > 0 else []
            bars.append(TokenBar("Pipeline, estimated", estimated))
        if exo_s is not None:
            parts = [TimePart("EXO, not divided", "undivided", exo_s * 1000)]
            if pipeline and exo_s > pipeline.token_s:
                parts = [*estimated, TimePart("beyond the estimate", "rest", (exo_s - pipeline.token_s) * 1000)]
            beaten = pipeline is not None and exo_s < pipeline.token_s
            bars.append(TokenBar("EXO, beats the estimate" if beaten else "EXO", parts))
        fastest_s = min((token_s for _, token_s in single), default=None)
        return cls(bars, None if fastest_s is None else fastest_s / target * 1000) if bars else None

    def alternative(self) -> str:
        """Return every bar and its parts in milliseconds, in words."""
        bars = []
        for bar in self.bars:
            parts = ", ".join(f"{part.label} {fmt.digits(part.milliseconds)} ms" for part in bar.parts)
            bars.append(
                f"{bar.label}: {fmt.digits(bar.milliseconds)} ms" + (f" ({parts})" if len(bar.parts) > 1 else "")
            )
        needed = f" The target needs {fmt.digits(self.target_ms)} ms." if self.target_ms is not None else ""
        return "Milliseconds per output token. " + "; ".join(bars) + "." + needed

    def draw(self, figure: Figure) -> None:
        """Draw one bar a system, its parts told apart by hatch and by the words in the legend."""
        figure.set_figheight(1.6 + 0.55 * len(self.bars))
        axes = figure.subplots()
        longest = max([*(bar.milliseconds for bar in self.bars), self.target_ms or 0.0, 1e-9])
        named: set[str] = set()
        for place, bar in enumerate(self.bars):
            left = 0.0
            for part in bar.parts:
                axes.barh(
                    place, part.milliseconds, left=left, height=0.52, color=FILLS[part.kind], edgecolor=INK,
                    linewidth=0.8, hatch=HATCHES[part.kind], label=None if part.label in named else part.label,
                )  # fmt: skip
                named.add(part.label)
                left += part.milliseconds
            axes.text(
                left + longest * 0.012, place, f"{fmt.digits(left)} ms", va="center", weight="bold", fontsize=9.5,
                bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
        if self.target_ms is not None:
            _target_line(axes, self.target_ms, self.target_ms / longest)
        axes.set_xlim(0, longest * 1.14)
        axes.set_ylim(len(self.bars) - 0.5, -0.5)
        name_rows(axes, [bar.label for bar in self.bars])
        axes.set_xlabel("milliseconds per output token, while decoding", **SMALL)
        figure.legend(loc="outside upper left", ncols=4, fontsize=9, columnspacing=1.4)


def _target_line(axes: Axes, target_ms: float, share: float) -> None:
    axes.axvline(target_ms, color=INK, linewidth=2)
    axes.text(
        target_ms, 1.02, f"needed for the target: {fmt.digits(target_ms)} ms",
        transform=axes.get_xaxis_transform(), fontsize=9,
        ha="left" if share < 0.2 else "center" if share < 0.75 else "right",
    )  # fmt: skip
