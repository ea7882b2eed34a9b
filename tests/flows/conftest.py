"""One rehearsal with EXO installed, for the files that lay one trap after the other on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rehearsal import cluster
from rehearsal.layout import Layout
from tasks.install import install_group
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up a rehearsal with EXO installed on all three nodes."""
    layout = cluster.up(tmp_path_factory.mktemp("gallery"))
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    install_group(lab)
    lab.close()
    yield layout
    cluster.down(layout.root)
