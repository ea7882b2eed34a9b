"""The trap gallery, installs: the wrong program, a missing extra, mixed revisions, and engines that cannot compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from records.campaign import load_campaign
from records.facts import Cleaned, Installed
from rehearsal import cluster
from rehearsal.layout import Layout
from rehearsal.processes import marked
from rehearsal.trap_acts import kill_leader
from rehearsal.traps import tell
from tasks.benchmark.arms import seen_of
from tasks.benchmark.ring import RingWatch
from tasks.cleanup import stop_cluster
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.install import install_group, install_rog, install_srv1, install_srv2
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.start import start_group
from tests.support.exo_standin import wait_until
from tests.support.gallery import laid


@pytest.fixture
def trapped(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Bring up a rehearsal with the trap that the test names."""
    layout = cluster.up(tmp_path, trap=request.param)
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    yield lab
    lab.close()
    cluster.down(tmp_path)


@pytest.mark.long
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


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up a rehearsal on which nothing is installed yet."""
    layout = cluster.up(tmp_path_factory.mktemp("probed"))
    yield layout
    cluster.down(layout.root)


@pytest.mark.parametrize(
    ("trap", "install", "found", "do"),
    [
        # First on rog: what an extra once brought stays in the venv.
        ("amd-without-pyrsmi", install_rog, "crashes without it.*No module named 'pyrsmi'", "extras: [amd-gpu]"),
        ("readonly-array", install_srv2, "read-only array.*underlying buffer is not writable", "tinygrad==0.10.2"),
        ("amd-mask", install_rog, r"tinygrad 0.11.0 on AMD.*fp16 mask.*half -inf", 'AMD_LLVM: "0"'),
        pytest.param(
            "amd-pinned-tinygrad",
            install_rog,
            "No module named 'tinygrad.runtime.autogen.am'",
            "tinygrad==0.11.0",
            marks=pytest.mark.long,
        ),
        pytest.param("amd-without-comgr", install_rog, "libamd_comgr", "comgr package on rog", marks=pytest.mark.long),
        ("rocm-missing", install_rog, "driver is not loaded.*crashes at its start", "modprobe amdgpu"),
        ("no-clang", install_srv1, "No such file or directory: 'clang'", "install clang on srv1"),
    ],
)
def test_what_cannot_compute_fails_at_its_install(
    nodes: Layout, trap: str, install: Callable[[Lab], object], found: str, do: str
) -> None:
    """The probe in EXO's own venv refuses it in step 2 to 4, with the engine's words, the cause and the remedy."""
    with laid(nodes, trap) as lab, pytest.raises(StepError, match=found) as caught:
        install(lab)
    assert do in caught.value.problem.do
    assert caught.value.problem.what in caught.value.problem.do  # it ends with the install to type again


def test_an_install_that_is_there_is_probed_again(nodes: Layout) -> None:
    """A compiler that went away after the install is named by the next one, which installs nothing."""
    lab = Lab(load_inventory(nodes.hosts_file), nodes.hosts_file)
    first, again = install_srv1(lab), install_srv1(lab)
    lab.close()
    assert isinstance(first, Installed)
    assert isinstance(again, Installed)
    for found in (first.probe, again.probe):
        assert found is not None
        assert (found.works, found.device, found.versions["tinygrad"]) == (True, "CPU", "0.10.2")
    with laid(nodes, "no-clang") as lab:
        with pytest.raises(StepError, match="clang"):
            install_srv1(lab)
        commands = [command.command for command in load_campaign(lab.logs).records[2].commands]
    assert any("compute_probe.py" in command for command in commands)
    assert not any("pip install" in command for command in commands)


@pytest.mark.long
def test_generation_1(tmp_path: Path) -> None:
    """mlx-as-locked, redialled-peers and killed-leader: the three of EXO 1.0.71, on one rehearsal of it.

    In the last, rog falls once at its change of master and is started again; and srv2's end, in the middle of what
    would be a run, is named within seconds, and the script that waits for the ring is ended.
    """
    layout = cluster.up(tmp_path, generation=1)
    try:
        with laid(layout, "mlx-as-locked") as lab, pytest.raises(StepError, match="new_thread_local_stream") as caught:
            install_srv1(lab)
        assert "mlx==0.31.2" in caught.value.problem.do
        lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
        install_group(lab)
        installed = load_campaign(lab.logs).installed["srv1"]
        assert installed.probe is not None
        assert (installed.probe.works, installed.probe.engine, installed.probe.device) == (
            True,
            "mlx",
            "Device(cpu, 0)",
        )
        lab.close()
        with (
            laid(layout, "redialled-peers") as lab,
            pytest.raises(StepError, match=r"srv2: does not stand: .*election"),
        ):
            start_group(lab)
        with laid(layout, "killed-leader") as lab:
            tell(layout, ("rog",), "exo", falls_at_join=1)
            start_group(lab)
            stood = load_campaign(lab.logs).cluster
            assert stood is not None
            assert stood.joined_by == {"srv2": "link to srv1", "rog": "link to srv1"}
            assert stood.joins == {"srv2": 1, "rog": 2}
            assert stood.stood_s > 0
            ExoCluster(lab).make_ready(lab.profile.models.small)
            assert seen_of(ExoCluster(lab))["srv2"].runners == 1
            bench, noted = lab.bench_node, str(layout.root / "script.pid")
            script = "import sys, time; time.sleep(60)"
            bench.run(f"setsid python3 -c '{script}' --only </dev/null >/dev/null 2>&1 & echo $! >{noted}")
            with RingWatch(ExoCluster(lab), bench, noted) as ring:
                kill_leader(layout, "srv2")
                wait_until(lambda: bool(ring.lost))
            assert ring.words == "srv2: its EXO is not running any more"
            assert not any(script in command for command in marked(layout.root).values())
            assert ExoCluster(lab).gone() == ["srv2"]
            stopped = stop_cluster(lab)
            assert isinstance(stopped, Cleaned)
            assert stopped.nodes["srv2"].was_running
            assert not any(seen.processes for seen in seen_of(ExoCluster(lab)).values())
            assert not any("/venv/" in command for command in marked(layout.root).values())
    finally:
        cluster.down(tmp_path)
