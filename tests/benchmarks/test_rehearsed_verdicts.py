"""The tally of rehearsed campaigns, and that another seed reaches the engines of a rehearsal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.rehearsed_verdicts import reseed
from benchmarks.verdict_tally import Outcome, broken_limits, table, tally
from rehearsal import cluster
from rehearsal.engine.pace import slowness
from tasks.inventory import campaign_id, load_inventory
from tasks.machines.lab import Lab

GO = Outcome("GO", "", 1.62, 1.51, 1.71)
NO_GO = Outcome("NO-GO", "", 1.19, 1.12, 1.26)
INVALID = Outcome("INVALID", "", 1.3, 1.2, 1.4)


def test_one_false_go_breaks_the_limit() -> None:
    """At a true 1.20 a single GO in 20 is one too many; at 1.30 it is what was asked for."""
    verdicts = [GO, *[NO_GO] * 19]
    assert broken_limits({1.2: [NO_GO] * 20}, 20) == []
    assert broken_limits({1.2: verdicts}, 20) == ["true 1.20: 1 false GO, where none may be"]
    assert broken_limits({1.3: verdicts}, 20) == []


def test_nineteen_of_twenty_must_be_go() -> None:
    """At a true 1.60 one campaign may miss its GO, two may not."""
    assert broken_limits({1.6: [*[GO] * 19, NO_GO]}, 20) == []
    assert broken_limits({1.6: [*[GO] * 18, NO_GO, NO_GO]}, 20) == ["true 1.60: GO in 18 of 20, fewer than 95%"]


def test_limits_do_not_hold_idly() -> None:
    """No campaigns, or campaigns that all came to no verdict on the rates, are no proof of the absence of false GO."""
    assert broken_limits({1.0: [], 1.2: [INVALID] * 20}, 20) == [
        "true 1.00: only 0 of 20 campaigns were run",
        "true 1.20: 20 campaigns without a verdict on the rates",
    ]


def test_table_counts_what_the_bounds_hold() -> None:
    """A row has the verdicts by word, the mean ratio, and how often each bound lies on its side of the truth."""
    failed = Outcome("failed", "srv1: is gone")
    low = Outcome("NO-GO", "", 1.40, 1.30, 1.50)
    rows = list(table({1.6: [GO, low, failed], 1.0: [failed]}))
    assert rows[2] == "| 1.00 | 0 | 0 | 0 | 1 | - | 0 of 0 | 0 of 0 |"
    assert rows[3] == "| 1.60 | 1 | 1 | 0 | 1 | 1.510 | 2 of 2 | 1 of 2 |"
    assert tally([GO, low, failed]) == {"GO": 1, "NO-GO": 1, "other": 1}


def test_another_seed_reaches_every_engine_and_the_schedule(tmp_path: Path) -> None:
    """After a change of seed every stand-in's settings hold it, nothing else is new, and the campaign is another."""
    layout = cluster.lay_out(tmp_path / "rehearsal", speedup=1.3, noise=0.04, seed=1)
    before = {node.key: json.loads(node.settings.read_text()) for node in layout.nodes()}
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    earlier = campaign_id(lab.inventory)
    reseed(layout, lab, 77)
    lab.close()
    for node in layout.nodes():
        after = json.loads(node.settings.read_text())
        seeds = [after[section].pop("seed") for section in ("exo", "ollama") if section in after]
        assert set(seeds) == {77}
        for section in ("exo", "ollama"):
            before[node.key].get(section, {}).pop("seed", None)
        assert after == before[node.key]
    assert lab.inventory.bench.seed == 77
    assert campaign_id(lab.inventory) != earlier


def test_a_drift_goes_its_way_once_in_every_campaign(tmp_path: Path) -> None:
    """Both engines lose 20 % from the seed's change on, evenly in the logarithm, in as long as a campaign lasts."""
    layout = cluster.lay_out(tmp_path / "rehearsal", drift=-0.2)
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    reseed(layout, lab, 77, 40.0)
    lab.close()
    told = [json.loads(node.settings.read_text())[section] for node in layout.nodes() for section in ("exo",)]
    told.append(json.loads(layout.node("rog").settings.read_text())["ollama"])
    for values in told:
        for past_s, slower in ((-1, 1.0), (20, 0.8**-0.5), (90, 1.25)):
            then = values | {"drift_from_s": time.time() - past_s}
            assert values["drift_over_s"] == 40.0
            assert slowness(lambda key, default, then=then: then.get(key, default)) == pytest.approx(slower, rel=1e-2)
    assert slowness(lambda key, default: default) == 1.0
