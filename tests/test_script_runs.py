"""The benchmark script as a program: what it asks of the servers, what it writes, how it stops and goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reports.facts import Calibration
from reports.samples import Sample, read_samples
from scripts import benchmark_exo_vs_ollama as script
from tests.script_server import Engine, running

SCRIPT = Path(script.__file__)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the script with pipes."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, str(SCRIPT), *arguments], **{**pipes, **options})


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script to its end."""
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60)


def lines(output: str) -> list[Sample]:
    """Read JSON lines as samples, refusing keys that a Sample does not have."""
    known = set(Sample.__struct_fields__)
    for line in output.splitlines():
        assert set(json.loads(line)) == known
    return [msgspec.json.decode(line, type=Sample) for line in output.splitlines()]


def test_line_has_exactly_the_keys_of_a_sample() -> None:
    """The script spells the contract out itself; it must be the contract, in the same order."""
    assert list(script.SAMPLE_KEYS) == list(Sample.__struct_fields__)
    assert script.SCHEMA_VERSION == 1


def test_plan_command_prints_the_plans_table_and_rule() -> None:
    """`--model M --runs N` measures every arm N times and ends in the plan's table and its own rule, so marked."""
    with running(Engine(gap_s=0.002)) as ollama, running(Engine(gap_s=0.001)) as exo:
        done = run("--model", "m", "--runs", "2", "--ollama", f"srv1={ollama.url}", "--exo", f"exo={exo.url}")
    assert done.returncode == 0, done.stderr
    assert "BENCHMARK RESULTS: EXO vs Ollama" in done.stdout
    assert done.stdout.count(f"Ollama ({ollama.url})") == 3
    assert done.stdout.count(f"EXO Cluster ({exo.url})") == 3
    assert "best " in done.stdout and "median " in done.stdout and "spread " in done.stdout
    assert any(word in done.stdout for word in ("SUCCESS", "PARTIAL", "FAIL"))
    assert "The plan's own rule" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("percent", "word"), [(30.0, "SUCCESS"), (29.99, "PARTIAL"), (0.01, "PARTIAL"), (0.0, "FAIL"), (-5.0, "FAIL")]
)
def test_plan_rule_has_the_plans_edges(percent: float, word: str) -> None:
    """The sentence is the plan's: success from 30 %, partial above 0, else fail."""
    assert word in script.plan_words(percent)


def test_only_writes_one_run_of_samples_to_standard_output() -> None:
    """With `--only ARM:RUN --samples -` standard output holds samples alone: warm-ups first, then the timed ones."""
    with running(Engine()) as engine:
        call = ["--model", "m", "--exo", f"exo={engine.url}", "--exo-model", "id", "--only", "exo:7", "--samples", "-"]
        done = run(*call, "--warmup", "2", "--requests", "3", "--max-tokens", "4", "--campaign", "c1")
    samples = lines(done.stdout)
    assert done.returncode == 0
    assert [(s.request, s.warmup) for s in samples] == [(0, True), (1, True), (2, False), (3, False), (4, False)]
    assert {(s.arm, s.side, s.run, s.campaign, s.model_asked, s.max_tokens) for s in samples} == {
        ("exo", "exo", 7, "c1", "id", 4)
    }
    assert all(s.error is None and s.output_tokens == 4 and len(s.frame_times_s) == 4 for s in samples)
    assert all(s.connect_s is not None and s.headers_s is not None and s.start_utc.endswith("+00:00") for s in samples)
    assert all(0 < s.headers_s <= s.first_token_s <= s.last_token_s <= s.total_s for s in samples)  # type: ignore[operator]


def test_every_arm_is_asked_the_same_prompts_and_each_prompt_once() -> None:
    """Work is equal between arms, and no prompt is repeated within an arm, so that no cache can answer."""
    with running(Engine()) as one, running(Engine()) as two:
        run("--model", "m", "--runs", "2", "--ollama", f"a={one.url}", "--exo", f"exo={two.url}")
    assert sorted(one.asked_prompts()) == sorted(two.asked_prompts())
    assert len(set(one.asked_prompts())) == 2 * 4


