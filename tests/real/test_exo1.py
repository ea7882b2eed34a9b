"""The plan from step 1 to 15 on genuine EXO 1.0.71, three machines without multicast, a scaled-down model on MLX."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from records.campaign import load_campaign
from records.samples import read_samples
from reports.stats.runs import is_good
from tests.faults import network
from tests.real import genuine1, ollama_server
from tests.real.bed import Bed, say, tell
from tests.support.lab import NODES, SRV1, SRV2, Lab, Machine

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


@pytest.mark.skipif(bool(ollama_server.absent()), reason=ollama_server.absent())
def test_three_campaigns_in_a_row_against_a_genuine_ollama(real: Bed) -> None:
    """Nobody lends a hand: each ends in NO-GO, for the genuine Ollama computes a small model in milliseconds."""
    hosts: dict[str, Any] | None = None
    for number in range(3):
        folder = real.campaign(f"row{number}", hosts)
        if hosts is None:
            real.with_genuine_ollama(folder)
            hosts = json.loads((folder / "hosts.yaml").read_text())
        for words in (("preflight", "install", "start"), ("bench", "--runs", "4"), ("report",), ("cleanup",)):
            real.typed(folder, *words)
        campaign = load_campaign(folder / "logs/qwen-1x")
        tell(campaign)
        assert campaign.records[14].result["verdict"] == "NO-GO"
        for machine in NODES:
            assert [line for line in real.lab.processes(machine) if "/venv/bin/" in line] == []


LINK_CUT_S = 20


def _kill(machine: Machine, pattern: str) -> Callable[[Lab], object]:
    return lambda lab: lab.run(machine, ["pkill", "-KILL", "-f", pattern], cwd=Path("/"), timeout_s=20)


def _cut(lab: Lab) -> None:
    network.pull(lab, SRV2)
    time.sleep(LINK_CUT_S)
    network.mend(lab, SRV2)


FALLS: dict[str, tuple[Machine, Callable[[Lab], object]]] = {
    "a runner is killed": (SRV2, _kill(SRV2, "multiprocessing.spawn")),
    "a node's EXO is killed": (SRV2, _kill(SRV2, "/venv/bin/exo ")),
    "a link is cut for 20 s": (SRV2, _cut),
    "the master is killed": (SRV1, _kill(SRV1, "/venv/bin/exo ")),
}


def _good(folder: Path) -> Counter[tuple[str, int, int]]:
    """Count the good timed requests of step 12 on disk by arm, run and number."""
    path = folder / "logs/qwen-1x/12-bench-comparison.samples.jsonl"
    samples = read_samples(path)[0] if path.exists() else []
    return Counter((s.arm, s.run, s.request) for s in samples if is_good(s) and not s.warmup)


def _strike(real: Bed, folder: Path, left: list[str], ended: threading.Event) -> None:
    """Have what is left befall the ring, one thing in each of EXO's next runs, when that run computes."""
    log = real.lab.folder(SRV2) / "home/.exo-phase1/qwen-1x/run/exo.log"
    while left and not ended.is_set():
        done = sum(arm == "exo" for arm, *_ in _good(folder))
        seen = log.read_text(errors="replace").count("Starting prefill") if log.exists() else 0
        while not ended.is_set():
            text = log.read_text(errors="replace") if log.exists() else ""
            if text.count("Starting prefill") > seen:
                break
            seen = min(seen, text.count("Starting prefill"))  # a new EXO begins a new log
            time.sleep(0.1)
        else:
            return
        say(f"{time.strftime('%T')} {left[0]}")
        FALLS[left.pop(0)][1](real.lab)
        while not ended.is_set() and sum(arm == "exo" for arm, *_ in _good(folder)) <= done:
            time.sleep(0.5)


def test_what_falls_in_mid_campaign_is_survived_or_named(real: Bed) -> None:
    """A runner, a node, the master die, a link is cut: the benchmark goes on, or ends in minutes and names the node.

    The same words then go on; no finished request is there twice, and nothing of EXO is left.
    """
    folder, left = real.campaign("falls"), list(FALLS)
    real.typed(folder, "preflight", "install", "start")
    real.typed(folder, "download-model", "create-benchmark", "bench-baseline")
    for _ in range(len(FALLS) + 1):
        before, ended = list(left), threading.Event()
        striking = threading.Thread(target=_strike, args=(real, folder, left, ended))
        striking.start()
        done = real.fab(folder, "bench-comparison", "--runs", "4", timeout_s=2000)
        ended.set()
        striking.join()
        if done.returncode == 0:
            break
        struck = FALLS[[name for name in before if name not in left][-1]][0]
        say(done.stderr)
        assert struck.key in done.stderr or struck.hostname in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        real.typed(folder, "start")
    assert left == []
    campaign = load_campaign(folder / "logs/qwen-1x")
    tell(campaign)
    assert campaign.records[12].status == "ok"
    assert set(_good(folder).values()) == {1}
    real.typed(folder, "cleanup")
    for machine in NODES:
        assert [line for line in real.lab.processes(machine) if "/venv/bin/" in line] == []
