"""The plan from step 1 to 15 on genuine EXO 1.0.71, three machines without multicast, a scaled-down model on MLX."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from records.campaign import load_campaign
from tests.real import genuine1
from tests.real.bed import Bed, say, tell
from tests.support.lab import NODES

pytestmark = [
    pytest.mark.timeout(2900),
    pytest.mark.skipif(bool(genuine1.absent()), reason=genuine1.absent()),
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Bring the bed up, once for this file."""
    with genuine1.bed(tmp_path_factory.mktemp("real")) as up:
        yield up


def test_a_campaign_ends_in_a_verdict_and_leaves_nothing(real: Bed) -> None:
    """EXO is built as it ships, stands over the links, answers and is measured; nothing of it is left afterwards."""
    say(f"EXO {genuine1.EXO1_SOURCE}; Ollama: the rehearsal's stand-in; the logs lie in {real.folder}")
    folder = real.campaign("first")
    for words in (("preflight", "install", "start"), ("bench", "--runs", "4"), ("report",), ("cleanup",)):
        real.typed(folder, *words)
    campaign = load_campaign(folder / "logs/qwen-1x")
    tell(campaign)
    records = campaign.records
    assert {records[number].status for number in range(1, 16)} <= {"ok", "skipped"}
    assert records[14].result["verdict"] in ("GO", "NO-GO", "INVALID")
    assert records[9].result["exo_answered"] == "mlx-community/Qwen2.5-3B-Instruct-4bit"
    for machine in NODES:
        assert [line for line in real.lab.processes(machine) if "/venv/bin/" in line] == []
