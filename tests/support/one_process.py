"""A cluster of one local node in a home folder of its own, whose EXO is whatever Python program a test names."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from records.settings import Bench, Exo, Inventory, ModelPair, Models, NodeSpec, Ports, Profile
from tasks.exo.cluster import ExoCluster
from tasks.machines import daemon
from tasks.machines.daemon import Launch
from tasks.machines.lab import Lab
from tests.support.ports import free_port

PAIR = ModelPair("llama-3.2-3b", "llama3.2:3b-instruct-fp16", "fp16", "F16")
EXO = Exo("0.0.15", "/srv/exo", ports=Ports(free_port(), free_port()))
INVENTORY = Inventory(
    profile="p",
    nodes={"srv1": NodeSpec(host="localhost", local=True, address="127.0.0.1")},
    ollama={},
    profiles={"p": Profile("one process", EXO, Models(PAIR, PAIR))},
    bench=Bench(node="srv1"),
)


@contextmanager
def one_process(home: Path) -> Iterator[ExoCluster]:
    """Give the cluster; what was started on it is stopped at the end."""
    lab = Lab(INVENTORY, home / "hosts.yaml")
    lab.nodes["srv1"].remembered["home"] = str(home)
    found = ExoCluster(lab)
    yield found
    found.entry.stop()
    lab.close()


def start(cluster: ExoCluster, program: str) -> None:
    """Start `program` as the node's EXO, PORT in it being that of the API, and wait until it listens there."""
    exo = cluster.entry
    argv = [sys.executable, "-u", "-c", program.replace("PORT", str(EXO.ports.api))]
    daemon.start(exo.node, exo.run_folder, Launch(argv, {}, {}, ()))
    while not exo.ports_taken():
        time.sleep(0.05)
