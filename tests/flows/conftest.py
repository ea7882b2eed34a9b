"""What the flows share: a place before the machine's other work, and one rehearsal with EXO installed for the traps."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from rehearsal import cluster
from rehearsal.layout import Layout
from tasks.install import install_group
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab


@pytest.fixture(scope="module", autouse=True)
def served_first() -> Iterator[None]:
    """Where this user may, give a rehearsal the processor before other programs.

    It measures milliseconds: held up for half a second by somebody's busy loop, it ends INVALID, as it should.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, before - 10)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, before)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up a rehearsal with EXO installed on all three nodes."""
    layout = cluster.up(tmp_path_factory.mktemp("gallery"))
    lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    install_group(lab)
    lab.close()
    yield layout
    cluster.down(layout.root)
