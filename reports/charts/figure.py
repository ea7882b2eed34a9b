"""What the charts share: the protocol, the look of every arm, the axes, and the figure that becomes SVG and PNG.

Shapes, hatches and labels carry the meaning, colour only helps: colours differ in lightness too, every arm has a shape
of its own, discarded requests are hollow, so all of it reads printed in grey.

The only file that loads matplotlib, and only its Figure (pyplot costs 240 ms and a global state). The same numbers give
the same bytes: SVG ids come from a fixed salt, no date and no version is written.
"""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from reports.stats.arms import ArmEstimate
from reports.stats.summary import in_order
from reports.text.escape import one_line
from reports.text.format import arm_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure

WIDTH_IN = 7.4
PNG_DPI = 160
DOTS = 120
"""Single values that one row of a distribution shows at most: an eye tells no more apart, and each costs 170 bytes."""
CARD, INK, QUIET, FAINT, GRID, BAND = "#fbfaf7", "#1f2a37", "#5b6673", "#b9b4a8", "#e4e0d6", "#f0ede5"
ALARM = "#a1260d"
COLOURS = ("#0b4f9e", "#e08f1f", "#8a4f9e", "#2f8f83", "#8c6d46")
SHAPES = ("o", "s", "^", "D", "v")
DARK = {
    CARD: "#1c2026",
    INK: "#e6e3dc",
    QUIET: "#a3a9b1",
    FAINT: "#565e68",
    GRID: "#30363e",
    BAND: "#262c34",
    ALARM: "#ff9b80",
    "#dcebe0": "#1f3a2b",
    **dict(zip(COLOURS, ("#6ea8ff", "#f0a93f", "#c792ea", "#5cc9bb", "#c8a87c"), strict=True)),
}
"""Colour on a light page -> its counterpart on a dark one, which the SVG itself chooses."""
HEAD_IN = 0.34
"""Height of the line with the title above what a chart draws."""
SMALL: dict[str, Any] = {"fontsize": 9, "color": QUIET}
"""How axes and asides are written."""
STYLE: dict[str, Any] = {
    "svg.hashsalt": "exo-phase1",
    "svg.fonttype": "path",  # the same letters everywhere; the words are in the text alternative
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 10,
    "text.parse_math": False,  # a dollar sign in somebody's name is no formula
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": CARD,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": CARD,
    "savefig.facecolor": CARD,
}


class Chart(Protocol):
    """The data of one chart, which knows its words and how it is drawn."""

    name: ClassVar[str]
    """Stem of its files."""
    title: ClassVar[str]

    def alternative(self) -> str:
        """Return what it shows as one paragraph of plain text, for people who do not see it."""

    def draw(self, figure: Figure) -> None:
        """Draw it on an empty figure, whose height is for it to set."""


class DrawnChart(msgspec.Struct, frozen=True):
    """One finished chart: `name` is the files' stem, `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    svg: bytes
    png: bytes

    @property
    def data_uri(self) -> str:
        """Return the SVG as an address that holds all of it, for a page that stands alone."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode('ascii')}"


class ArmMark(msgspec.Struct, frozen=True):
    """How one arm is told apart in every chart: by its name, its shape and, last, its colour."""

    label: str
    order: int
    """0 is EXO, the baselines follow."""

    @property
    def colour(self) -> str:
        """Return its colour."""
        return COLOURS[self.order % len(COLOURS)]

    @property
    def shape(self) -> str:
        """Return its shape, as matplotlib calls it."""
        return SHAPES[self.order % len(SHAPES)]


def arm_marks(arms: Sequence[ArmEstimate]) -> dict[str, ArmMark]:
    """Return every arm's mark; `arms` come with EXO first, whose mark nobody else gets."""
    first = int(all(arm.engine != "exo" for arm in arms))
    return {
        arm.arm: ArmMark(one_line(arm_label(arm.arm, arm.engine), 24), order)
        for order, arm in enumerate(arms, start=first)
    }


