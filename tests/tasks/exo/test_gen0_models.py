"""EXO 0.0.x: download and chat, driven by every recorded answer of v0.0.15."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.settings import ModelPair
from tasks.errors import StepError
from tasks.exo import gen0, models
from tasks.machines.wire import Reply, Request
from tests.support.recorded import Performed, Server, ok, recorded

NODES = ["srv1", "srv2", "rog"]
LLAMA = ModelPair("llama-3.2-1b", "llama3.2:1b-instruct-fp16", "fp16", "F16")
DUMMY = ModelPair("dummy", "llama3.2:1b", "none", "Q8_0")
TINYGRAD: dict[str, dict[str, str]] = {"llama-3.2-1b": {}, "llama-3.2-3b": {}, "llama-3.1-8b": {}}


def cluster(pages: dict[str, list[tuple[float, str]]], post: Reply, models: dict[str, dict[str, str]]) -> Server:
    """Return a server whose nodes show the progress in `pages`: node -> (from that second on, JSON)."""

    def answer(node: str, request: Request, now_s: float) -> Reply:
        if request.path == "/initial_models":
            return ok(json.dumps(models))
        if request.path == "/download":
            return post
        assert request.path == "/v1/download/progress"
        shown = [text for since_s, text in pages.get(node, []) if since_s <= now_s]
        return ok(shown[-1] if shown else "{}")

    return answer


HUB_LOG = recorded("exo-0.0.x", "log_hub_unreachable.txt")


def test_hub_out_of_reach_is_told_from_the_log() -> None:
    """Recorded on a node without a way to the hub: file, repository, number of tries and the cause, on one line."""
    assert gen0.hub_problem(HUB_LOG) == (
        "cannot fetch model.safetensors.index.json of unsloth/Llama-3.2-3B-Instruct from the model hub (6 tries):"
        " Cannot connect to host huggingface.co:443 ssl:default [Name or service not known]"
    )


def test_attempts_that_fail_by_chance_are_no_finding() -> None:
    """Up to three failed attempts heal by themselves; a log without any says nothing, a torn one does not break it."""
    assert gen0.hub_problem(HUB_LOG.split("Download error on attempt 3/")[0]) == ""
    assert gen0.hub_problem(recorded("exo-0.0.x", "log_healthy.txt")) == ""
    assert gen0.hub_problem(HUB_LOG + "loaded weights in 267.72 ms, 0.04 GB loaded at 0.17 GB/s\n") == ""
    torn = HUB_LOG[: HUB_LOG.index("Download error on attempt 5/") + 140]
    assert gen0.hub_problem(torn).endswith("its log says no more")


@given(st.text())
def test_no_log_breaks_the_reader(log: str) -> None:
    """Whatever a log holds, reading it raises nothing."""
    assert isinstance(gen0.hub_problem(log), str)


STARTED = ok(recorded("exo-0.0.x", "download_started.json"))


def test_make_ready_asks_every_node_and_follows_its_own_progress() -> None:
    """The model goes to every node; each is watched until it shows no download any more."""
    pages = {
        "srv1": [
            (1.0, recorded("exo-0.0.x", "progress_1s.json")),
            (2.0, recorded("exo-0.0.x", "progress_2s.json")),
            (3.0, "{}"),
        ]
    }
    done = Performed(gen0.make_ready(LLAMA, NODES, "srv1", 600), cluster(pages, STARTED, TINYGRAD))
    assert [a for a in done.asked if a[1] == "POST"] == [(node, "POST", "/download") for node in NODES]
    assert done.finding.downloaded["srv1"].startswith("9.84 MB in 9 files")
    assert "was there already" in done.finding.downloaded["rog"]
    assert "srv1 37 %, srv2 asks the hub" in done.progress[1]
    assert done.waited_s < 12


def test_make_ready_on_the_dummy_engine_has_nothing_to_download() -> None:
    """The recorded 500 of the dummy engine is no failure: it has no weights."""
    said = Reply(500, recorded("exo-0.0.x", "download_dummy_has_no_downloader.json"))
    models = json.loads(recorded("exo-0.0.x", "initial_models_dummy.json"))
    done = Performed(gen0.make_ready(DUMMY, NODES, "srv1", 600), cluster({}, said, models))
    assert (done.waited_s, set(done.finding.downloaded)) == (0.0, set(NODES))
    assert "dummy engine" in done.finding.downloaded["srv2"]


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (400, "download_unknown_id.json", "does not know a model"),
        (400, "download_mlx_only.json", "only for Apple's MLX"),
        (400, "download_no_model.json", "model parameter is required"),
    ],
)
def test_make_ready_refuses_what_the_engine_cannot_run(status: int, answer: str, words: str) -> None:
    """Each recorded refusal becomes words that name the models which do run."""
    said = Reply(status, recorded("exo-0.0.x", answer))
    models: dict[str, dict[str, str]] = {LLAMA.exo: {}}
    with pytest.raises(StepError, match=words) as caught:
        Performed(gen0.make_ready(LLAMA, NODES, "srv1", 600), cluster({}, said, models))
    if "parameter" not in words:
        assert "llama-3.2-3b" in caught.value.problem.needed
        assert "hosts.yaml" in caught.value.problem.do


def test_make_ready_refuses_an_mlx_only_model_before_any_download() -> None:
    """The engine's own list is asked first, so nothing is fetched for a model that cannot run."""
    qwen = ModelPair("qwen-2.5-3b", "qwen2.5:3b", "MLX 4-bit", "Q4_K_M")
    asked: list[str] = []

    def server(node: str, request: Request, now_s: float) -> Reply:
        asked.append(request.path)
        return ok(json.dumps(TINYGRAD))

    with pytest.raises(StepError, match=r"does not offer 'qwen-2.5-3b'"):
        Performed(gen0.make_ready(qwen, NODES, "srv1", 600), server)
    assert asked == ["/initial_models"]


