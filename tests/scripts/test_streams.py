"""Every recorded and every dirty answer becomes the right sample, however the network cuts it.

A case is a file in tests/data/streams: a line of JSON (source, status, content type, framing, model asked, what the
sample must hold), then the body as the server sent it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.samples import Sample
from scripts import benchmark_exo_vs_ollama as script
from tests import DATA

CASES = sorted((DATA / "streams").glob("*.txt"))
START_S = 100.0


def load(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the case's first line and the body."""
    head, _, body = path.read_bytes().partition(b"\n")
    return json.loads(head), body


def on_the_wire(case: dict[str, Any], body: bytes, chunk: int = 100) -> bytes:
    """Return the bytes of the whole HTTP answer in the case's framing."""
    lines = [f"HTTP/1.1 {case['status']} Said", "Server: test"]
    if case["content_type"]:
        lines.append(f"Content-Type: {case['content_type']}")
    framing = case["framing"]
    if framing.startswith("chunked"):
        lines.append("Transfer-Encoding: chunked")
        parts = [body[at : at + chunk] for at in range(0, len(body), chunk)]
        body = b"".join(b"%X\r\n%s\r\n" % (len(part), part) for part in parts)
        body += b"" if framing.endswith("cut") else b"0\r\n\r\n"
    elif framing.startswith("length"):
        lines.append(f"content-length: {len(body) + (3 if framing.endswith('cut') else 0)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def split(raw: bytes, sizes: list[int]) -> list[script.Piece]:
    """Cut `raw` into pieces of these sizes in turn, one a second."""
    pieces: list[script.Piece] = []
    at = 0
    while at < len(raw):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append((START_S + 1 + len(pieces), raw[at : at + size]))
        at += size
    return pieces


def read(case: dict[str, Any], pieces: list[script.Piece], failure: str | None = None) -> dict[str, Any]:
    """Return the fields of the sample, the model compared as the script does it."""
    fields = script.read_answer(pieces, START_S, failure)
    fields["error"] = script.judge_model(fields["error"], fields["model_answered"], case["asked"])
    return fields


def untimed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on how the answer was cut."""
    times = {"first_token_s", "last_token_s", "total_s", "headers_s", "frame_times_s"}
    return {key: value for key, value in fields.items() if key not in times}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_answer_becomes_the_right_sample(path: Path) -> None:
    """Each case gives exactly the expected figures, whole, byte by byte and cut at odd places."""
    case, body = load(path)
    raw = on_the_wire(case, body)
    for sizes in ([len(raw)], [1] if len(raw) < 20000 else [997], [7, 64, 3], [1448]):
        fields = read(case, split(raw, sizes))
        for key, expected in case["expect"].items():
            if key == "frames":
                assert len(fields["frame_times_s"]) == expected
            elif key == "text":
                assert (fields["text_head"], fields["text_sha256"]) == (expected[:80], script._sha256(expected))
            elif key == "error_starts":
                assert fields["error"].startswith(expected)
            else:
                assert fields[key] == expected, key


def test_every_engine_and_kind_is_among_the_cases() -> None:
    """The folder holds recorded answers of all three servers besides those written by hand."""
    sources = [load(path)[0]["source"].split("/")[0] for path in CASES]
    assert {source: sources.count(source) for source in ("exo-0.0.15", "ollama-0.5.13", "exo-1.0.71")} == {
        "exo-0.0.15": 14,
        "ollama-0.5.13": 10,
        "exo-1.0.71": 8,
    }
    assert sources.count("written by hand") >= 45


def test_frame_time_is_that_of_the_piece_that_completed_the_line() -> None:
    """A frame counts from the arrival of its line's end; comments, role-only and empty frames never do."""
    parts = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        b": keep-alive\n\n",
        b'data: {"model":"m","choices":[{"delta":{"role":"assista',
        b'nt"}}]}\n\ndata: {"choices":[{"delta":{"content":"one"}}]}',
        b"\n",
        b'\ndata: {"choices":[{"delta":{"content":"two"}}]}\n\ndata: {"choices":[{"delta":{"content":"3"}}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ]
    fields = script.read_answer([(START_S + number, part) for number, part in enumerate(parts)], START_S)
    assert fields["error"] is None
    assert fields["headers_s"] == 0
    assert fields["frame_times_s"] == [4, 5, 5]
    assert (fields["first_token_s"], fields["last_token_s"], fields["total_s"]) == (4, 5, 7)


@settings(max_examples=200)
@given(data=st.data())
def test_cuts_of_the_network_change_nothing(data: st.DataObject) -> None:
    """Any chunk size and any split of the bytes give the same text, tokens, finish and error."""
    path = data.draw(st.sampled_from([case for case in CASES if "deep" not in case.stem]))
    case, body = load(path)
    expected = untimed(read(case, split(on_the_wire(case, body), [10**9])))
    raw = on_the_wire(case, body, data.draw(st.integers(1, 5000)))
    fields = read(case, split(raw, data.draw(st.lists(st.integers(1, 4000), min_size=1, max_size=30))))
    assert untimed(fields) == expected
    assert fields["frame_times_s"] == sorted(fields["frame_times_s"])


@settings(max_examples=200)
@given(data=st.data())
def test_incomplete_answer_is_never_a_good_sample(data: st.DataObject) -> None:
    """Cut before its last byte, no chunked or length-framed answer passes as complete."""
    framed = [path for path in CASES if load(path)[0]["framing"] in ("chunked", "length")]
    case, body = load(data.draw(st.sampled_from(framed)))
    raw = on_the_wire(case, body)
    kept = data.draw(st.integers(0, len(raw) - 1))
    fields = read(case, split(raw[:kept], [data.draw(st.integers(1, 3000))]))
    assert fields["error"]


@settings(max_examples=200)
@given(data=st.data())
def test_stream_that_ends_with_the_connection_needs_its_finish(data: st.DataObject) -> None:
    """Without framing, a cut before the frame that says why the generation ended is an error."""
    events = [script.metronome_frames(path, "m", 1, 5) for path in ("/api/generate", "/v1/chat/completions")]
    _, frames, _ = events[data.draw(st.integers(0, 1))]
    body = b"".join(frame.split(b"\r\n", 1)[1][:-2] for frame in frames)
    kept = body[: data.draw(st.integers(0, len(body)))]
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + kept
    assert script.read_answer([(START_S, raw)], START_S)["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "delta", "message", "content", "usage", "finish_reason", "done", "error", "model", "response",
             "eval_count", "index", "completion_tokens", "generation_stats", "prompt_tokens_details", "cached_tokens"]
        ) | st.text(max_size=5),
        inner,
        max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip
