"""Preflight over real SSH: what it asks, and how often it waits for a node."""

from __future__ import annotations

import json

import msgspec

from records.facts import OllamaState
from records.record import CONNECTING, read_record
from tasks.machines.lab import Lab
from tasks.machines.paths import ollama_before_path
from tasks.preflight import verify_python


def test_a_node_is_asked_everything_at_once(lab: Lab) -> None:
    """One connection and one command a node; a server costs three requests and one look at its process, all at once.

    One file is written on the bench node afterwards.
    """
    lab.close()
    found = verify_python(lab)
    record = read_record(lab.logs / "01-verify-python.json")
    bench = lab.bench_node.key
    expected = {key: ["connect", "ask"] for key in lab.nodes}
    for baseline in lab.inventory.ollama.values():
        expected[baseline.node] += ["process"]
    expected[bench] += ["GET"] * 3 * len(lab.inventory.ollama) + ["write"]
    assert record.round_trips == {key: len(asked) for key, asked in expected.items()}
    assert sorted(c.host for c in record.commands if c.command == CONNECTING) == sorted(lab.nodes)
    kept = json.loads(lab.bench_node.run(f"cat '{ollama_before_path(lab.bench_node, lab.inventory.profile)}'").stdout)
    assert msgspec.convert(kept, dict[str, OllamaState]) == found.ollama
    for key, node in found.nodes.items():
        assert node.python.startswith("/")
        assert node.cpu_count >= 1
        assert node.memory_bytes > 0
        assert lab.nodes[key].home() == lab.nodes[key].run('printf %s "$HOME"').stdout
    others = [key for key in lab.nodes if key != bench]
    assert set(found.network) == {*lab.nodes, f"{others[0]} to {others[1]}", f"{others[1]} to {others[0]}"}
    assert all(found.nodes[key].round_trip_s is not None for key in others)
