"""The trap gallery, installs: the wrong program, a missing extra, mixed revisions and a GPU that is not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from records.facts import Started
from rehearsal import cluster
from tasks.benchmark.steps import bench_comparison
from tasks.errors import StepError
from tasks.install import install_group, install_rog, install_srv1
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.start import start_group, start_rog
from tests.support.gallery import check_named, decided


@pytest.fixture
def trapped(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Bring up a rehearsal with the trap that the test names."""
    layout = cluster.up(tmp_path, trap=request.param)
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    yield lab
    lab.close()
    cluster.down(tmp_path)


@pytest.mark.parametrize("trapped", ["yeast-package"], indirect=True)
def test_yeast_package(trapped: Lab) -> None:
    """yeast-package: what was installed is refused by its own name, not taken for EXO because pip succeeded."""
    with pytest.raises(StepError, match="Yeast Epigenome") as caught:
        install_srv1(trapped)
    assert "EXO" in caught.value.problem.needed


@pytest.mark.parametrize("trapped", ["wrong-extra"], indirect=True)
def test_wrong_extra(trapped: Lab) -> None:
    """wrong-extra: pip only warns that there is no extra `amd`; here it is an error that says so."""
    with pytest.raises(StepError, match=r"(?i)extra.*amd|amd.*extra"):
        install_rog(trapped)


@pytest.mark.parametrize("trapped", ["mixed-revisions"], indirect=True)
def test_mixed_revisions(trapped: Lab) -> None:
    """mixed-revisions: every node calls its EXO 0.0.1, and the group still refuses them by their revisions."""
    with pytest.raises(StepError) as caught:
        install_group(trapped)
    revisions = {problem.what: problem.found for problem in caught.value.problems}
    assert revisions["srv1"] == revisions["rog"] != revisions["srv2"]


@pytest.mark.parametrize("trapped", ["gpu-on-cpu"], indirect=True)
def test_gpu_on_cpu(trapped: Lab) -> None:
    """gpu-on-cpu: start-rog says that EXO computes on the CPU, and the device check makes any verdict INVALID."""
    install_group(trapped)
    start_group(trapped)
    started = start_rog(trapped)
    assert isinstance(started, Started)
    assert (started.gpu_expected, started.device_kind) == (True, "cpu")
    bench_comparison(trapped, runs="1")
    decision = decided(trapped)
    assert check_named(decision, "device").status == "fatal"
    assert decision.verdict == "INVALID"
