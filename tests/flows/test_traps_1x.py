"""The trap gallery of EXO 1.0.71: a ring that is stuck, dead or broken while everything says that it is well."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from records.campaign import load_campaign
from rehearsal import cluster
from rehearsal.layout import Layout
from rehearsal.traps import tell
from reports.checks.answers import errors
from tasks.benchmark import ring
from tasks.benchmark.arms import ExoArm
from tasks.benchmark.steps import bench_comparison
from tasks.exo.work import HUNG_S
from tasks.install import install_group
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.start import start_group
from tests.support.gallery import laid

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up a rehearsal of EXO 1.0.71, installed on all three nodes."""
    layout = cluster.up(tmp_path_factory.mktemp("gallery1"), generation=1)
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    install_group(lab)
    lab.close()
    yield layout
    cluster.down(layout.root)


@pytest.mark.parametrize(("trap", "after_s"), [("stuck-placement", 15), ("dead-ring", HUNG_S)])
def test_a_ring_that_does_not_get_on_is_placed_anew(nodes: Layout, trap: str, after_s: float) -> None:
    """stuck-placement, dead-ring: given up after a while, placed again, and a chat passes."""
    with laid(nodes, trap) as lab:
        start_group(lab)
        begin = time.monotonic()
        arm = ExoArm(lab, lab.profile.models.small)
        arm.load()
        assert time.monotonic() - begin >= after_s
        assert not arm.fresh


def test_a_ring_that_dies_in_a_measured_run_loses_it(nodes: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """dead-ring, later: no request is waited out for its time-out; the run is lost and measured again."""
    monkeypatch.setattr(ring, "HUNG_S", 10.0)  # below the rehearsal's time-out, as 60 s are below a campaign's
    with laid(nodes, "dead-ring") as lab:
        tell(nodes, ("srv1",), "exo", ring_dies_in=3)  # the proof and the warm-up pass
        start_group(lab)
        bench_comparison(lab, runs="1")
        lost = [note for note in load_campaign(lab.logs).conditions[12] if note.lost]
    assert [(note.arm, note.run, note.attempt) for note in lost] == [("exo", 1, 1)]
    assert "did nothing for" in lost[0].lost


def test_an_error_in_a_clean_stream_loses_the_run(nodes: Layout) -> None:
    """error-frame: the run is measured again as a whole, and its error is told once."""
    with laid(nodes, "error-frame") as lab:
        start_group(lab)
        bench_comparison(lab, runs="1")
        campaign = load_campaign(lab.logs)
    lost = [s for s in campaign.samples[12] if s.lost]
    assert {(s.arm, s.run, s.attempt) for s in lost} == {("exo", 1, 1)}
    assert [s.error for s in lost if s.error] == [
        "the server said: Runner shutdown before completing command (signal=9 (Killed))"
    ]
    assert errors(campaign, 12).status == "warn"
