"""Mistakes, progress, and the two experiments beside the benchmark: calibration and concurrency."""

from __future__ import annotations

import json
import sys

import msgspec
import pytest

from records.facts import Calibration
from tests.support.script_process import SCRIPT, lines, run
from tests.support.script_server import Engine, running
from tests.support.terminal import on_terminal


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--runs", "0"], "--runs"),
        (["--runs", "abc"], "abc"),
        (["--warmup", "-1"], "--warmup"),
        (["--timeout", "nan"], "nan"),
        (["--nonsense"], "--nonsense"),
        (["--model", " "], "--model"),
        (["--ollama", "http://localhost:11434"], "NAME=http"),
        (["--ollama", "a=ftp://x"], "ftp://x"),
        (["--ollama", "a=http://"], "http://"),
        (["--ollama", "a=https://h:443"], "https is not timed here"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--num-ctx", "0"], "--num-ctx"),
        (["--ollama", "a=http://h:99999"], "99999"),
        (["--ollama", "a=http://h:1", "--ollama", "a=http://h:2"], "twice"),
        (["--ollama", "a:1=http://h:1"], "a:1"),
        (["--exo", "exo=http://h:1", "--reload", "exo=reload"], "--reload"),
        (["--exo", "exo=http://h:1", "--reload", "b=keep"], "no such arm"),
        (["--only", "nobody:1"], "nobody"),
        (["--only", "exo"], "--only"),
        (["--only", "exo:0"], "--only"),
        (["--resume"], "--samples"),
        (["--resume", "--samples", "-"], "--skip-requests"),
        (["--skip-requests", "1"], "--only"),
        (["--only", "exo:1", "--skip-requests", "1,x"], "--skip-requests"),
        (["--concurrency", "0"], "--concurrency"),
        (["--concurrency", ""], "--concurrency"),
        (["--prompt-file", "/nonexistent/p.txt"], "/nonexistent/p.txt"),
        (["--samples", "/nonexistent/s.jsonl"], "/nonexistent/s.jsonl"),
    ],
)
def test_mistake_on_the_command_line_is_one_line_and_exit_2(arguments: list[str], word: str) -> None:
    """A person's mistake is named in one line, before anything is asked of a server."""
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert word in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_our_signs_is_written_to_all_the_same(encoding: str) -> None:
    """In the C locale and in Latin-1 the plan's table comes to its end: a sign that is lacking is a question mark."""
    with running(Engine()) as ollama, running(Engine()) as exo:
        call = ["--model", "m", "--runs", "1", "--ollama", f"a={ollama.url}", "--exo", f"exo={exo.url}"]
        done = run(*call, PYTHONIOENCODING=encoding, LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert "The plan's own rule" in done.stdout


def test_concurrency_is_labelled_and_tells_changed_texts() -> None:
    """The separate experiment marks its samples, sums tokens over wall time and names texts that changed."""
    engine = Engine(gap_s=0.005)
    engine.muddled_from = 3
    with running(engine):
        call = ["--model", "m", "--exo", f"exo={engine.url}", "--concurrency", "1,2,4", "--samples", "-", "--json"]
        done = run(*call)
    assert done.returncode == 0, done.stderr
    found = {one["concurrency"]: one for one in json.loads(done.stderr)["concurrency"]}
    assert found[1]["texts_different_from_alone"] == found[2]["texts_different_from_alone"] == 0
    assert found[4]["texts_different_from_alone"] == 4
    assert found[4]["tokens_per_s"] == pytest.approx(16 / found[4]["wall_s"], rel=1e-3)
    samples = lines(done.stdout)
    assert {s.run for s in samples} == {0}
    assert all(s.warmup for s in samples if s.concurrency == 1)
    keys = [(s.concurrency, s.request) for s in samples]
    assert len(keys) == len(set(keys)) == 6 + 2 + 4


def test_live_line_on_a_terminal_and_quiet_lines_elsewhere() -> None:
    """On a terminal the progress is renewed in place, with rate and time left."""
    with running(Engine()) as engine:
        call = ["--model", "m", "--exo", f"exo={engine.url}", "--runs", "2"]
        shown = on_terminal([sys.executable, str(SCRIPT), *call], stream="stderr")
    assert shown.count(b"\r\x1b[K") > 8
    assert b" left" in shown and b"exo run 2 request 3" in shown and b" tok/s" in shown


def test_calibration_gives_the_facts_of_the_record() -> None:
    """`--calibrate --json` converts to bench_facts.Calibration: 20 to 500 tokens/s, 1 and 4 tokens a frame."""
    done = run("--calibrate", "--json")
    assert done.returncode == 0, done.stderr
    raw = json.loads(done.stdout)
    entries = msgspec.convert(raw, list[Calibration])
    assert all(set(one) == set(Calibration.__struct_fields__) for one in raw)
    assert {entry.tokens_per_frame for entry in entries} == {1, 4}
    assert {20, 50, 500} <= {entry.tokens_per_s for entry in entries}
    assert all(abs(entry.rate_error_mean_fraction) < 0.2 for entry in entries)
