"""What the benchmark script asks of the servers and writes of their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from records.samples import Sample, read_samples
from scripts import benchmark_exo_vs_ollama as script
from tests.support.script_process import lines, run
from tests.support.script_server import Engine, running

SETTINGS = script.Settings(1, 1, 0, 4, 0, 5.0, "", (), False)


def test_line_has_exactly_the_keys_of_a_sample() -> None:
    """The script spells the contract out itself; it must be the contract, in the same order."""
    assert [*script.SAMPLE_KEYS, "lost"] == list(Sample.__struct_encode_fields__)  # which the conditions tell
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
    assert {(s.arm, s.engine, s.run, s.campaign, s.model_asked, s.max_tokens) for s in samples} == {
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
    assert ollama["options"] == {"num_predict": 9, "temperature": 0, "seed": 5, "num_ctx": 4096}
    assert (ollama["model"], ollama["raw"], ollama["keep_alive"]) == ("m", False, "960s")
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
    let_go, load = ["ps", "tags", "unload", "ps"], ["load", "ps", "tags", "ask"]
    assert kinds == [*let_go, *load, *let_go, "ps", *load, *let_go]
    assert {tuple(p["options"].items()) for _, p in engine.log if "options" in p and not p.get("prompt")} == {
        (("num_ctx", 4096),)
    }
    assert done.returncode == 0
    assert "loaded afresh in" in done.stderr


def test_a_model_under_another_name_of_its_file_is_reloaded() -> None:
    """Of two names /api/ps shows the one that loaded first, in any case: digests tell that it is ours."""
    engine = Engine()
    engine.digests = {"Qwen:3B": "sha256:1", "qwen:3b-instruct": "sha256:1"}
    engine.loaded.add("qwen:3b-instruct")
    with running(engine):
        script.load_afresh(script.Arm("a", "ollama", engine.url, "QWEN:3b", "reload"), SETTINGS)
    unloads = [payload["model"] for _, payload in engine.log if payload.get("keep_alive") == 0]
    assert unloads == ["qwen:3b-instruct"]


def test_a_run_ends_at_its_first_failure_where_that_is_asked_for() -> None:
    """The requests that were never sent are no failures; the caller measures the whole run again."""
    with running(Engine(cut_after=1)) as engine:
        call = ["--model", "m", "--exo", f"exo={engine.url}", "--only", "exo:1", "--samples", "-", "--warmup", "0"]
        done = run(*call, "--stop-at-failure", "--attempt", "2")
    assert [(s.request, s.attempt, bool(s.error)) for s in lines(done.stdout)] == [(0, 2, True)]


def _kind(path: str, payload: dict[str, Any]) -> str:
    if not payload:
        return path.rpartition("/")[2]
    return "unload" if payload.get("keep_alive") == 0 else "ask" if payload.get("prompt") else "load"


def test_neighbour_left_loaded_is_unloaded_first() -> None:
    """The other arm's model must not compete, whoever left it in memory."""
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


def test_server_that_keeps_the_model_is_not_taken_for_unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unload counts when /api/ps no longer lists the model, not when the request to unload was answered."""
    monkeypatch.setattr(script, "UNLOAD_TIMEOUT_S", 0.3)
    engine = Engine()
    engine.loaded.add("m:latest")
    engine.never_unloads = True
    with running(engine), pytest.raises(script.ServerError, match="still holds m"):
        script.load_afresh(script.Arm("a", "ollama", engine.url, "m", "reload"), SETTINGS)


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
                   "--timeout", "0.5" if "within" in error else "60", "--samples", "-")  # fmt: skip
    assert [s.error for s in lines(done.stdout)] == [error]
    assert done.returncode == 1
