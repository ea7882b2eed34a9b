"""Draw who imports whom, from the imports that the code has today: `make architecture`.

Three pictures go to docs/architecture/: the whole house, and the modules of `tasks/` and `reports/` in their folders.
A box stands below everything that imports it. Inside a frame an arrow goes from box to box, between frames from frame
to frame; an arrow that others already imply is left out, and one that points upwards, in a circle, is red.
Standard library alone, and the same code gives the same bytes, so a test compares the files.
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
PICTURES = PROJECT / "docs" / "architecture"
ROOMS = ("tasks", "reports", "records", "scripts", "rehearsal")
DRAWN_WHOLE = ("rehearsal", "scripts")
"""Rooms that are one box in the overview: one module each of `tasks` uses them."""

BOX_HEIGHT, LETTER, TEXT_MARGIN = 22.0, 6.6, 9.0
"""Pixels; a letter's width is an estimate that `textLength` in the SVG then makes true in every font."""
GAP, FLOOR_GAP, FRAME_GAP, FRAME_FLOOR_GAP, FRAME_MARGIN, FRAME_TITLE = 12.0, 20.0, 22.0, 34.0, 12.0, 20.0
INK, LINE, BACKWARDS, CARD, BOX = "#1f2933", "#7b8794", "#c0392b", "#ffffff", "#ffffff"
TINTS = {"tasks": "#fdf1e3", "reports": "#e6f0fa", "records": "#e6f4e8"}
TINT = "#f3f4f6"

Edges = Mapping[str, set[str]]
Point = tuple[float, float]


# ---- What imports what -----------------------------------------------------------------------------------------------


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(project: Path = PROJECT) -> dict[str, set[str]]:
    """Return every module of the rooms with the modules of the rooms that it imports. Packages themselves are none."""
    paths = [project / "fabfile.py", *(path for room in ROOMS for path in (project / room).rglob("*.py"))]
    files = {
        path.relative_to(project).with_suffix("").as_posix().replace("/", "."): path
        for path in paths
        if path.name != "__init__.py" and "_source/" not in path.as_posix()  # the stand-ins' own packages
    }
    return {module: set(imports_of(path)) & set(files) - {module} for module, path in sorted(files.items())}


def merged(graph: Edges, name_of: Callable[[str], str | None]) -> dict[str, set[str]]:
    """Return the graph of what `name_of` calls the modules; those it calls None are left out."""
    found: dict[str, set[str]] = {}
    for module, imported in graph.items():
        name = name_of(module)
        if name is not None:
            others = {other for other in map(name_of, imported) if other is not None}
            found.setdefault(name, set()).update(others - {name})
    return found


