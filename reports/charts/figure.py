"""Draws the charts: the only file that loads matplotlib, and only its Figure (pyplot costs 240 ms and a global state).

What is drawn comes from `chart_data`, how from `drawings` and `drawings_spread`; here are the figure, the style and the
bytes. The same numbers give the same bytes: SVG ids come from a fixed salt, no date and no version is written.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from reports.charts import drawings, drawings_spread, words
from reports.charts.data import ChartSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN = 7.4
PNG_DPI = 160

STYLE: dict[str, Any] = {
    "svg.hashsalt": "exo-phase1",
    "svg.fonttype": "path",  # the same letters everywhere; the words are in the text alternative
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 10,
    "text.parse_math": False,  # a dollar sign in somebody's name is no formula
    "text.color": drawings.INK,
    "axes.edgecolor": drawings.FAINT,
    "axes.labelcolor": drawings.INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": drawings.CARD,
    "axes.axisbelow": True,
    "xtick.color": drawings.QUIET,
    "ytick.color": drawings.INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": drawings.GRID,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": drawings.CARD,  # a light card of its own: legible on a dark page as well
    "savefig.facecolor": drawings.CARD,
}


class Chart(msgspec.Struct, frozen=True):
    """One finished chart: `name` is the file's stem, `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    svg: bytes
    png: bytes


def draw_charts(charts: ChartSet) -> list[Chart]:
    """Draw every chart that has data, in the order of the report."""
    import matplotlib

    # The defaults first: a matplotlibrc of the user's would change the bytes.
    settings: dict[Any, Any] = {**matplotlib.rcParamsDefault, **STYLE, "backend": "agg"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # an odd name shows as boxes
        return [
            Chart(name, words.TITLES[name], words.alternative(data), *_save(height, draw, data))
            for name, data, height, draw in _wanted(charts)
        ]


Drawing = Callable[["Figure", Any], None]


def _wanted(charts: ChartSet) -> Iterator[tuple[str, Any, float, Drawing]]:
    """Yield name, data, height in inches and drawing of every chart there is."""
    if charts.speedup:
        yield "speedup", charts.speedup, 1.55 + 0.85 * len(charts.speedup.rows), drawings.speedup
    if charts.order:
        yield "requests", charts.order, 4.2, drawings.order
    if charts.latency:
        rows = len(charts.latency.first_token) + len(charts.latency.inter_token)
        yield "latency", charts.latency, 1.9 + 0.52 * rows, drawings_spread.latency
    if charts.token_time:
        yield "token-time", charts.token_time, 1.6 + 0.55 * len(charts.token_time.bars), drawings.token_time
    if charts.nodes:
        yield "nodes", charts.nodes, 1.7 + 0.62 * len(charts.nodes.rows), drawings_spread.nodes


def _save(height_in: float, draw: Drawing, data: Any) -> tuple[bytes, bytes]:
    """Return the figure as SVG and PNG bytes, without dates or versions in either."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, rect=(0.01, 0.015, 0.98, 0.97))
    figure = Figure(figsize=(WIDTH_IN, height_in), layout=layout)
    draw(figure, data)
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()
