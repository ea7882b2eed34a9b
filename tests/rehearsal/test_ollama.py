"""The Ollama stand-in against recordings of Ollama 0.5.13: headers, their order, keys, their order, refusals."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rehearsal.engine.settings import Settings
from rehearsal.layout import Layout
from rehearsal.ollama.gojson import syntax_error
from rehearsal.ollama.memory import Memory, keep_alive
from rehearsal.ollama.speech import DEFAULT_TOKENS, plan
from tests.support.wire import Answer, ask, documents, recording, shape

TOPIC = "wire-ollama-0.5.13"
MODEL = "llama3.2:3b-instruct-fp16"
GENERATE, CHAT, OPENAI = "POST /api/generate", "POST /api/chat", "POST /v1/chat/completions"
USAGE = {"include_usage": True}
SAY_HI = [{"role": "user", "content": "Say hi."}]


def to(nodes: Layout, request: str, body: object = "", key: str = "rog") -> Answer:
    """Ask the Ollama stand-in of a node."""
    text = body if isinstance(body, str) else json.dumps(body)
    return ask(nodes.node(key).address, nodes.ollama_port, request, text)


CASES: dict[str, tuple[str, object]] = {
    "root": ("GET /", ""),
    "version": ("GET /api/version", ""),
    "tags": ("GET /api/tags", ""),
    "v1_models": ("GET /v1/models", ""),
    "err_404": ("GET /api/nope", ""),
    "err_no_body": (GENERATE, ""),
    "err_bad_json": (GENERATE, "{bad"),
    "err_model_missing": (GENERATE, {"model": "nope:1b", "prompt": "x"}),
    "generate_load": (GENERATE, {"model": MODEL}),
    "ps_loaded": ("GET /api/ps", ""),
    "generate_stream": (GENERATE, {"model": MODEL, "prompt": "Why?", "options": {"num_predict": 3}}),
    "generate_nonstream": (
        GENERATE, {"model": MODEL, "prompt": "Who?", "stream": False, "options": {"num_predict": 3}}
    ),
    "chat_stream": (CHAT, {"model": MODEL, "messages": SAY_HI, "options": {"num_predict": 3}}),
    "chat_nonstream": (CHAT, {"model": MODEL, "messages": SAY_HI, "stream": False, "options": {"num_predict": 3}}),
    "v1_chat_stream": (
        OPENAI,
        {"model": MODEL, "messages": SAY_HI, "stream": True, "max_tokens": 3, "stream_options": USAGE},
    ),
    "unload": (GENERATE, {"model": MODEL, "keep_alive": 0}),
    "ps_empty": ("GET /api/ps", ""),
}  # fmt: skip


def test_every_answer_has_the_recorded_form(nodes: Layout) -> None:
    """Status line, headers in order, keys in order and types are the recorded ones, for each request in turn."""
    for name, (request, body) in CASES.items():
        said, was = to(nodes, request, body), recording(TOPIC, name)
        own = [(k, v) for k, v in said.headers if k != "Connection"]
        assert Answer(said.status, own, "").frame() == was.frame(), name
        if was.body.startswith(("{", "data")):
            theirs, ours = documents(was.body), documents(said.body)
            assert shape(ours[0]) == shape(theirs[0]), name
            assert shape(ours[-1]) == shape(theirs[-1]), name
        else:
            assert said.body.strip() == was.body.strip(), name


def test_refusals_are_word_for_word(nodes: Layout) -> None:
    """An error says exactly what Ollama says."""
    for name in ("err_404", "err_no_body", "err_bad_json", "err_model_missing"):
        assert to(nodes, *CASES[name]).body.strip() == recording(TOPIC, name).body.strip()


def test_show_describes_the_model(nodes: Layout) -> None:
    """/api/show tells quantisation, family and parameter size in the recorded places, in chunks."""
    said, was = to(nodes, "POST /api/show", {"model": "qwen2.5:3b"}), recording(TOPIC, "show")
    assert [k for k, _ in said.headers] == [k for k, _ in was.headers]
    ours, theirs = documents(said.body)[0], documents(was.body)[0]
    assert list(ours) == list(theirs)
    assert shape(ours["details"]) == shape(theirs["details"])
    assert ours["details"]["quantization_level"] == "Q4_K_M"


def test_lengths_are_what_was_asked_for(nodes: Layout) -> None:
    """`num_predict` tokens come, counted in the last frame; each frame before it is one token."""
    *words, last = documents(to(nodes, GENERATE, {"model": MODEL, "prompt": "a", "options": {"num_predict": 7}}).body)
    assert (len(words), last["eval_count"], last["done_reason"]) == (7, 7, "length")


def test_memory_tells_who_computes(nodes: Layout) -> None:
    """A loaded model is all in video memory on rog and not at all on srv1."""
    for key in ("srv1", "rog"):
        to(nodes, GENERATE, {"model": MODEL}, key)
        loaded = documents(to(nodes, "GET /api/ps", key=key).body)[0]["models"]
        assert [m["size_vram"] == (m["size"] if key == "rog" else 0) for m in loaded] == [True]
        to(nodes, GENERATE, {"model": MODEL, "keep_alive": 0}, key)


def test_cold_load_is_told(nodes: Layout) -> None:
    """The first answer after an unload says that it loaded (0.15 s), the second does not."""
    to(nodes, GENERATE, {"model": MODEL, "keep_alive": 0})
    ask_it = {"model": MODEL, "prompt": "x", "stream": False, "options": {"num_predict": 1}}
    loads = [documents(to(nodes, GENERATE, ask_it | {"prompt": text}).body)[0]["load_duration"] for text in "xy"]
    assert loads[0] > 140_000_000
    assert loads[1] < 100_000_000


def test_the_same_prompt_again_is_cached(nodes: Layout) -> None:
    """Ollama keeps the last prompt: asked again, its evaluation takes a fraction of the time."""
    again = {"model": MODEL, "prompt": "the same", "stream": False, "options": {"num_predict": 1}}
    first, second = (documents(to(nodes, GENERATE, again).body)[0]["prompt_eval_duration"] for _ in range(2))
    assert second < first / 3


def test_what_0_33_does(tmp_path: Path) -> None:
    """`num_predict: 0` is no limit, cached tokens are told by 0.33.3, and no keep_alive leaves the earlier one."""
    (tmp_path / ".rehearsal.json").write_text('{"ollama": {"tells_cached": true, "load_s": 0}}')
    memory = Memory(Settings("ollama", tmp_path))
    model = memory.models()[MODEL]
    one, _ = memory.load(model, 900.0)
    kept_until_s = memory.load(model, None)[0].expires_s
    answers = [plan(memory.settings, one, "Why?", {"num_predict": count}, 0.0, 0.0) for count in (0, 3)]
    assert kept_until_s - time.time() > 800
    assert [len(answer.words) for answer in answers] == [DEFAULT_TOKENS, 3]
    assert [answer.figures(0.0)["prompt_eval_cached_count"] for answer in answers] == [5, 11]


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, None), (0, 0), ("0", 0), ("5m", 300), ("30s", 30), ("1h", 3600), (-1, 1e9)]
)
def test_keep_alive_forms(value: object, seconds: float | None) -> None:
    """`keep_alive` is read as Ollama reads it; where it is not told the server's own setting counts."""
    assert keep_alive(value) == seconds


def test_go_syntax_errors() -> None:
    """Bodies that are no JSON are refused in Go's words."""
    assert syntax_error(b"") == "missing request body"
    assert syntax_error(b"{bad") == "invalid character 'b' looking for beginning of object key string"
    assert syntax_error(b"bad") == "invalid character 'b' looking for beginning of value"
