"""What every node was like just before the runs: load, free memory, temperature, clock. Throttling shows here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from records.campaign import Campaign
from records.samples import Conditions
from reports.text import format as fmt
from reports.text.table import Table, clip, without_empty_columns


def conditions_table(campaign: Campaign) -> Table | None:
    """Tabulate what was noted before the runs of step 12 (11 where 12 has none), a row a node, least to most."""
    step = noted_step(campaign)
    if step is None:
        return None
    notes = campaign.conditions[step]
    loads = [{node: load / (note.cpu_count.get(node) or 1) for node, load in note.load_1m.items()} for note in notes]
    rows = [
        [
            clip(node, cap=40),
            _range(_of(node, loads), "{:.2f}"),
            _range(
                (bytes_ / 1e9 for bytes_ in _of(node, (note.memory_available_bytes for note in notes))), "{:.1f}", "GB"
            ),
            _range(_of(node, (note.temperature_c for note in notes)), "{:.0f}", "°C"),
            _range(_of(node, (note.clock_mhz for note in notes)), "{:.0f}", "MHz"),
        ]
        for node in _nodes(notes)
    ]
    head = ["Node", "Load per CPU", "Free memory", "Hottest sensor", "Fastest core's clock"]
    caption = f"Least to most, noted before each of {fmt.count(len(notes), 'run')} of step {step}, where told."
    return without_empty_columns(Table(head, rows, [1, 2, 3, 4], caption))


def noted_step(campaign: Campaign) -> int | None:
    """Return the step whose runs are shown: 12, or 11 where 12 has none; None where nothing was measured."""
    return next((number for number in (12, 11) if campaign.conditions.get(number)), None)


def _nodes(notes: Iterable[Conditions]) -> list[str]:
    return list(dict.fromkeys(node for note in notes for node in (*note.load_1m, *note.memory_available_bytes)))


def _of(node: str, readings: Iterable[Mapping[str, float]]) -> list[float]:
    return [values[node] for values in readings if node in values]


def _range(values: Iterable[float], form: str, unit: str = "") -> str:
    ordered = sorted(values)
    if not ordered:
        return ""
    least, most = form.format(ordered[0]), form.format(ordered[-1])
    return f"{least if least == most else f'{least} to {most}'} {unit}".rstrip()
