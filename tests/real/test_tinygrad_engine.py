"""The plan from step 1 to 15 on genuine EXO 0.0.15 with its tinygrad engine, three machines, a scaled-down llama."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from records.campaign import load_campaign
from tests.real import genuine
from tests.real.genuine import Bed, bed
from tests.real.lab import NODES

pytestmark = [
    pytest.mark.timeout(2900),
    pytest.mark.skipif(bool(genuine.absent()), reason=genuine.absent()),
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Bring the bed up, once for this file."""
    with bed(tmp_path_factory.mktemp("real")) as up:
        yield up


def test_a_campaign_ends_in_a_verdict(real: Bed) -> None:
    """What ships for CPU nodes computes: every step ends well, the ring is measured, the report has its word.

    Nothing of EXO is left on any node afterwards.
    """
    say(f"EXO {genuine.EXO_SOURCE}; Ollama: the rehearsal's stand-in; the logs lie in {real.folder}")
    for words in (("preflight", "install", "start"), ("bench", "--runs", "2"), ("report",), ("cleanup",)):
        begin = time.monotonic()
        done = real.fab(*words, timeout_s=1200)
        say(f"fab {' '.join(words)}: exit code {done.returncode} after {time.monotonic() - begin:.0f} s")
        if words == ("report",):
            say(done.stdout)  # begins with the headline: the verdict and its numbers
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    records = load_campaign(real.folder / "logs/llama-0015").records
    goes_on = records[14].result["verdict"] == "GO"  # step 13 is for a GO alone: a busy machine ends in INVALID
    wanted = dict.fromkeys(range(1, 16), "ok") | {13: "ok" if goes_on else "skipped"}
    assert {number: record.status for number, record in records.items()} == wanted
    assert records[9].result["exo_answered"] == "llama-3.2-3b"
    packages = {records[number].result["packages"]["tinygrad"] for number in (2, 3, 4)}
    assert packages == {"0.10.2"}
    say(f"verdict: {records[14].result['verdict']}")
    for machine in NODES:
        assert [line for line in real.lab.processes(machine) if "/venv/bin/exo" in line] == []


def say(text: str) -> None:
    """Tell the person at the terminal; `make test-real` shows what tests print."""
    sys.stdout.write(f"\n[real] {text}\n")
    sys.stdout.flush()
