"""The cluster of one node on this machine: a restart during a benchmark, and what EXO itself tells of its layers."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from records.settings import Bench, Exo, Inventory, ModelPair, Models, NodeSpec, Ports, Profile
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.machines.lab import Lab
from tasks.machines.pythons import Python
from tasks.machines.wire import Request
from tests.support.ports import ADDRESS, free_port, lent_until
from tests.tasks.test_start import SERVER, write_program

SMALL = ModelPair("llama-3.2-3b", "llama3.2:3b-instruct-fp16", "fp16", "F16")
LARGE = ModelPair("llama-3.1-70b", "llama3.1:70b-instruct-fp16", "fp16", "F16")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ExoCluster]:
    """Give the cluster, its node's program yet to be written."""
    exo = Exo("0.0.15", "/srv/exo", python=">=3.11", ports=Ports(free_port(), free_port()), start_timeout_s=20)
    inventory = Inventory(
        profile="p",
        nodes={"srv1": NodeSpec(host="localhost", local=True, address=ADDRESS)},
        ollama={},
        profiles={"p": Profile("one process", exo, Models(SMALL, LARGE))},
        bench=Bench(node="srv1"),
    )
    lab = Lab(inventory, tmp_path / "hosts.yaml")
    lab.nodes["srv1"].remembered["home"] = str(tmp_path)
    lab.nodes["srv1"].remembered["pythons"] = [Python(sys.executable, platform.python_version(), "venv")]
    found = ExoCluster(lab)
    yield found
    found.entry.stop()
    lab.close()


def test_a_restart_too_asks_once_more_for_a_port_that_was_lent(cluster: ExoCluster) -> None:
    """In the midst of a benchmark an EXO that lives without its API is started again, and the cluster is whole."""
    exo = cluster.entry
    write_program(exo, SERVER.replace("    time.sleep(60)", "    open('lent', 'w').close(); time.sleep(60)"))
    other = lent_until(Path(exo.run_folder, "lent"), exo.ports.api)
    cluster.restart()
    other.close()
    assert cluster.complete_now() == {"srv1": True}


def test_the_layers_are_asked_of_exo_before_each_pair(cluster: ExoCluster) -> None:
    """The node that would get none of the large model's 80 layers is named before anything of it is downloaded."""
    tiny = '{"srv1": {"memory": 262144}, "rog": {"memory": 600}, "srv2": {"memory": 500}}'
    write_program(cluster.entry, SERVER.replace('{"srv1": {"model": os.environ.get("DEVICE", "CPU")}}', tiny))
    cluster.each(lambda exo: exo.restart())
    while cluster.entry.topology() is None:
        time.sleep(0.1)
    with pytest.raises(StepError, match=r"rog: is dealt none of the 80 layers of `llama-3.1-70b`"):
        cluster.make_ready(LARGE)


def test_a_cut_topology_is_named_as_that_and_never_as_seeing_nothing(cluster: ExoCluster) -> None:
    """A node whose answers never come whole says so where the cluster is to stand."""
    write_program(cluster.entry, SERVER.replace("str(len(body))", "str(2 * len(body))"))
    cluster.each(lambda exo: exo.restart())
    while not cluster.entry.ask(Request("GET", "/v1/topology")).cut:
        time.sleep(0.1)
    with pytest.raises(StepError, match=r"its topology: the answer was cut: \d+ of \d+ bytes came") as refusal:
        cluster.stand(1.5)
    assert "sees nothing" not in str(refusal.value)