def draw_charts(charts: Iterable[Chart], mark: str = "") -> list[DrawnChart]:
    """Draw every chart as SVG and as PNG, with `mark` (REHEARSAL) inside each: none can be taken for a real one."""
    import matplotlib

    # The defaults first: a matplotlibrc of the user's would change the bytes.
    settings: dict[Any, Any] = {**matplotlib.rcParamsDefault, **STYLE, "backend": "agg"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # an odd name shows as boxes
        return [_drawn(chart, mark) for chart in charts]


def _drawn(chart: Chart, mark: str) -> DrawnChart:
    """Return the chart with its bytes, without dates or versions in them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, rect=(0.01, 0.015, 0.98, 0.97))
    figure = Figure(layout=layout)
    figure.set_figwidth(WIDTH_IN)
    chart.draw(figure)
    layout.execute(figure)
    figure.set_layout_engine("none")  # laid out once, for both formats, and without drawing it for that
    _head(figure, chart.title, mark)
    svg, png = io.BytesIO(), io.BytesIO()
    # Not savefig: it would draw each a second time, to lay it out.
    dateless = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(svg, metadata=dateless)  # type: ignore[no-untyped-call]
    figure.set_dpi(PNG_DPI)
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})  # type: ignore[no-untyped-call]
    words = f"{mark}. {chart.alternative()}" if mark else chart.alternative()
    return DrawnChart(chart.name, chart.title, words, _for_dark_pages(svg.getvalue()), png.getvalue())


def _head(figure: Figure, title: str, mark: str) -> None:
    """Make room above all that was laid out, and put the title there, with the mark at its right."""
    below_in = float(figure.get_figheight())
    figure.set_figheight(below_in + HEAD_IN)
    share = below_in / (below_in + HEAD_IN)
    for axes in figure.axes:
        place = axes.get_position()
        axes.set_position((place.x0, place.y0 * share, place.width, place.height * share))
    for text in figure.texts:
        text.set_y(text.get_position()[1] * share)
    for legend in figure.legends:
        legend.set_bbox_to_anchor((0, 0, 1, share), transform=figure.transFigure)
    top = 1 - 0.1 / (below_in + HEAD_IN)
    figure.text(0.015, top, title, ha="left", va="top", weight="bold", fontsize=11.5)
    if mark:
        box = {"facecolor": "none", "edgecolor": ALARM, "linewidth": 1.2, "pad": 2.5}
        figure.text(0.985, top, mark, ha="right", va="top", weight="bold", fontsize=9.5, color=ALARM, bbox=box)


def _for_dark_pages(svg: bytes) -> bytes:
    """Give an SVG the style by which a dark page shows it dark; matplotlib writes every colour into `style` itself."""
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    head, end, rest = svg.partition(b"<defs>")
    style = f'<style type="text/css">@media (prefers-color-scheme:dark){{{rules}}}</style>\n '.encode()
    return head + style + end + rest


def some_of(values: Iterable[float]) -> list[float]:
    """Return DOTS of the values at most, evenly taken from their order, least and most with them."""
    ordered = in_order(values)
    shown = min(len(ordered), DOTS)
    return [float(ordered[round(place * (len(ordered) - 1) / max(1, shown - 1))]) for place in range(shown)]


def name_rows(axes: Axes, labels: list[str], *, grid: bool = True) -> None:
    """Label one row a thing, the first on top; vertical lines help to read along."""
    axes.set_yticks(range(len(labels)), labels)
    axes.spines["left"].set_visible(False)
    if grid:
        axes.grid(axis="x")


def log_axis(axes: Axes, low: float, high: float, unit: str = "") -> None:
    """Make the x axis logarithmic from `low` to `high`, with few and round ticks."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = round_ticks(low, high)
    axes.set_xticks(ticks, [f"{tick:g}{unit}" for tick in ticks])
    axes.set_xticks([], minor=True)


def round_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between `low` and `high` for a logarithmic axis, two to seven of them."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [step * 10.0**power for power in range(-4, 9) for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) >= 3:
            return ticks[:: -(-len(ticks) // 7)]
    # So narrow that a logarithmic axis is nearly even: equal steps crowd nowhere.
    unit = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = next(n * unit for n in (1, 2, 5, 10) if (high - low) / (n * unit) <= 6)
    return [n * step for n in range(math.floor(low / step), math.ceil(high / step) + 1) if low <= n * step <= high]
