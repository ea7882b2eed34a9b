"""The trap gallery, benchmark: what only falsifies numbers is caught by its own check, and never ends in GO."""

from __future__ import annotations

import pytest

from rehearsal.layout import Layout
from tasks.benchmark.steps import bench_comparison
from tasks.errors import StepError
from tasks.machines.lab import Lab
from tasks.start import start_group
from tests.support.gallery import check_named, decided, laid


@pytest.mark.parametrize(
    ("trap", "check", "words"),
    [
        ("cut-stream", "errors", "finish_reason"),
        ("cold-load-in-run", "warm", "rog"),
        ("neighbour-loaded", "no neighbour", "qwen2.5-coder:32b"),
        ("busy-machine", "no neighbour", "per CPU on srv2"),
        ("unequal-length", "same work", "tokens"),
    ],
)
def test_measurements(installed: Layout, trap: str, check: str, words: str) -> None:
    """A trap that only falsifies numbers makes its own validity check fatal and the verdict INVALID, never GO."""
    with laid(installed, trap) as lab:
        start_group(lab)
        _compare(lab)
        decision = decided(lab)
    found = check_named(decision, check)
    assert found.status == "fatal", found
    assert words in found.evidence
    assert decision.verdict in {"INVALID", "NO-GO (blocked)"}


def test_peer_lost(installed: Layout) -> None:
    """peer-lost: a node that dies in a run is never a slower EXO, though a restart would hide it from the next run."""
    with laid(installed, "peer-lost") as lab:
        start_group(lab)
        bench_comparison(lab, runs="1")
        decision = decided(lab)
    found = check_named(decision, "whole cluster")
    assert found.status == "fatal"
    assert "after EXO run 1: not on srv2" in found.evidence
    assert decision.verdict == "INVALID"


def test_stale_prompt_cache(installed: Layout) -> None:
    """stale-prompt-cache: prompts that take a fraction of the first one's time after the load are pointed out."""
    with laid(installed, "stale-prompt-cache") as lab:
        start_group(lab)
        bench_comparison(lab, runs="1")
        found = check_named(decided(lab), "no cache")
    assert found.status == "warn", found
    assert "timed prompts took" in found.evidence


def _compare(lab: Lab) -> None:
    """Measure one run an arm; a trap may also make the step itself fail, which is told by the caller's checks."""
    try:
        bench_comparison(lab, runs="1", anyway=True)  # to its end, whatever else a busy machine puts into it
    except StepError as error:
        assert "no good sample" in error.problem.found
