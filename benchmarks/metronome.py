"""A server whose true speed is known, in a process of its own: the script's own metronome, started and asked.

It answers /api/generate, /api/chat and /v1/chat/completions for any model name that
`scripts.benchmark_exo_vs_ollama.metronome_model` made, and /truth with its own stamps of the answers so far.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

PROJECT = Path(__file__).resolve().parent.parent
SCRIPT = PROJECT / "scripts" / "benchmark_exo_vs_ollama.py"


class Truth(msgspec.Struct, frozen=True):
    """What the metronome knows of one answer; seconds on CLOCK_MONOTONIC, which all processes of a host share."""

    model: str
    received_s: float
    sent_s: list[float]
    """Just before each content frame was sent."""
    gone_s: list[float]
    """Just after: on loopback the frame was in the client's kernel by then."""

    @property
    def first_token_s(self) -> float:
        """Return the true time to first token, from the receipt of the request."""
        return self.sent_s[0] - self.received_s

    @property
    def span_s(self) -> float:
        """Return the true time from the first content frame to the last."""
        return self.sent_s[-1] - self.sent_s[0]

    @property
    def doubts_s(self) -> list[float]:
        """Return how long each send took: by so much at most the metronome does not know when the frame left."""
        return [gone - sent for sent, gone in zip(self.sent_s, self.gone_s, strict=True)]

    def gaps_nearest(self, seen_s: Sequence[float]) -> list[float]:
        """Return, of all true gaps that the metronome's stamps allow, the ones nearest to those a client saw.

        Each frame left between its two stamps. Where the machine held the metronome up in the middle of a send, the
        stamps lie far apart, and the difference must not be taken for the client's error.
        """
        shortest = [later - earlier for earlier, later in zip(self.gone_s, self.sent_s[1:], strict=False)]
        longest = [later - earlier for earlier, later in zip(self.sent_s, self.gone_s[1:], strict=False)]
        return [min(max(gap, low), high) for gap, low, high in zip(seen_s, shortest, longest, strict=True)]


def gaps(stamps: Sequence[float]) -> list[float]:
    """Return the differences of neighbours."""
    return [later - earlier for earlier, later in itertools.pairwise(stamps)]


def p99(values: list[float]) -> float:
    """Return the 99th percentile, by linear interpolation."""
    return statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]


def p99_error(pairs: Sequence[tuple[Truth, list[float]]]) -> float:
    """Return by which fraction the 99th percentile of seen gaps is off, over (truth, seen gaps) of several answers."""
    seen = p99([gap for _, gaps_s in pairs for gap in gaps_s])
    true = p99([gap for truth, gaps_s in pairs for gap in truth.gaps_nearest(gaps_s)])
    return seen / true - 1


@contextmanager
def served(command: list[str], *, quiet: bool = False) -> Iterator[str]:
    """Run a server that prints where it listens first, and yield that line.

    It ends with the block, or with this process. `quiet` drops what it says on its standard error.
    """
    said = subprocess.DEVNULL if quiet else None
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, cwd=PROJECT
    )
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
    finally:
        child.kill()
        child.communicate()


@contextmanager
def metronome() -> Iterator[str]:
    """Run a metronome on a free loopback port and yield its URL."""
    with served([sys.executable, str(SCRIPT), "--metronome"]) as port:
        yield f"http://127.0.0.1:{int(port)}"


def truths(url: str) -> list[Truth]:
    """Return what a metronome knows of its answers, in order; it remembers the last thousand."""
    with urllib.request.urlopen(f"{url}/truth", timeout=10) as answer:
        return msgspec.convert(json.load(answer)["answers"], list[Truth])
