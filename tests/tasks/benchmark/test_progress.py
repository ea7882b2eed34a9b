"""What a person sees while `fab bench` measures: lines that stay, and one live line on a terminal."""

from __future__ import annotations

import re
import subprocess
import sys

import msgspec
import pytest

from records.samples import Sample
from tasks.benchmark.progress import Progress, run_words
from tests import PROJECT
from tests.support.terminal import on_terminal

GOOD = Sample(
    schema=1, arm="exo", engine="exo", run=1, request=1, warmup=False, model_asked="m", model_answered="m",
    output_tokens=50, token_source="usage", first_token_s=0.12, last_token_s=0.9, total_s=1.0, error=None,
)  # fmt: skip
SHOW = """
from tasks import console
from tasks.benchmark.progress import Progress
from tests.tasks.benchmark.test_progress import GOOD
import msgspec
shown = Progress([("exo", 1), ("exo", 2)], 2, 2)
shown.begin("exo", 1)
samples = [msgspec.structs.replace(GOOD, request=0, warmup=True), GOOD]
for sample in samples:
    shown.request(sample)
shown.request(msgspec.structs.replace(GOOD, error="broke\\x1b[2J off"))
console.note("srv1", "is restarted")
shown.end("exo", 1, samples)
shown.begin("exo", 2)
shown.request(msgspec.structs.replace(GOOD, run=2, total_s=4.0))
"""


def changed(**changes: object) -> Sample:
    """Return the good sample with other values."""
    return msgspec.structs.replace(GOOD, **changes)


def test_live_line_is_renewed_on_a_terminal_and_gives_way_to_lines_that_stay() -> None:
    """Each request renews it with the rate so far; a note erases it first; a server's escapes do not reach it."""
    shown = on_terminal([sys.executable, "-c", SHOW], cwd=PROJECT).decode()
    live = shown.split("\r\x1b[K")
    assert re.search(r"0/2 \[exo\] run 1 of 2: loading$", live[1])
    assert re.search(r"1 of 2 \(warm-up\) TTFT 120 ms", live[2])
    assert re.search(r"2 of 2 \(request\) TTFT 120 ms.*  exo 50\.0 tok/s", live[3])
    assert "broke off" in live[4]
    assert "[2J" not in live[4]
    assert re.sub(r"\x1b\[[\d;]*m", "", live[5]).startswith("[srv1] is restarted\r\n[exo] run 1 of 2: 50.0 tok/s")
    assert live[6].startswith("1/2 [exo] run 2 of 2: loading")
    assert live[7].endswith("  exo 25.0 tok/s")  # the geometric mean of 50 and 12.5


def test_nothing_is_renewed_where_there_is_no_terminal() -> None:
    """A pipe or a log file gets whole lines alone."""
    done = subprocess.run([sys.executable, "-c", SHOW], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "[srv1] is restarted",
        "[exo] run 1 of 2: 50.0 tok/s, TTFT 120 ms (1/2)",
    ]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([GOOD, changed(total_s=4.0)], "25.0 tok/s, TTFT 120 ms"),
        ([changed(warmup=True, total_s=9.0), GOOD], "50.0 tok/s, TTFT 120 ms"),
        ([GOOD, changed(error="cut off")], "50.0 tok/s, TTFT 120 ms, 1 of 2 requests failed"),
        ([changed(error="cut off")], "no good request, 1 of 1 requests failed"),
        ([changed(first_token_s=None)], "50.0 tok/s, TTFT not known"),
    ],
)
def test_run_in_words(samples: list[Sample], words: str) -> None:
    """The rate is the geometric mean of the timed good requests, which is what the verdict uses; failures are said."""
    assert run_words(samples) == words


def test_a_round_ends_with_the_ratios_so_far_and_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """The mean ratio over the rounds that this call measured; a lost run's requests count no more."""
    shown = Progress([("exo", 1), ("rog", 1)], 4, 2)
    for arm, run, total_s in (("exo", 1, 0.5), ("rog", 1, 1.0), ("rog", 2, 1.0), ("exo", 2, 9.0)):
        shown.request(changed(arm=arm, run=run, total_s=total_s))
    shown.again("exo", 2)
    shown.request(changed(arm="exo", run=2, total_s=0.5))
    shown.end_of_round(2)
    said = capsys.readouterr().out
    assert "round 2 of 4: EXO so far 2.00x over rog; 2 more to go, and no verdict before" in said
    assert "GO" not in said
