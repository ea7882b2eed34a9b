"""Fixtures that several files share: a running rehearsal, and a Lab on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal import cluster
from rehearsal.layout import Layout
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab

LONGEST_FIRST = ("test_traps.py", "test_flow.py", "test_rehearse.py", "test_flow_1x.py", "test_resume.py")
"""Files of over a minute: begun last, they would leave the other workers idle at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; pytest-xdist hands whole files out in this order."""
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up three SSH nodes and two Ollama stand-ins while the tests of one file run."""
    root = tmp_path_factory.mktemp("rehearsal")
    yield cluster.up(root)
    cluster.down(root)


@pytest.fixture
def lab(nodes: Layout) -> Iterator[Lab]:
    """Give a Lab on the running rehearsal, with links of its own."""
    hosts = Path(nodes.root) / "hosts.yaml"
    made = Lab(load_inventory(hosts), hosts)
    yield made
    made.close()