def test_requests_are_those_of_the_engines() -> None:
    """Ollama gets length, temperature and seed as options; EXO max_tokens, usage wanted, one user message."""
    with running(Engine()) as engine:
        call = ["--model", "m", "--ollama", f"a={engine.url}", "--exo", f"exo={engine.url}", "--exo-model", "id"]
        run(*call, "--runs", "1", "--requests", "1", "--warmup", "0", "--max-tokens", "9", "--seed", "5")
    asked = {path: payload for path, payload in engine.log if payload.get("stream")}
    ollama, exo = asked["/api/generate"], asked["/v1/chat/completions"]
    assert ollama["options"] == {"num_predict": 9, "temperature": 0, "seed": 5}
    assert (ollama["model"], ollama["raw"]) == ("m", False)
    assert (exo["model"], exo["max_tokens"], exo["temperature"], exo["seed"]) == ("id", 9, 0, 5)
    assert exo["stream_options"] == {"include_usage": True}
    assert [message["role"] for message in exo["messages"]] == ["user"]


def test_ollama_is_unloaded_seen_unloaded_and_loaded_before_each_run_and_unloaded_after() -> None:
    """Each run is a fresh load; two arms of one URL (a control) take turns with an unload in between."""
    with running(Engine()) as engine:
        engine.loaded.add("m")
        done = run("--model", "m", "--runs", "1", "--requests", "1", "--warmup", "0",
                   "--ollama", f"a={engine.url}", "--ollama", f"b={engine.url}")  # fmt: skip
        assert engine.loaded == set()
    kinds = [_kind(path, payload) for path, payload in engine.log]
    first = ["ps", "unload", "ps", "load", "ask", "ps", "unload", "ps"]
    assert kinds == [*first, "ps", "load", "ask", "ps", "unload", "ps"]
    assert done.returncode == 0
    assert "loaded afresh in" in done.stderr


def _kind(path: str, payload: dict[str, Any]) -> str:
    if path == "/api/ps":
        return "ps"
    return "unload" if payload.get("keep_alive") == 0 else "ask" if payload.get("prompt") else "load"


def test_neighbour_left_loaded_is_unloaded_first() -> None:
    """The other side's model must not compete, whoever left it in memory."""
    with running(Engine()) as left, running(Engine()) as exo:
        left.loaded.add("m")
        run("--model", "m", "--ollama", f"a={left.url}", "--exo", f"exo={exo.url}", "--only", "exo:1")
        assert left.loaded == set()


def test_keep_leaves_the_servers_model_alone() -> None:
    """`--reload ARM=keep` with one arm sends nothing but the measured requests."""
    with running(Engine()) as engine:
        run("--model", "m", "--ollama", f"a={engine.url}", "--reload", "a=keep", "--runs", "1")
    assert all(payload.get("prompt") for _, payload in engine.log)


def test_unreachable_arm_fails_its_samples_and_the_run_goes_on(tmp_path: Path) -> None:
    """A refused connection is a failed sample with a reason; the other arm is measured; exit 1."""
    out = tmp_path / "s.jsonl"
    with running(Engine()) as engine:
        done = run("--model", "m", "--runs", "1", "--ollama", f"a={engine.url}", "--exo", "exo=http://127.0.0.1:9",
                   "--samples", str(out))  # fmt: skip
    samples, torn = read_samples(out)
    assert done.returncode == 1 and not torn
    assert {s.error for s in samples if s.arm == "a"} == {None}
    assert {s.error for s in samples if s.arm == "exo"} == {"no connection to 127.0.0.1:9: Connection refused"}
    assert "Traceback" not in done.stderr


