"""What the report says of the machines before the runs."""

from __future__ import annotations

import msgspec

from records.campaign import Campaign
from records.samples import Conditions
from reports.pages.conditions import conditions_table
from tests.support.campaigns import make_campaign


def with_notes(*notes: Conditions, step: int = 12) -> Campaign:
    """Return a campaign with these notes before the runs of a step and none before others."""
    return msgspec.structs.replace(make_campaign(runs=2), conditions={step: list(notes)})


def noted(load: float, **more: dict[str, float]) -> Conditions:
    """Return the notes of one run: srv1 with 4 CPUs, rog with 16."""
    loads, cpus = {"srv1": load, "rog": 2 * load}, {"srv1": 4, "rog": 16}
    memory = {"srv1": 8_000_000_000, "rog": 96_400_000_000}
    base = Conditions(1, "exo", 1, "", load_1m=loads, cpu_count=cpus, memory_available_bytes=memory)
    return msgspec.structs.replace(base, **more)


def test_each_node_has_its_range() -> None:
    """Least to most over the runs, the load by CPU; a node that tells no temperature has none."""
    hot = noted(0.4, temperature_c={"rog": 61.2}, clock_mhz={"rog": 5100.0})
    hotter = noted(0.8, temperature_c={"rog": 88.4}, clock_mhz={"rog": 3600.0})
    table = conditions_table(with_notes(hot, hotter))
    assert table is not None
    assert table.head == ["Node", "Load per CPU", "Free memory", "Hottest sensor", "Fastest core's clock"]
    assert table.rows == [
        ["srv1", "0.10 to 0.20", "8.0 GB", "", ""],
        ["rog", "0.05 to 0.10", "96.4 GB", "61 to 88 °C", "3600 to 5100 MHz"],
    ]
    assert table.caption == "Least to most, noted before each of 2 runs of step 12, where told."


def test_what_no_node_tells_has_no_column() -> None:
    """Virtual machines know neither temperature nor clock; the baseline's notes serve before the comparison's."""
    table = conditions_table(with_notes(noted(0.4), step=11))
    assert table is not None
    assert table.head == ["Node", "Load per CPU", "Free memory"]
    assert "1 run of step 11" in table.caption


def test_nothing_noted_is_no_table() -> None:
    """Before anything was measured there is nothing to show."""
    assert conditions_table(with_notes()) is None