LINE = st.one_of(
    JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from(
        [b"[DONE]", b"", b": keep-alive", b": generation_stats {", b"event: error", b"data", b"\xef\xbb\xbf"]
    ),
)


@settings(max_examples=200)
@given(
    lines=st.lists(st.tuples(st.sampled_from([b"", b"data: ", b"data:", b": "]), LINE), max_size=12),
    ending=st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n"]),
    kind=st.sampled_from(["text/event-stream", "application/x-ndjson", "application/json", ""]),
    framing=st.sampled_from(["chunked", "length", "eof", "chunked-cut"]),
    status=st.sampled_from([200, 200, 200, 404, 500]),
)
def test_no_input_crashes_or_yields_a_line_that_is_no_sample(
    lines: list[tuple[bytes, bytes]], ending: bytes, kind: str, framing: str, status: int
) -> None:
    """Whatever a server says, the line that is written is a valid Sample."""
    body = b"".join(prefix + line + ending for prefix, line in lines)
    case = {"status": status, "content_type": kind, "framing": framing, "asked": "m"}
    check_sample(read(case, split(on_the_wire(case, body), [37])))


@settings(max_examples=200)
@given(raw=st.binary(max_size=300), prefix=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n"]))
def test_arbitrary_bytes_never_pass(raw: bytes, prefix: bytes) -> None:
    """Bytes that are no answer are an error, not a crash and not a sample."""
    fields = script.read_answer([(START_S, prefix + raw)], START_S)
    assert fields["error"]
    check_sample(fields)


def check_sample(fields: dict[str, Any]) -> None:
    """Write the sample as the script does and read it as the report does."""
    identity: dict[str, Any] = {
        "schema": 1, "arm": "a", "side": "exo", "run": 1, "request": 0, "warmup": False, "model_asked": "m",
        "campaign": "", "start_utc": "", "start_monotonic_s": 0.0, "connect_s": None, "prompt_sha256": "",
        "max_tokens": 1, "concurrency": 1,
    }  # fmt: skip
    line = json.dumps({**identity, **fields}, allow_nan=False)
    sample = msgspec.json.decode(line, type=Sample)
    assert sample.error or (sample.output_tokens and sample.first_token_s is not None and sample.finish_reason)