def without_implied(edges: Edges) -> dict[str, set[str]]:
    """Return the edges that others do not imply (the transitive reduction, circles left whole)."""

    def reached_from(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for following in edges[waiting.pop()] - seen:
                seen.add(following)
                waiting.append(following)
        return seen

    reach = {name: reached_from(name) for name in edges}
    return {
        name: {
            target
            for target in targets
            if not any(target in reach[between] and name not in reach[between] for between in targets - {target})
        }
        for name, targets in edges.items()
    }


def floors(edges: Edges) -> dict[str, int]:
    """Return on which floor each name stands: 0 imports nothing, others are one above the highest they import.

    Where a circle closes, its last arrow is not counted, so it will point upwards.
    """
    floor: dict[str, int] = {}
    open_names: list[str] = []

    def visit(name: str) -> int:
        if name not in floor:
            open_names.append(name)
            below = [visit(target) for target in sorted(edges[name]) if target not in open_names]
            open_names.pop()
            floor[name] = 1 + max(below, default=-1)
        return floor[name]

    for name in sorted(edges):
        visit(name)
    return floor


# ---- Where it stands -------------------------------------------------------------------------------------------------


class Size(NamedTuple):
    """Width and height in pixels."""

    width: float
    height: float


class Layout(NamedTuple):
    """Where every box's upper left corner is, the way of every arrow, and how large the whole is."""

    corners: dict[str, Point]
    ways: dict[tuple[str, str], list[Point]]
    size: Size


def layout(sizes: Mapping[str, Size], edges: Edges, gap: float, floor_gap: float) -> Layout:
    """Place boxes by floor so that arrows cross little and pass between boxes (Sugiyama's method, in short).

    An arrow over several floors gets a place of no width on each floor between; `a>b@2` is its name.
    """
    floor = floors(edges)
    chains: dict[tuple[str, str], list[str]] = {}
    rows: list[list[str]] = [[] for _ in range(max(floor.values(), default=0) + 1)]
    for name in sorted(floor):
        rows[floor[name]].append(name)
    for name, targets in sorted(edges.items()):
        for target in sorted(targets):
            step = 1 if floor[target] > floor[name] else -1
            between = [(f"{name}>{target}@{n}", n) for n in range(floor[name] + step, floor[target], step)]
            for place, number in between:
                rows[number].append(place)
            chains[name, target] = [name, *(place for place, _ in between), target]
    links = [link for chain in chains.values() for link in pairwise(chain)]
    rows = _ordered(rows, links)
    centre = _centres(rows, links, {name: size.width for name, size in sizes.items()}, gap)
    left = min((centre[n] - sizes[n].width / 2 for n in sizes), default=0.0)
    right = max((centre[n] + sizes[n].width / 2 for n in sizes), default=0.0)
    tops: list[float] = []
    height = 0.0
    tall = [max((sizes[name].height for name in row if name in sizes), default=0.0) for row in rows]
    for number in reversed(range(len(rows))):  # the highest floor is at the top of the page
        tops.insert(0, height)
        height += tall[number] + (floor_gap if number else 0.0)
    corners = {name: (centre[name] - size.width / 2 - left, tops[floor[name]]) for name, size in sizes.items()}
    number_of = {name: number for number, row in enumerate(rows) for name in row}
    ways = {}
    for (name, target), chain in chains.items():
        down = floor[target] < floor[name]
        start, end = (corners[n][0] + sizes[n].width * _port(n, name, target, chains, centre) for n in (name, target))
        way = [(start, corners[name][1] + (sizes[name].height if down else 0.0))]
        for place in chain[:-1]:
            x = start if place == name else centre[place] - left
            top, bottom = tops[number_of[place]], tops[number_of[place]] + tall[number_of[place]]
            way += [(x, top if down else bottom), (x, bottom if down else top)]
        if down:
            del way[1]  # it leaves below its box, not at the top of its floor
        else:
            del way[1:3]
        ways[name, target] = [*way, (end, corners[target][1] + (0.0 if down else sizes[target].height))]
    return Layout(corners, ways, Size(right - left, height))


def _ordered(rows: Sequence[Sequence[str]], links: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return every floor in the order with the fewest crossings that sorting by the mean of the neighbours finds."""
    near: dict[str, list[str]] = {}
    for a, b in links:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)

    def crossings(trial: Sequence[Sequence[str]]) -> int:
        at = {name: (number, place) for number, row in enumerate(trial) for place, name in enumerate(row)}
        flat = sorted((max(at[a], at[b]), min(at[a], at[b])) for a, b in links)
        return sum(
            upper[0] == other[0] and (upper[1] - other[1]) * (lower[1] - below[1]) < 0
            for i, (upper, lower) in enumerate(flat)
            for other, below in flat[:i]
        )

    best = current = [list(row) for row in rows]
    for sweep in range(40):
        place = {name: index / max(1, len(row) - 1) for row in current for index, name in enumerate(row)}
        numbers = range(len(current)) if sweep % 2 else reversed(range(len(current)))
        current = [list(row) for row in current]
        for number in numbers:
            row = current[number]
            other = number - 1 if sweep % 2 else number + 1
            side = current[other] if 0 <= other < len(rows) else []
            wanted = {name: _mean([place[n] for n in near.get(name, []) if n in side] or [place[name]]) for name in row}
            row.sort(key=lambda name: (wanted[name], name))
            place |= {name: index / max(1, len(row) - 1) for index, name in enumerate(row)}
        if crossings(current) < crossings(best):
            best = current
    return best


def _centres(
    rows: Sequence[Sequence[str]], links: Sequence[tuple[str, str]], widths: Mapping[str, float], gap: float
) -> dict[str, float]:
    """Return each name's centre: near the mean of its neighbours, in the order given, and nothing overlapping."""
    near: dict[str, list[str]] = {name: [] for row in rows for name in row}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    centre: dict[str, float] = {}
    apart: list[list[float]] = []
    for row in rows:
        offsets = [0.0]
        for a, b in pairwise(row):
            offsets.append(offsets[-1] + (widths.get(a, 0.0) + widths.get(b, 0.0)) / 2 + gap)
        apart.append(offsets)
        centre |= {name: offset - offsets[-1] / 2 for name, offset in zip(row, offsets, strict=True)}
    for sweep in range(60):
        numbered = list(enumerate(rows))
        for number, row in numbered if sweep % 2 else reversed(numbered):
            wanted = [_mean([centre[n] for n in near[name]] or [centre[name]]) for name in row]
            level = _rising([want - offset for want, offset in zip(wanted, apart[number], strict=True)])
            centre |= {name: at + offset for name, at, offset in zip(row, level, apart[number], strict=True)}
    return {name: round(at, 1) for name, at in centre.items()}


def _rising(values: Iterable[float]) -> list[float]:
    """Return the nearest sequence that nowhere falls (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            before, weight = pools.pop()
            mean, count = (before * weight + mean * count) / (weight + count), weight + count
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)  # exact, so that every Python draws the same


def _port(
    box: str, name: str, target: str, chains: Mapping[tuple[str, str], list[str]], centre: Mapping[str, float]
) -> float:
    """Return at which share of a box's width an arrow leaves (or reaches) it: arrows of one box stand side by side."""
    next_place = {pair: chain[1 if box == name else -2] for pair, chain in chains.items()}
    siblings = [pair for pair in chains if pair[0 if box == name else 1] == box]
    siblings.sort(key=lambda pair: (centre[next_place[pair]], pair))
    return (siblings.index((name, target)) + 1) / (len(siblings) + 1)


# ---- The picture -----------------------------------------------------------------------------------------------------


def picture(
    title: str,
    graph: Edges,
    frame_of: Callable[[str], str | None],
    box_of: Callable[[str], str],
    between_frames: Callable[[Edges], Edges] = without_implied,
) -> str:
    """Return the SVG of `graph`: boxes by name in frames by name; a frame with one box of its own name is that box."""
    frames = merged(graph, frame_of)
    insides: dict[str, Layout] = {}
    sizes: dict[str, Size] = {}
    alone = {}
    for frame in sorted(frames):
        members = {module for module in graph if frame_of(module) == frame}
        boxes = merged({module: graph[module] & members for module in members}, box_of)
        alone[frame] = list(boxes) == [frame]
        inside = layout({box: _box_size(box) for box in boxes}, without_implied(boxes), GAP, FLOOR_GAP)
        insides[frame] = inside
        sizes[frame] = (
            inside.size
            if alone[frame]
            else Size(
                max(inside.size.width, LETTER * len(frame)) + 2 * FRAME_MARGIN,
                inside.size.height + FRAME_MARGIN + FRAME_TITLE,
            )
        )
    outside = layout(sizes, between_frames(frames), FRAME_GAP, FRAME_FLOOR_GAP)
    shapes = [_arrow(way) for _, way in sorted(outside.ways.items())]
    for frame, (x, y) in sorted(outside.corners.items()):
        if not alone[frame]:
            shapes.append(_frame(frame, x, y, sizes[frame]))
            x, y = x + (sizes[frame].width - insides[frame].size.width) / 2, y + FRAME_TITLE
        shapes += [_arrow([(x + a, y + b) for a, b in way]) for _, way in sorted(insides[frame].ways.items())]
        shapes += [_box(box, x + a, y + b) for box, (a, b) in sorted(insides[frame].corners.items())]
    return _page(title, shapes, outside.size)


def _box_size(name: str) -> Size:
    return Size(LETTER * len(name) + 2 * TEXT_MARGIN, BOX_HEIGHT)


def _box(name: str, x: float, y: float) -> str:
    size = _box_size(name)
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="4" fill="{BOX}" '
        f'stroke="{INK}"/>\n' + _words(name, x + TEXT_MARGIN, y + 15.5)
    )


def _frame(name: str, x: float, y: float, size: Size) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="7" '
        f'fill="{TINTS.get(name, TINT)}" stroke="{LINE}"/>\n' + _words(f"{name}/", x + 8, y + 14, bold=True)
    )


