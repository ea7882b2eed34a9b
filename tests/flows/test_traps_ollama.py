"""The gallery's traps about Ollama: what a server of today does, and what is seen of it. No EXO is needed."""

from __future__ import annotations

import re

import pytest

from records.campaign import load_campaign
from rehearsal.layout import Layout
from reports.checks.answers import errors
from reports.checks.prefill import warm
from tasks.benchmark.models import ollama_models, seen_loaded
from tasks.benchmark.steps import bench_baseline
from tasks.errors import StepError
from tasks.ollama import servers
from tasks.steps import StepNotes
from tests.support.gallery import laid

pytestmark = pytest.mark.long


def test_constant_overhead(nodes: Layout) -> None:
    """constant-overhead: what every request of a loaded model spends is no load; it is shown, with its share."""
    with laid(nodes, "constant-overhead") as lab:
        bench_baseline(lab, runs="2")
        campaign = load_campaign(lab.logs)
    found = warm(campaign, 11)
    assert found.status == "pass", found
    assert re.search(r"rog: \d+ ms \(\d+ to \d+\) before each prompt, [\d.]+% of its time", found.evidence), found
    assert campaign.benchmark(11).reload["rog"] == "reload"  # type: ignore[union-attr]


def test_runner_killed(nodes: Layout) -> None:
    """runner-killed: the run is lost and measured again, counted once, and nothing of the lost try is in the rate."""
    with laid(nodes, "runner-killed") as lab:
        bench_baseline(lab, runs="1")
        campaign = load_campaign(lab.logs)
    lost = [s for s in campaign.samples[11] if s.lost]
    assert {(s.arm, s.run, s.attempt) for s in lost} == {("rog", 1, 1)}
    assert sum(s.error is not None for s in lost) == 1
    assert "unexpected EOF" in (next(s.error for s in lost if s.error) or "")
    kept = [s for s in campaign.samples[11] if s.arm == "rog" and not s.lost]
    assert [(s.attempt, s.error) for s in kept] == [(2, None)] * 4
    found = errors(campaign, 11)
    assert found.status == "warn", found
    assert "rog run 1 was lost (request" in found.evidence


def test_neighbour_comes(nodes: Layout) -> None:
    """neighbour-comes: a model that appears in a run makes it lost; one that stays ends the campaign at that moment."""
    with laid(nodes, "neighbour-comes") as lab:
        with pytest.raises(StepError) as caught:
            bench_baseline(lab, runs="1")
        notes = load_campaign(lab.logs).conditions[11]
    assert "can only be INVALID: no neighbour: rog run 1: rog: qwen2.5-coder:32b" in caught.value.problem.found
    lost = [(n.run, n.attempt, n.lost) for n in notes if n.arm == "rog"]
    assert [(run, attempt) for run, attempt, _ in lost] == [(1, 1), (1, 2)]
    assert "qwen2.5-coder:32b in memory after the run" in lost[0][2]


def test_engine_left_behind(nodes: Layout) -> None:
    """engine-left-behind: the engine that a killed Ollama left is named with its PID, and ends the campaign there."""
    with laid(nodes, "engine-left-behind") as lab, pytest.raises(StepError) as caught:
        bench_baseline(lab, runs="1")
    assert "rog: an engine whose Ollama is gone (end it: kill 4242) in memory before the run" in str(caught.value)


def test_cpu_under_a_gpu(nodes: Layout) -> None:
    """cpu-under-a-gpu: a model on the CPU of a node that claims a GPU is said when it is loaded, with the remedy."""
    with laid(nodes, "cpu-under-a-gpu") as lab:
        pair = lab.profile.models.small
        with pytest.raises(StepError) as caught:
            seen_loaded(lab, StepNotes(9), pair, ollama_models(lab, pair))
        notes = StepNotes(9)
        seen = seen_loaded(lab, notes, pair, ollama_models(lab, pair), anyway=True)
    (problem,) = caught.value.problems
    assert (problem.what, "size_vram 0" in problem.found) == ("Ollama 'rog'", True)
    assert "OLLAMA_IGPU_ENABLE=1" in problem.do
    assert "went on with --anyway" in notes.warnings[0]
    assert seen["srv1"].memory_bytes != seen["srv1"].size_bytes


def test_two_names_of_one_file(nodes: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """two-names-one-file: who pins our model is named before anything is measured, under the name that the list has."""
    monkeypatch.setattr(servers, "UNLOAD_TIMEOUT_S", 0.5)
    with laid(nodes, "two-names-one-file") as lab:
        with pytest.raises(StepError) as caught:
            bench_baseline(lab, runs="1")
        assert not (lab.logs / "11-bench-baseline.samples.jsonl").exists()
    problem = caught.value.problem
    assert problem.what == "Ollama 'rog'"
    assert "listed as Notes:Latest" in problem.found