def test_make_ready_refuses_a_download_that_stands_still() -> None:
    """EXO leaves a broken download in the progress for ever; its bytes tell."""
    pages = {node: [(1.0, recorded("exo-0.0.x", "progress_1s.json").replace("srv1", node))] for node in NODES}
    with pytest.raises(StepError, match="stands still at 37 % for 180 s"):
        Performed(gen0.make_ready(LLAMA, NODES, "srv1", 7200), cluster(pages, STARTED, TINYGRAD))


def test_make_ready_ends_with_its_time() -> None:
    """A download that moves but is too slow ends with the time-out and says how far each node is."""

    def server(node: str, request: Request, now_s: float) -> Reply:
        if request.path == "/initial_models":
            return ok(json.dumps(TINYGRAD))
        if request.path == "/download":
            return STARTED
        return ok(json.dumps({node: {"downloaded_bytes": now_s, "total_bytes": 1000, "total_files": 9}}))

    with pytest.raises(StepError, match=r"not downloaded after 60 s: srv1 6 %"):
        Performed(gen0.make_ready(LLAMA, NODES, "srv1", 60), server)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0, 200, 400, 404, 500]), st.text(max_size=40)), min_size=1, max_size=8))
def test_make_ready_ends_or_refuses_whatever_is_answered(replies: list[tuple[int, str]]) -> None:
    """No sequence of answers makes the flow raise anything but StepError, or go on for ever."""
    turn = iter(range(10_000_000))

    def server(node: str, request: Request, now_s: float) -> Reply:
        return Reply(*replies[next(turn) % len(replies)])

    try:
        Performed(gen0.make_ready(LLAMA, NODES, "srv1", 300), server)
    except StepError as error:
        assert error.problem.found


def test_unload_says_that_it_cannot() -> None:
    """0.0.x keeps a model until it ends; nothing is asked of it."""
    done = Performed(gen0.unload(LLAMA, NODES, "srv1", 60), lambda *_: ok("{}"))
    assert (done.asked, set(done.finding.downloaded)) == ([], set(NODES))


def test_chat_answer_of_the_right_model() -> None:
    """The recorded answer of three nodes is read with its tokens."""
    answer = gen0.parse_chat(ok(recorded("exo-0.0.x", "chat_llama.json")), "llama-3.2-1b")
    assert (answer.model, answer.output_tokens, answer.finish_reason) == ("llama-3.2-1b", 24, "length")


def test_chat_answered_by_another_model_is_refused_with_both_names() -> None:
    """HTTP 200 from the default model is the trap; only the answer's `model` tells."""
    with pytest.raises(StepError, match=r"asked for 'qwen2.5:3b' and 'llama-3.2-1b' answered, with HTTP 200"):
        gen0.parse_chat(ok(recorded("exo-0.0.x", "chat_other_model_answered.json")), "qwen2.5:3b")


@pytest.mark.parametrize(
    ("status", "answer", "model", "words"),
    [
        (400, "chat_unsupported_tinygrad.json", "qwen-2.5-3b", "TinygradDynamicShardInferenceEngine cannot run"),
        (400, "chat_unsupported_fallback_dummy.json", "qwen2.5:3b", "fell back to 'llama-3.2-1b'"),
        (500, "chat_peer_dead.json", "dummy", "a peer of the entry node is gone"),
    ],
)
def test_chat_errors_are_told_in_words(status: int, answer: str, model: str, words: str) -> None:
    """Each recorded error says what it means and what to type."""
    with pytest.raises(StepError) as caught:
        gen0.parse_chat(Reply(status, recorded("exo-0.0.x", answer)), model)
    assert words in caught.value.problem.found
    assert caught.value.problem.do


@pytest.mark.parametrize("status", [0, 408, 500])
def test_chat_without_an_answer_is_refused(status: int) -> None:
    """No answer, EXO's own time-out and its bare 500 are refusals."""
    with pytest.raises(StepError):
        gen0.parse_chat(Reply(status, "500 Internal Server Error\n\nServer got itself in trouble"), "dummy")


@settings(max_examples=150)
@given(st.sampled_from([0, 200, 400, 500]), st.text() | st.from_regex(r'\{"model": "m", "choices": \[.*\]\}'))
def test_chat_parser_never_fails_otherwise(status: int, text: str) -> None:
    """No reply makes the parser raise anything but StepError."""
    try:
        gen0.parse_chat(Reply(status, text), "m")
    except StepError as error:
        assert error.problem.needed


def test_linux_models_are_those_the_recorded_engine_offers() -> None:
    """The list shown to people is a part of what v0.0.15's tinygrad engine says it supports."""
    said = recorded("exo-0.0.x", "chat_unsupported_tinygrad.json")
    assert all(f"'{model}'" in said for model in models.LINUX_0)
    assert "qwen" not in said.split("Supported models")[1]