def _words(text: str, x: float, y: float, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    width = LETTER * len(text)
    return f'<text x="{x:.1f}" y="{y:.1f}" textLength="{width:.1f}"{weight}>{escape(text)}</text>'


def _arrow(way: Sequence[Point]) -> str:
    """Return an arrow that leaves and arrives upright, and is straight where it passes a floor."""
    (x, y), *rest = way
    path = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in rest:
        bend = (y + to_y) / 2
        path.append(f"V{to_y:.1f}" if to_x == x else f"C{x:.1f} {bend:.1f} {to_x:.1f} {bend:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    up = way[-1][1] < way[0][1]
    colour, head = (BACKWARDS, "back") if up else (LINE, "head")
    return f'<path d="{" ".join(path)}" fill="none" stroke="{colour}" stroke-width="1.2" marker-end="url(#{head})"/>'


def _page(title: str, shapes: Sequence[str], size: Size) -> str:
    margin, head = 14.0, 26.0
    width, height = size.width + 2 * margin, size.height + 2 * margin + head
    markers = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0.8L8 4L0 7.2z" fill="{colour}"/></marker>'
        for name, colour in (("head", LINE), ("back", BACKWARDS))
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="DejaVu Sans, Verdana, sans-serif" '
            f'font-size="11" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            f"<defs>{markers}</defs>",
            f'<rect width="100%" height="100%" fill="{CARD}"/>',
            _words(title, margin, margin + 8, bold=True),
            f'<g transform="translate({margin:.0f} {margin + head:.0f})">',
            *shapes,
            "</g>",
            "</svg>",
            "",
        ]
    )


def pictures(project: Path = PROJECT) -> dict[str, str]:
    """Return every picture's file name and SVG."""
    graph = import_graph(project)

    def inside(room: str) -> str:
        def frame_of(module: str) -> str | None:
            parts = module.split(".")
            return parts[1] if parts[0] == room else None

        title = f"Who imports whom in {room}/"
        return picture(title, graph, frame_of, lambda module: module.split(".")[-1])

    def box_of(module: str) -> str:
        room, *below = module.split(".")
        if not below or room in DRAWN_WHOLE:
            return room
        return f"{below[0]}/" if len(below) > 1 else below[0]

    # The few arrows between rooms are the rule of the house, so all are drawn.
    house = picture("Who imports whom", graph, lambda module: module.split(".")[0], box_of, dict)
    return {"house.svg": house, "tasks.svg": inside("tasks"), "reports.svg": inside("reports")}


def main() -> int:
    """Write the pictures and return the exit code."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures().items():
        (PICTURES / name).write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