def test_model_that_cannot_be_loaded_fails_the_timed_requests_unasked(tmp_path: Path) -> None:
    """A missing model is named once; its timed requests are there as failed samples."""
    out = tmp_path / "s.jsonl"
    with running(Engine()) as engine:
        engine.missing_models.add("m")
        done = run("--model", "m", "--runs", "1", "--ollama", f"a={engine.url}", "--samples", str(out))
        assert engine.asked_prompts() == []
    samples, _ = read_samples(out)
    assert done.returncode == 1
    assert [(s.request, s.warmup) for s in samples] == [(1, False), (2, False), (3, False)]
    assert all("model 'm' not found" in (s.error or "") for s in samples)


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        (Engine(answers_as="llama-3.2-1b"), "answered by llama-3.2-1b, asked for m"),
        (Engine(cut_after=2), "the connection ended in the middle of the answer"),
        (Engine(cut_after=0), "the connection ended in the middle of the answer"),
        (Engine(tokens=50, gap_s=0.2), "no complete answer within 0.5 s"),
    ],
    ids=["wrong-model", "cut-stream", "cut-before-text", "too-slow"],
)
def test_answer_that_must_not_count_is_a_failed_sample(engine: Engine, error: str) -> None:
    """Wrong model, cut stream and time-out each leave a sample with the reason, and no rate."""
    with running(engine):
        done = run("--model", "m", "--exo", f"exo={engine.url}", "--only", "exo:1", "--requests", "1", "--warmup", "0",
                   "--timeout", "0.5", "--samples", "-")  # fmt: skip
    assert [s.error for s in lines(done.stdout)] == [error]
    assert done.returncode == 1


def test_killed_at_any_instant_and_resumed_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    """After SIGKILL at random instants every timed request ends up in the file exactly once; what it had, it keeps."""
    out = tmp_path / "s.jsonl"
    chance = random.Random(3)
    with running(Engine(tokens=3, gap_s=0.01)) as one, running(Engine(tokens=3, gap_s=0.01)) as two:
        call = ["--model", "m", "--runs", "2", "--requests", "3", "--ollama", f"a={one.url}", "--exo", f"exo={two.url}",
                "--samples", str(out), "--resume"]  # fmt: skip
        before = b""
        for _ in range(6):
            child = start(*call)
            time.sleep(0.12 + chance.random() * 0.3)
            child.kill()
            child.communicate()
            after = out.read_bytes() if out.exists() else b""
            assert after.startswith(before)
            before = after
        with out.open("ab") as stream:
            stream.write(b'{"schema": 1, "arm": "a", "ru')  # as a crash of the whole machine may leave it
        done = run(*call)
        again = run(*call)
    assert done.returncode == again.returncode == 0
    assert out.read_bytes().startswith(before)
    samples, torn = read_samples(out)
    assert len(torn) == 1
    keys = [(s.arm, s.run, s.request) for s in samples]
    assert len(keys) == len(set(keys))
    timed = {(s.arm, s.run, s.request) for s in samples if not s.warmup}
    assert timed == {(arm, run_, request) for arm in ("a", "exo") for run_ in (1, 2) for request in (1, 2, 3)}


def test_half_a_run_is_continued_after_a_new_load_and_warm_up() -> None:
    """`--skip-requests` names all numbers of a run: its timed ones are left out, new warm-ups take free ones."""
    with running(Engine()) as engine:
        call = ["--model", "m", "--ollama", f"a={engine.url}", "--only", "a:1", "--warmup", "1", "--samples", "-"]
        done = run(*call, "--skip-requests", "0,1,2")
        assert [(s.request, s.warmup) for s in lines(done.stdout)] == [(4, True), (3, False)]
        assert "loaded afresh" in done.stderr
        asked = len(engine.log)
        done = run(*call, "--skip-requests", "0,1,2,4,3")
        assert (done.stdout, done.returncode, len(engine.log)) == ("", 0, asked)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (set(), ([0, 1], [2, 3, 4])),
        ({0}, ([5, 6], [2, 3, 4])),
        ({0, 1, 2}, ([5, 6], [3, 4])),
        ({0, 1, 2, 5}, ([6, 7], [3, 4])),
        ({2, 3}, ([5, 6], [4])),
        ({2, 3, 4}, ([], [])),
        ({0, 1, 2, 3, 4, 5, 6}, ([], [])),
    ],
)
def test_missing_requests_of_a_run(numbers: set[int], expected: tuple[list[int], list[int]]) -> None:
    """Timed numbers are fixed; the warm-ups of a second attempt never take a number that was used."""
    settings = script.Settings(1, 3, 2, 8, 0, 1.0, "", (), False)
    assert script.missing_requests(settings, numbers) == expected


