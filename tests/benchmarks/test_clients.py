"""The benchmark that puts other clients beside ours: what they saw, and how it is held against the truth."""

import math
from pathlib import Path

import pytest

from benchmarks.clients import ClientError, measure, row, run
from benchmarks.load_tools import TOOLS, LoadTool, prepare
from benchmarks.metronome import Truth, metronome, p99_error
from benchmarks.seen import Seen, errors_of, seen_of
from tests import DATA

RECORDED = DATA / "clients"


@pytest.mark.parametrize(
    ("name", "first_s", "span_s", "gaps"),
    [
        ("aiperf", (0.060906, 0.055668), (0.049191, 0.049957), 5),
        ("guidellm", (0.052173, 0.051237), (0.048765, 0.049462), None),
        ("llama-benchy", (0.052837, 0.052124), (0.049950, 0.049998), None),
    ],
)
def test_tools_own_report_is_read_in_the_order_of_the_requests(
    name: str, first_s: tuple[float, ...], span_s: tuple[float, ...], gaps: int | None
) -> None:
    """Reports recorded of two answers of 6 tokens at 100 tokens/s, the first after 50 ms, lines in any order."""
    seen = TOOLS[name].read(RECORDED / name)
    assert [one.first_s for one in seen] == pytest.approx(first_s, abs=1e-6)
    assert [one.span_s for one in seen] == pytest.approx(span_s, abs=1e-6)
    assert [len(one.gaps_s) if one.gaps_s else None for one in seen] == [gaps, gaps]


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_tools_write_nothing_outside_their_folder(tool: LoadTool, tmp_path: Path) -> None:
    """Home is the folder, and what the call names is in it."""
    assert prepare(tool, tmp_path)["HOME"] == str(tmp_path)
    call = tool.command("program", "http://127.0.0.1:1", "metronome-50-1-50-0.12", 2, tmp_path)
    named = [part.rpartition("=")[2] for part in call if "/" in part and "http" not in part]
    assert named
    assert all(part.startswith(str(tmp_path)) for part in named)


def test_errors_are_those_of_the_client() -> None:
    """A client 2 ms late at the first token and 1 % slow in between is off by just that."""
    truth = Truth("m", 10.0, [10.1, 10.2, 10.3], [10.1, 10.2, 10.3])
    late = seen_of([0.102, 0.203, 0.304])
    found = errors_of([(truth, late)], [(truth, late)])
    assert found.first_token_mean_s == pytest.approx(0.002)
    assert found.rate_mean_fraction == pytest.approx(1 / 1.01 - 1)
    assert found.gaps_p99_fraction == pytest.approx(0.01)
    kept_none = errors_of([(truth, late)], [(truth, Seen(0.1, 0.2))])
    assert kept_none.gaps_p99_fraction is None


def test_what_the_metronome_does_not_know_is_not_the_clients_error() -> None:
    """A send held up for 30 ms leaves the true gap open by that much on either side, and no further."""
    truth = Truth("m", 0.0, [1.0, 1.1, 1.2], [1.0, 1.13, 1.2])
    assert truth.doubts_s == pytest.approx([0.0, 0.03, 0.0])
    assert truth.gaps_nearest([0.12, 0.08]) == pytest.approx([0.12, 0.08])
    assert truth.gaps_nearest([0.2, 0.01]) == pytest.approx([0.13, 0.07])
    assert p99_error([(truth, [0.12, 0.08])]) == pytest.approx(0.0)
    assert p99_error([(truth, [0.26, 0.01])]) > 0.5


def test_an_answer_that_came_all_at_once_is_an_infinite_rate() -> None:
    """A client that did not run while the answer came saw no time pass in it; that is its error, and no crash."""
    truth = Truth("m", 0.0, [1.0, 1.1, 1.2], [1.0, 1.1, 1.2])
    assert errors_of([(truth, Seen(1.2, 0.0))], [(truth, Seen(1.2, 0.0))]).rate_mean_fraction == math.inf


def test_client_is_measured_in_a_process_of_its_own() -> None:
    """Ours and a bare http.client loop each see every answer of a metronome, and get a line of the table."""
    with metronome() as url:
        for name in ("ours", "http.client"):
            found = measure(name, url, 500, 20, 2)
            assert [len(seen.gaps_s or []) for _, seen in found.pairs] == [19, 19]
            assert all(seen.first_s >= truth.first_token_s for truth, seen in found.pairs)
            assert found.memory_mb > 1
            assert row(name, found, found).startswith(name)


def test_client_that_fails_says_why(tmp_path: Path) -> None:
    """The last line of what it said stands in the table instead of numbers."""
    with pytest.raises(ClientError, match="exit code 3: no such luck"):
        run(["sh", "-c", "echo trying; echo no such luck >&2; exit 3"], tmp_path)
