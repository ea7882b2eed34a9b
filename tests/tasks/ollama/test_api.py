"""Ollama's recorded answers, and what other versions leave out."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.facts import OllamaModel, OllamaState
from tasks.errors import StepError
from tasks.machines.wire import Reply
from tasks.ollama import api as ollama
from tests.support.recorded import ok, recorded

URL = "http://localhost:11434"
DIGEST = "9560b31388a14178a15c92d987d4df828c14747c6f1eebd7d251fafb8c5cef46"
VERSION = ok(recorded("ollama", "version.json"))
TAGS = ok(recorded("ollama", "tags.json"))
LOADED = ok(recorded("ollama", "ps_loaded.json"))
EMPTY = ok(recorded("ollama", "ps_empty.json"))


def test_state_of_a_server() -> None:
    """Version, models with their digests, and what is in memory are read from the recorded answers."""
    assert ollama.parse_state("srv1", URL, VERSION, TAGS, LOADED) == OllamaState(
        "srv1", URL, "0.5.13", {"smollm2:135m": DIGEST}, ["smollm2:135m"]
    )
    assert ollama.parse_state("srv1", URL, VERSION, TAGS, EMPTY).loaded == []


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_server_that_does_not_answer_has_an_error_in_words(broken: int) -> None:
    """Whichever of the three requests fails, the state says so and nothing is raised."""
    replies = [VERSION, TAGS, EMPTY]
    replies[broken] = Reply(0, "Connection refused")
    state = ollama.parse_state("rog", URL, *replies)
    assert state.error is not None
    assert "Connection refused" in state.error


def test_a_model_as_its_server_describes_it() -> None:
    """Quantisation, size and digest come from /api/tags; where it computes comes from /api/ps."""
    found = ollama.parse_model("srv1", "smollm2:135m", TAGS)
    assert found == OllamaModel("srv1", "smollm2:135m", DIGEST, "Q4_1", "134.52M", 98363033)
    (held,) = ollama.parse_memory(LOADED, 0)
    loaded = ollama.with_memory(found, held)
    assert (loaded.size_bytes, loaded.size_vram_bytes) == (98363033, 0)
    assert loaded.memory_bytes != loaded.size_bytes  # the footprint holds the context, too
    assert ollama.device_of(loaded) == ("CPU (size_vram 0)", "cpu")
    assert ollama.parse_model("srv1", "qwen2.5:3b", TAGS) is None
    assert ollama.parse_memory(EMPTY, 0) == []


def test_what_an_ollama_of_today_tells_of_its_memory() -> None:
    """0.33 lists contexts; its footprint is not the file's size, and the name is that of whoever loaded it first."""
    now_s = datetime(2026, 11, 27, 11, 47, 42, 573428, tzinfo=UTC).timestamp()
    (held,) = ollama.parse_memory(ok(recorded("ollama", "ps_0.33.json")), now_s)
    assert (held.name, held.context_length, held.vram_bytes) == ("smollm2:135m", 4096, 0)
    assert held.expires_in_s == pytest.approx(300, abs=0.01)
    tags = ok(recorded("ollama", "tags_0.33.json"))
    others = [ollama.parse_model("a", name, tags) for name in ("SMOLBIG:tag", "smollm2:other")]
    assert {other.digest for other in others if other} == {held.digest}
    assert held.memory_bytes != others[0].size_bytes  # type: ignore[union-attr]
    assert ollama.parse_blob(ok(recorded("ollama", "show_0.33.json"))).startswith("sha256-941f309b")
    assert ollama.parse_blob(ok('{"modelfile": "FROM llama3.2"}')) == ""


@pytest.mark.parametrize(
    ("size", "vram", "kind"), [(100, 100, "gpu"), (100, 60, "unknown"), (100, 0, "cpu"), (100, None, "unknown")]
)
def test_device_of_a_loaded_model(size: int, vram: int | None, kind: str) -> None:
    """All in VRAM is the GPU, none is the CPU, a part is neither."""
    words, found = ollama.device_of(OllamaModel("a", "m", "", None, None, size, vram))
    assert found == kind
    assert words


def test_fields_that_other_versions_leave_out() -> None:
    """Absent fields and a null list are nothing, not an error."""
    bare = ok('{"models": [{"model": "m:latest"}, {"name": "n:1b", "details": null, "size": null}]}')
    assert ollama.parse_state("a", URL, ok("{}"), bare, ok('{"models": null}')) == OllamaState(
        "a", URL, None, {"m:latest": "", "n:1b": ""}
    )
    assert ollama.parse_model("a", "m", bare) == OllamaModel("a", "m", "", None, None, None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("llama3.2", "llama3.2:latest", True),
        ("llama3.2:3b", "llama3.2", False),
        ("hf.co/a/b", "hf.co/a/b:latest", True),
        ("host:5000/a/b", "host:5000/a/b:latest", True),
        ("SMOL1:135M", "smol1:135m", True),
    ],
)
def test_a_missing_tag_is_latest(one: str, other: str, same: bool) -> None:
    """Names are compared as Ollama does it; a registry's port is no tag."""
    assert ollama.same_name(one, other) is same


def test_changes_between_two_states() -> None:
    """A version, a model gone, new or replaced, and a dead server are changes; what is loaded is none."""
    before = OllamaState("srv1", URL, "0.5.13", {"a": "1", "b": "2", "c": "3"}, ["a"])
    assert ollama.changes(before, OllamaState("srv1", URL, "0.5.13", before.models, [])) == []
    after = OllamaState("srv1", URL, "0.6.0", {"a": "1", "b": "9", "d": "4"})
    assert ollama.changes(before, after) == [
        "srv1: version 0.5.13 is now 0.6.0",
        "srv1: c is gone",
        "srv1: d is new",
        "srv1: b has another digest",
    ]
    assert ollama.changes(before, OllamaState("srv1", URL, None, {}, error="refused")) == ["srv1: refused"]
    seen = msgspec.structs.replace(before, boot="b1", started="1 100")
    restarted = msgspec.structs.replace(seen, started="7 900")
    assert ollama.changes(seen, restarted) == []
    assert ollama.restarts(seen, restarted) == ["srv1: its process was started anew"]
    assert ollama.restarts(seen, msgspec.structs.replace(restarted, boot="b2")) == ["srv1: its node was started anew"]
    assert ollama.restarts(before, seen) == []  # nothing is known of before


@settings(max_examples=200)
@given(
    st.sampled_from([0, 200, 404, 500]),
    st.text()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["models", "name", "model", "details", "size", "version", "done"]), x)
        ),
    ).map(json.dumps),
)
def test_parsers_never_fail_otherwise(status: int, text: str) -> None:
    """No reply makes a parser raise anything but StepError; parse_state never raises at all."""
    reply = Reply(status, text)
    assert ollama.parse_state("a", URL, reply, reply, reply).arm == "a"
    try:
        ollama.parse_model("a", "m", reply)
    except StepError as error:
        assert error.problem.found