def test_samples_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    """A file is neither written twice without --resume nor continued with another model, length, prompt or campaign."""
    out = tmp_path / "s.jsonl"
    with running(Engine()) as engine:
        call = ["--model", "m", "--runs", "1", "--exo", f"exo={engine.url}", "--samples", str(out)]
        assert run(*call).returncode == 0
        kept = out.read_bytes()
        for more in ("", "--exo-model x", "--max-tokens 5", "--seed 1", "--campaign b"):
            done = run(*call, *(["--resume", *more.split()] if more else []))
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1 and "name another file" in done.stderr
        assert out.read_bytes() == kept


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_it_with_the_samples_kept(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM leave whole lines and the usual exit code."""
    out = tmp_path / "s.jsonl"
    with running(Engine(tokens=20, gap_s=0.01)) as engine:
        child = start("--model", "m", "--runs", "50", "--exo", f"exo={engine.url}", "--samples", str(out))
        deadline = time.monotonic() + 20
        while not (out.exists() and out.read_bytes().count(b"\n") >= 2) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(number)
        _, errors = child.communicate(timeout=20)
    samples, torn = read_samples(out)
    assert child.returncode == code
    assert len(samples) >= 2 and not torn
    assert "Traceback" not in errors and "kept" in errors


def test_reader_that_goes_away_is_no_traceback() -> None:
    """When whoever reads the samples closes the pipe (a cut SSH link), the script ends quietly."""
    with running(Engine()) as engine:
        child = start("--model", "m", "--exo", f"exo={engine.url}", "--runs", "50", "--samples", "-")
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(timeout=30) == 141
        assert "Traceback" not in child.stderr.read()
        child.stderr.close()


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
    assert len(keys) == len(set(keys)) == 5 + 2 + 4


def test_live_line_on_a_terminal_and_quiet_lines_elsewhere() -> None:
    """On a terminal the progress is renewed in place, with rate and time left."""
    controller, terminal = os.openpty()
    with running(Engine()) as engine:
        child = start("--model", "m", "--exo", f"exo={engine.url}", "--runs", "2", stderr=terminal)
        child.communicate(timeout=30)
    os.close(terminal)
    shown = b""
    while chunk := _read(controller):
        shown += chunk
    os.close(controller)
    assert shown.count(b"\r\x1b[K") > 8
    assert b" left" in shown and b"exo run 2 request 3" in shown and b" tok/s" in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says EIO when the terminal's last user has gone
        return b""


def test_calibration_gives_the_facts_of_the_record() -> None:
    """`--calibrate --json` converts to facts.Calibration: 20 to 500 tokens/s, 1 and 4 tokens a frame."""
    done = run("--calibrate", "--json")
    assert done.returncode == 0, done.stderr
    raw = json.loads(done.stdout)
    entries = msgspec.convert(raw, list[Calibration])
    assert all(set(one) == set(Calibration.__struct_fields__) for one in raw)
    assert {entry.tokens_per_frame for entry in entries} == {1, 4}
    assert {20, 50, 500} <= {entry.tokens_per_s for entry in entries}
    assert all(abs(entry.rate_error_mean_fraction) < 0.2 for entry in entries)
