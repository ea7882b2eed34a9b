"""The quick lane holds no test that starts a rehearsal, and the lanes together hold every test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rehearsal.cluster import lay_out
from rehearsal.processes import start_detached
from rehearsal.trap_acts import start_stale_exo


def test_a_test_of_the_quick_lane_starts_no_server(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A test without the mark `rehearsal` that starts a server of one, or an engine, fails before it runs."""
    assert not request.node.get_closest_marker("rehearsal")
    argv = [sys.executable, "-m", "rehearsal.node_server", "node.json"]
    with pytest.raises(RuntimeError, match="without the mark"):
        start_detached(argv, tmp_path, {}, tmp_path, tmp_path / "log")
    with pytest.raises(RuntimeError, match="without the mark"):
        start_stale_exo(lay_out(tmp_path / "rehearsal"))


def test_a_test_on_running_nodes_has_the_mark(request: pytest.FixtureRequest) -> None:
    """Whoever asks for the fixture `nodes` or `lab`, itself or through another fixture, is in the slow lane."""
    for item in request.session.items:
        if {"nodes", "lab"} & set(getattr(item, "fixturenames", ())):
            assert item.get_closest_marker("rehearsal"), item.nodeid
