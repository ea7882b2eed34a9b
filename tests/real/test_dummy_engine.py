"""Steps 2 to 9 and 15 on genuine EXO 0.0.15 with its dummy engine, where EXO_SOURCE names a checkout of v0.0.15-alpha.

On loopback, without root. Needs a Python that EXO 0.0.15 runs on (EXO_PYTHON names one that is not on the PATH) and a
package index, or what EXO_WHEELS names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from records.campaign import load_campaign
from rehearsal import cluster
from rehearsal.layout import NODES, Layout
from tests.real.genuine import EXO_PYTHON, EXO_SOURCE, EXO_WHEELS
from tests.support.fab import fab, marked

OFFLINE = ("PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS")

LONGEST_S = 1800
"""Three installs, one after the other: five minutes in all with the wheels at hand, beside other work."""

pytestmark = [
    pytest.mark.timeout(LONGEST_S),
    pytest.mark.skipif(not EXO_SOURCE, reason="EXO_SOURCE names no checkout of EXO v0.0.15-alpha"),
    pytest.mark.skipif(not EXO_PYTHON, reason="EXO_PYTHON names no Python 3.12, and the PATH has none"),
]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up nodes that reach the packages, with a Python of EXO's and ports of their own for each node."""
    laid = cluster.lay_out(tmp_path_factory.mktemp("real"))
    head, _, body = laid.hosts_file.read_text(encoding="utf-8").partition("\n")
    hosts = json.loads(body)
    use_the_real_one(hosts["profiles"]["llama-0015"], laid)
    laid.hosts_file.write_text(f"{head}\n{json.dumps(hosts)}\n", encoding="utf-8")
    for key in NODES:
        (laid.node(key).bin / "python3.12").symlink_to(EXO_PYTHON)
    mine = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_", "SSL_"))}
    if EXO_WHEELS:
        mine |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": EXO_WHEELS}
    cluster.start(laid, dict.fromkeys(OFFLINE) | mine)
    yield laid
    cluster.down(laid.root)


def use_the_real_one(profile: dict[str, Any], laid: Layout) -> None:
    """Change a rehearsal's profile to the real EXO with its dummy engine."""
    exo = profile["exo"]
    exo |= {
        "source": EXO_SOURCE,
        "overrides": exo["nodes"]["srv1"]["overrides"],
        "flags": ["--inference-engine", "dummy"],
        "install_timeout_s": 500,
        "start_timeout_s": 120,
        "cluster_timeout_s": 90,
        # The real one binds 0.0.0.0, and the three nodes are one machine.
        "nodes": {k: {"ports": {"api": laid.api_port + i, "peer": laid.peer_port + i}} for i, k in enumerate(NODES)},
    }
    exo.pop("python", None)
    profile["models"]["small"]["exo"] = "dummy"


def test_steps_2_to_9_and_15_on_the_real_exo(layout: Layout) -> None:
    """The same commands install, start, join, serve and stop three nodes of the real EXO, and nothing stays behind."""
    hosts = layout.hosts_file
    for words in (
        ("preflight", "install-srv1"),
        ("install-srv2",),  # one after the other: the nodes share a source folder, in which pip builds
        ("install-rog",),
        ("install", "start", "download-model"),
        ("cleanup",),
    ):
        done = fab(*words, hosts=hosts, timeout_s=LONGEST_S)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    records = load_campaign(layout.root / "logs" / "llama-0015").records
    assert {number: record.status for number, record in records.items()} == {
        1: "ok",
        **dict.fromkeys((2, 3, 4), "already"),
        **dict.fromkeys((5, 6, 7, 8, 9, 15), "ok"),
    }
    assert records[8].result["expected_edges"] == 6
    assert records[9].result["exo_answered"] == "dummy"
    assert [line for line in marked(layout.root) if "/venv/bin/exo" in line] == []
