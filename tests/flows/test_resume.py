"""An interrupted benchmark is taken up where it stopped: no finished request is lost, none is done twice."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from records.samples import read_samples
from rehearsal import cluster
from tests import PROJECT
from tests.support.fab import FAB, fab

SAMPLES = Path("logs/llama-0015/11-bench-baseline.samples.jsonl")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bring up a rehearsal; its Ollama servers are all that a baseline needs."""
    folder = tmp_path_factory.mktemp("resume")
    cluster.up(folder)
    yield folder
    cluster.down(folder)


def interrupted(root: Path, after: int, how: signal.Signals) -> int:
    """Start the baseline, end `fab` by `how` once `after` samples are on disk, and return its exit code."""
    (root / SAMPLES).unlink(missing_ok=True)  # an earlier case's finished campaign
    environment = os.environ | {"FABRIC_EXO_INVENTORY": str(root / "hosts.yaml")}
    with subprocess.Popen(
        [FAB, "bench-baseline", "--runs", "2"],
        cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as running:  # fmt: skip
        while len(read_samples(root / SAMPLES)[0]) < after and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(how)
        return running.wait(60)


@pytest.mark.parametrize(
    ("after", "how"),
    [
        pytest.param(1, signal.SIGKILL, marks=pytest.mark.long),
        (5, signal.SIGKILL),
        pytest.param(9, signal.SIGINT, marks=pytest.mark.long),
    ],
)
def test_interrupted_baseline_is_taken_up(root: Path, after: int, how: signal.Signals) -> None:
    """Whether killed in the first run or interrupted in the third, the second call adds exactly what was missing."""
    interrupted(root, after, how)
    before, _ = read_samples(root / SAMPLES)
    assert before
    done = fab("bench-baseline", "--runs", "2", hosts=root / "hosts.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "taking up an interrupted campaign" in done.stdout
    samples, torn = read_samples(root / SAMPLES)
    assert samples[: len(before)] == before
    timed = Counter((s.arm, s.run) for s in samples if not s.warmup)
    assert timed == {(arm, run): 3 for arm in ("srv1", "rog") for run in (1, 2)}
    assert len({(s.arm, s.run, s.request) for s in samples}) == len(samples)
    assert torn == []


def test_finished_campaign_stays_until_told_otherwise(root: Path) -> None:
    """Run again it is `already`, byte for byte; other runs are refused; --fresh archives it, restore brings it back."""
    (root / SAMPLES).unlink(missing_ok=True)
    fab("bench-baseline", "--runs", "1", hosts=root / "hosts.yaml")
    logs = (root / SAMPLES).parent
    before = {path.name: path.read_bytes() for path in logs.iterdir() if path.is_file() and path.name != ".lock"}
    again = fab("bench-baseline", hosts=root / "hosts.yaml")
    assert (again.returncode, again.stderr) == (0, "")
    assert re.search(r"11 +bench-baseline +already", again.stdout)
    other = fab("bench-baseline", "--runs", "3", hosts=root / "hosts.yaml")
    assert other.returncode == 1
    assert "--fresh" in other.stderr
    assert {path.name: path.read_bytes() for path in logs.iterdir() if path.is_file()} == before
    fresh = fab("bench-baseline", "--runs", "2", "--fresh", hosts=root / "hosts.yaml")
    assert (fresh.returncode, fresh.stderr) == (0, "")
    name = fresh.stdout.partition("fab history --restore ")[2].split()[0]
    assert {path.name: path.read_bytes() for path in (logs / "archive" / name).iterdir()} == before
    assert f"llama-0015/{name}" in fab("history", hosts=root / "hosts.yaml").stdout
    back = fab("history", "--restore", name, hosts=root / "hosts.yaml")
    assert (back.returncode, back.stderr) == (0, "")
    assert {path.name: path.read_bytes() for path in logs.iterdir() if path.is_file()} == before


def test_control_plans_the_runs(root: Path) -> None:
    """`fab bench --control` measures one Ollama under two names and says how many rounds that noise asks for."""
    done = fab("bench", "--control", "--runs", "4", hosts=root / "hosts.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "against itself, 4 rounds" in done.stdout
    assert re.search(r"\d+ rounds of 3 arms|no number of rounds", done.stdout)
    samples, _ = read_samples(root / "logs/llama-0015/control.samples.jsonl")
    assert {s.arm for s in samples} == {"a", "b"}


def test_ctrl_c_leaves_at_once(root: Path) -> None:
    """Ctrl-C ends `fab` although the node's command goes on for minutes, with one line and exit 130."""
    slow, began = root / "nodes" / "srv1" / "bin" / "python3", root / "began"
    body = slow.read_bytes()
    slow.write_text(f"#!/bin/bash\ntouch {shlex.quote(str(began))}\nsleep 600\n", encoding="utf-8")
    try:
        with subprocess.Popen(
            [FAB, "verify-python"],
            cwd=PROJECT, env=os.environ | {"FABRIC_EXO_INVENTORY": str(root / "hosts.yaml")},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as running:  # fmt: skip
            while not began.exists() and running.poll() is None:
                time.sleep(0.05)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=60)
        assert running.returncode == 130
        assert "type the same command to go on" in said
        assert "Traceback" not in said
    finally:
        slow.write_bytes(body)
