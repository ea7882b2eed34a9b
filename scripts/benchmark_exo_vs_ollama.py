#!/usr/bin/env python3
"""Measure output tokens per second, time to first token and total time of EXO and of single-node Ollama.

One file, standard library only, Python 3.9 or newer. `--model M --runs N` does what the plan's step 10 asked for;
`--samples FILE` keeps every request as one JSON line with the keys of SAMPLE_KEYS (times in seconds from the moment
the request's first byte was about to be written, on the monotonic clock).

How it measures: a plain socket with TCP_NODELAY; head and body of the request leave in one `sendall`; every arrival is
stamped before anything looks at the bytes, on Linux by the kernel, else on return from the call; everything is parsed
after the last byte. `http.client` would read the head line by line and chunk sizes in calls of their own, so that no
stamp belongs to one arrival, and it hides the kernel's stamps.

Numbers: a run is one load of the model, its warm-ups and its timed requests. Requests count from 0: W warm-ups, then
K timed ones (W to W+K-1). A run that was interrupted is loaded and warmed up again and then goes on at the missing
timed requests; the warm-ups of such a second attempt take the next free numbers from W+K on. A failed request is
finished: asking again until it succeeds would hide the failure. Run 0 is the concurrency experiment.

Exit codes: 0 done; 1 some arm has no good sample; 2 a mistake in the command line; 130 Ctrl-C; 143 SIGTERM; 141 the
reader of standard output has gone.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import hashlib
import io
import itertools
import json
import math
import os
import re
import signal
import socket
import struct
import sys
import time
from bisect import bisect_right
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Sequence, Set, TextIO, Tuple
from urllib.parse import urlsplit

SCHEMA_VERSION = 1
PLAN_OLLAMA = ("srv1=http://localhost:11434", "rog=http://100.93.122.109:11434")
PLAN_EXO = "exo=http://localhost:52416"
CONNECT_TIMEOUT_S = 10.0
UNLOAD_TIMEOUT_S = 30.0
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
LAST_CHUNK = b"\r\n0\r\n\r\n"

# Linux: the kernel stamps each packet at its arrival (asm-generic/socket.h; the socket module has no name for it).
KERNEL_STAMPS = sys.platform == "linux"
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")

Arrival = Tuple[float, List[Tuple[int, int, bytes]], bytes]
"""What one `recvmsg` returned: monotonic clock at its return, ancillary data with the kernel's stamp, bytes."""
Piece = Tuple[float, bytes]
"""Bytes and when they came, on the monotonic clock."""

# On Linux CLOCK_MONOTONIC, the same for all processes: the calibration compares stamps of two of them.
clock = time.monotonic


class HumanError(Exception):
    """Something a person can mend on the command line: one line, exit 2."""


class ServerError(Exception):
    """A server did not do what was needed outside of a measured request."""


class Terminated(BaseException):
    """SIGTERM arrived."""


class Arm(NamedTuple):
    """One arm: an engine at an address, and the model that it is asked for."""

    name: str
    engine: str  # "ollama" or "exo"
    url: str
    model: str
    reload: str  # "reload" or "keep"

    @property
    def title(self) -> str:
        """Return the name that the plan's table uses."""
        return f"{'Ollama' if self.engine == 'ollama' else 'EXO Cluster'} ({self.url})"


class Settings(NamedTuple):
    """What is the same for every run."""

    runs: int
    requests: int
    warmups: int
    max_tokens: int
    seed: int
    timeout_s: float
    campaign: str
    bases: Tuple[str, ...]
    unload_after: bool
    num_ctx: int = 4096
    attempt: int = 1
    stop_at_failure: bool = False

    @property
    def keep_alive(self) -> str:
        """Return how long Ollama is to keep the model after a request: OLLAMA_KEEP_ALIVE=0 would reload it each time.

        Bounded, so that a model does not stay in memory for good where this program is killed.
        """
        return f"{math.ceil(self.timeout_s) + 60}s"


# ---- The schedule and the prompts: pure, and the same on every Python, because hashes decide and not `random` --------


def schedule(arms: Sequence[str], runs: int, seed: int) -> List[Tuple[str, int]]:
    """Return (arm, run) in the order to measure: a seeded order of the arms, forward and backward in turn.

    For two arms this is ABBA ABBA with a seeded first arm; each arm's mean place in time is the same after every
    second round, so a linear drift cancels out.
    """
    order = sorted(arms, key=lambda arm: _digest("order", seed, arm))
    return [(arm, run) for run in range(1, runs + 1) for arm in (order if run % 2 else order[::-1])]


_WORDS = "amber bison cedar delta ember fjord grove heron ivory jolly karst lemon".split()  # noqa: SIM905
PLAN_PROMPT = "Write a Python function that implements binary search. Include docstring and type hints."


def prompt(seed: int, run: int, request: int, bases: Sequence[str] = (), salt: str = "") -> str:
    """Return the prompt of one request, the same for every arm; `bases` replaces the plan's task.

    Prompts differ from their first words on, within a run from the very first, so that no server answers from the
    prompt cache of an earlier one; Ollama's holds every earlier prompt since 0.30, hence `salt`: campaign and attempt.
    They have the same words in another order, so the same number of tokens (the dash is there for every word to follow
    a space): EXO 0.0.x compiles its kernels anew for every prompt length, which put up to 9 s into the first token of
    timed requests, warm-up or not.
    """
    first = sorted(_WORDS, key=lambda word: _digest("first", salt, seed, run, word))[request % len(_WORDS)]
    order = sorted(_WORDS, key=lambda word: (word != first, _digest("prompt", salt, seed, run, request, word)))
    opening = f"- {' '.join(order)} is the name of this exercise."
    if bases:
        return f"{opening} {bases[(run * 31 + request) % len(bases)]}"
    return f"{opening} {PLAN_PROMPT} Then explain every line of it in detail, and write tests for ten different inputs."


def prompt_of(settings: Settings, run: int, request: int) -> str:
    """Return the prompt of one request under these settings: no other step, attempt or campaign asks the same."""
    return prompt(settings.seed, run, request, settings.bases, f"{settings.campaign}:{settings.attempt}")


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(":".join(str(part) for part in parts).encode()).digest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


# ---- The wire: what is sent, and the timed part ----------------------------------------------------------------------


class Exchange(NamedTuple):
    """One request and its answer, unparsed."""

    start_utc: str
    start_s: float
    connect_s: Optional[float]
    pieces: List[Piece]
    failure: Optional[str]
    held_up: Sequence[float] = ()
    """By piece: how long this program, since the start, was ready and another one had the processor, and no stamp of
    the kernel's makes up for it. By so much at most is the piece's own stamp late. Empty where the system tells not."""


def request_for(arm: Arm, text: str, settings: Settings) -> Tuple[str, Dict[str, Any]]:
    """Return path and payload that ask `arm` for an answer to `text` as a stream."""
    if arm.engine == "ollama":
        limits = {"num_predict": settings.max_tokens, "temperature": 0, "seed": settings.seed}
        return "/api/generate", {
            "model": arm.model, "prompt": text, "stream": True, "raw": False,
            "options": {**limits, "num_ctx": settings.num_ctx}, "keep_alive": settings.keep_alive,
        }  # fmt: skip
    return "/v1/chat/completions", {
        "model": arm.model, "messages": [{"role": "user", "content": text}], "stream": True,
        "stream_options": {"include_usage": True}, "max_tokens": settings.max_tokens, "temperature": 0,
        "seed": settings.seed,
    }  # fmt: skip


def exchange(url: str, path: str, payload: Optional[Dict[str, Any]], timeout_s: float) -> Exchange:
    """Send one request (GET without a payload) over a new connection and take the answer down. Never raises OSError."""
    base = urlsplit(url)
    host, port = base.hostname or "", base.port or 80
    body = b"" if payload is None else json.dumps(payload).encode()
    head = (
        f"{'GET' if payload is None else 'POST'} {base.path.rstrip('/')}{path} HTTP/1.1\r\nHost: {base.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nAccept: */*\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
    message = head.encode("ascii", "replace") + body
    arrivals: List[Arrival] = []
    before_s = clock()
    try:
        connection = socket.create_connection((host, port), timeout=min(timeout_s, CONNECT_TIMEOUT_S))
    except (OSError, UnicodeError) as error:
        return Exchange(_utc(), before_s, None, [], f"no connection to {host}:{port}: {_reason(error)}")
    connect_s = clock() - before_s
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _ask_for_stamps(connection)
        connection.settimeout(timeout_s)
        start_utc, offset_s = _utc(), _realtime_offset_s()
        with _Waiting() as waiting:
            start_s = clock()
            try:
                connection.sendall(message)
                failure = _receive(connection, start_s + timeout_s, arrivals, waiting)
            except socket.timeout:
                failure = f"no complete answer within {timeout_s:g} s"
            except OSError as error:
                failure = f"the connection broke: {_reason(error)}"
    stepped = abs(_realtime_offset_s() - offset_s) > 50e-6
    pieces = _settle(arrivals, start_s, None if stepped else offset_s)
    late_s = itertools.accumulate(map(lambda came, piece: came[0] - piece[0], arrivals, pieces))
    held_up = [*map(lambda waited_s, made_up_s: max(0.0, waited_s - made_up_s), waiting.told(), late_s)]
    return Exchange(start_utc, start_s, connect_s, pieces, failure, held_up)


class _Waiting:
    """What Linux tells of how long this thread was ready to run and did not: nanoseconds, the second figure there."""

    def __init__(self) -> None:
        self._file = -1
        self._read: List[bytes] = []

    def __enter__(self) -> "_Waiting":
        with contextlib.suppress(OSError):
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self.note()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)

    def note(self) -> None:
        """Take down the kernel's figure as it is now; it is read when there is time."""
        if self._file >= 0:
            self._read.append(os.pread(self._file, 64, 0))

    def told(self) -> List[float]:
        """Return the seconds from the first note to every later one."""
        try:
            waited = [int(line.split()[1]) / 1e9 for line in self._read]
        except (IndexError, ValueError):
            return []
        return [later - waited[0] for later in waited[1:]]


def _receive(connection: socket.socket, deadline_s: float, arrivals: List[Arrival], waiting: _Waiting) -> Optional[str]:
    """Take down arrivals until the answer is whole or the server closes; of the bytes only the framing is looked at."""
    size, announced, tail = 0, None, b""
    while True:
        connection.settimeout(max(deadline_s - clock(), 0.001))
        arrivals.append(_take(connection))
        waiting.note()
        data = arrivals[-1][2]
        if not data:
            return None
        size += len(data)
        tail = (tail + data)[-len(LAST_CHUNK) :]
        if announced is None:
            announced = _announced_size(b"".join(part for _, _, part in arrivals))
        ending = tail == LAST_CHUNK or (announced and size >= announced)
        if ending and read_http([(stamp, part) for stamp, _, part in arrivals]).whole:
            return None
        if size > ANSWER_LIMIT_BYTES:
            return f"the answer is larger than {ANSWER_LIMIT_BYTES // 1024**2} MiB"
        if arrivals[-1][0] > deadline_s:
            raise socket.timeout


def _ask_for_stamps(connection: socket.socket) -> None:
    if KERNEL_STAMPS:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def _take(connection: socket.socket) -> Arrival:
    data, ancillary = connection.recvmsg(65536, 64)[:2] if KERNEL_STAMPS else (connection.recv(65536), [])
    return clock(), ancillary, data


def _settle(arrivals: Sequence[Arrival], start_s: float, offset_s: Optional[float]) -> List[Piece]:
    """Return (stamp, bytes): the kernel's stamp where it fits between the stamp before and the return of `recvmsg`.

    The kernel notes when a packet came; the return of `recvmsg` comes 60 µs later on an idle core and up to
    milliseconds later on a busy one. `offset_s` is None where the realtime clock, which the kernel uses, was set.
    """
    pieces: List[Piece] = []
    for returned_s, ancillary, data in arrivals:
        stamp = returned_s
        for level, kind, value in ancillary:
            if (level, kind, len(value)) == (socket.SOL_SOCKET, SO_TIMESTAMPNS, TIMESPEC.size) and offset_s is not None:
                seconds, nanoseconds = TIMESPEC.unpack(value)
                kernel_s = seconds - offset_s + nanoseconds / 1e9
                if (pieces[-1][0] if pieces else start_s) <= kernel_s <= returned_s:
                    stamp = kernel_s
        if data:
            pieces.append((stamp, data))
    return pieces


def _realtime_offset_s() -> float:
    """Return realtime minus monotonic clock; both are steered alike, so it is constant unless someone sets the time."""
    readings = []
    for _ in range(5):
        before_s, realtime_s, after_s = clock(), time.time(), clock()
        readings.append((after_s - before_s, realtime_s - (before_s + after_s) / 2))
    return min(readings)[1]


def _utc() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _announced_size(raw: bytes) -> Optional[int]:
    """Return bytes of head and body by Content-Length, 0 where it does not say, None while the head is incomplete."""
    begin = _final_head(raw)
    end = raw.find(b"\r\n\r\n", begin)
    if end < 0:
        return None
    match = re.search(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,15})[ \t]*\r\n", raw[begin : end + 2])
    return end + 4 + int(match[1]) if match else 0


def _final_head(raw: bytes) -> int:
    """Return where the head of the final answer begins: answers of 1xx before it are no answers (RFC 9110, 15.2)."""
    begin = 0
    while re.match(rb"HTTP/1\.[01] 1\d\d", raw[begin : begin + 12]):
        end = raw.find(b"\r\n\r\n", begin)
        if end < 0:
            break
        begin = end + 4
    return begin


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector out of the timed part."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# ---- HTTP, after the last byte: pieces -> body, and when each byte of it was there -----------------------------------


class Reply(NamedTuple):
    """An HTTP/1.1 answer. `ends[i]` = bytes of the body that were there at `stamps[i]`."""

    status: int
    content_type: str
    body: bytes
    whole: bool
    headers_s: Optional[float]
    ends: List[int]
    stamps: List[float]
    encoding: str = ""

    def arrival(self, offset: int) -> float:
        """Return the clock when the body's byte at `offset` had come."""
        return self.stamps[min(bisect_right(self.ends, offset), len(self.stamps) - 1)]


def read_http(pieces: Sequence[Piece]) -> Reply:
    """Read one answer out of stamped pieces (RFC 9112); `whole` is False where its framing says that bytes lack."""
    raw = b"".join(data for _, data in pieces)
    begin = _final_head(raw)
    head_end = raw.find(b"\r\n\r\n", begin)
    status = re.match(rb"HTTP/1\.[01] (\d{3})", raw[begin:])
    if head_end < 0 or not status:
        return Reply(0, "", b"", False, None, [], [])
    headers: Dict[str, str] = {}
    for line in raw[begin:head_end].decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    start = head_end + 4
    announced = _announced_size(raw)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        spans, whole = _chunks(raw, start)
    elif announced:
        spans, whole = [(start, min(announced, len(raw)))], len(raw) >= announced
    else:  # the body ends with the connection
        spans, whole = [(start, len(raw))], True
    ends, stamps, headers_s, raw_size, taken, index = [], [], None, 0, 0, 0
    for stamp, data in pieces:
        raw_size += len(data)
        if headers_s is None and raw_size >= start:
            headers_s = stamp
        while index < len(spans) and spans[index][1] <= raw_size:
            taken += spans[index][1] - spans[index][0]
            index += 1
        partly = max(0, raw_size - spans[index][0]) if index < len(spans) else 0
        ends.append(taken + partly)
        stamps.append(stamp)
    body = b"".join(raw[begin:end] for begin, end in spans)
    encoding = headers.get("content-encoding", "").lower()
    encoding = "" if encoding == "identity" else encoding
    return Reply(
        int(status[1]), headers.get("content-type", "").lower(), body, whole, headers_s, ends, stamps, encoding
    )


def _chunks(raw: bytes, at: int) -> Tuple[List[Tuple[int, int]], bool]:
    """Return where in `raw` the payloads of the chunks lie, and whether the last chunk has come."""
    spans: List[Tuple[int, int]] = []
    while True:
        line_end = raw.find(b"\r\n", at)
        size_line = re.fullmatch(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(;.*)?", raw[at:line_end]) if line_end >= 0 else None
        if not size_line:
            return spans, False
        size, start = int(size_line[1], 16), line_end + 2
        if size == 0:
            return spans, raw.find(b"\r\n\r\n", line_end) >= 0
        spans.append((start, min(start + size, len(raw))))
        at = start + size + 2
        if raw[start + size : at] != b"\r\n":
            return spans, False


# ---- Frames: body -> JSON objects with the place of their last byte --------------------------------------------------


def frames(content_type: str, body: bytes) -> Iterator[Tuple[int, str, bytes]]:
    """Yield (offset of the last byte, kind, data) of every frame; kind is `data`, `comment` or `error`.

    Server-sent events (WHATWG HTML 9.2.6: lines end in CRLF, LF or CR, `:` starts a comment), JSON lines, or one JSON
    document. A frame counts as arrived with the end of its last line of data, not with the blank line after it.
    """
    if not content_type.startswith("text/event-stream") and not re.match(rb"\s*(data|event|id|retry)?:", body):
        if parse_object(body) is not None:
            yield len(body.rstrip()) - 1, "data", body
            return
        for end, line in _lines(body):
            if line.strip():
                yield end, "data", line
        return
    waiting: List[Tuple[int, bytes]] = []
    kind = "data"
    for end, line in [*_lines(body), (len(body), b"")]:
        if not line:
            joined = b"\n".join(data for _, data in waiting)
            # Several lines of data are one event by the standard; some servers mean several events.
            if len(waiting) > 1 and parse_object(joined) is None:
                yield from ((place, kind, data) for place, data in waiting)
            elif waiting:
                yield waiting[-1][0], kind, joined
            waiting, kind = [], "data"
        elif line.startswith(b":"):
            yield end, "comment", line[1:].strip()
        elif line.startswith(b"data:"):
            waiting.append((end, line[5:].strip()))
        elif line.startswith(b"event:") and line[6:].strip() == b"error":
            kind = "error"


def _lines(body: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield (offset of the line's end, line) for CRLF, LF and CR; an unfinished last line too."""
    begin = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    for ending in re.finditer(rb"\r\n|\n|\r", body):
        yield ending.start(), body[begin : ending.start()]
        begin = ending.end()
    if begin < len(body):
        yield len(body) - 1, body[begin:]


def parse_object(data: bytes) -> Optional[Dict[str, Any]]:
    """Parse a JSON object; None where it is none."""
    try:
        parsed = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


# ---- The answer: frames -> what a sample holds -----------------------------------------------------------------------


class Said(NamedTuple):
    """What one JSON object of either engine says."""

    text: str
    token_event: bool
    finish: Optional[str]
    error: Optional[str]
    paired: bool


def read_object(said: Dict[str, Any]) -> Said:
    """Read one object of Ollama's /api/generate and /api/chat or of an OpenAI-like /v1/chat/completions.

    EXO 0.0.x sends `message` and `delta` with the same text in every event: the delta counts, the message does not.
    """
    choices = said.get("choices")
    error = said.get("error") or (said.get("detail") if not choices else None)
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    if isinstance(choices, list):
        choice = next((c for c in choices if isinstance(c, dict) and c.get("index", 0) == 0), {})
        message, delta = choice.get("message"), choice.get("delta")
        source = delta if isinstance(delta, dict) else message if isinstance(message, dict) else choice
        finish = choice.get("finish_reason")
        paired = isinstance(message, dict) and isinstance(delta, dict)
    else:
        message = said.get("message")
        source = message if isinstance(message, dict) else said
        finish = (said.get("done_reason") or "stop") if said.get("done") is True else None
        paired = False
    keys = ("reasoning_content", "reasoning", "thinking", "content", "text", "response")
    texts = [source[key] for key in keys if isinstance(source.get(key), str)]
    if isinstance(source.get("reasoning"), str) and source.get("reasoning") == source.get("reasoning_content"):
        texts = texts[1:]  # some servers send the same text under both names
    return Said(
        "".join(texts), bool(texts), finish if isinstance(finish, str) else None, str(error) if error else None, paired
    )


def read_answer(pieces: Sequence[Piece], start_s: float, failure: Optional[str] = None) -> Dict[str, Any]:
    """Turn the stamped pieces of one answer into the fields of a sample that depend on them, `error` among them.

    Never raises, whatever the bytes are. Complete means: the HTTP framing is whole, every frame is JSON, and some
    frame said why the generation ended (`finish_reason`, or Ollama's `done`).
    """
    reply = read_http(pieces)
    texts: List[str] = []
    times: List[float] = []
    server: Dict[str, Any] = {}
    models: List[str] = []
    errors: List[str] = []
    finish: Optional[str] = None
    token_events, events_to_first, all_paired = 0, 0, True
    readable = reply.status == 200 and not reply.encoding
    for offset, kind, data in frames(reply.content_type, reply.body) if readable else ():
        if kind == "comment":
            name, _, value = data.partition(b" ")
            told = parse_object(value) if name == b"generation_stats" else None
            if told is not None:
                server["generation_stats"] = told
            continue
        if data.strip() == b"[DONE]":
            continue
        parsed = parse_object(data)
        if parsed is None or kind == "error":
            errors.append(_short(f"error event: {_text(data)}" if kind == "error" else f"not JSON: {_text(data)!r}"))
            continue
        said = read_object(parsed)
        if said.error:
            errors.append(_short(f"the server said: {said.error}"))
        if isinstance(parsed.get("model"), str) and parsed["model"] and parsed["model"] not in models:
            models.append(parsed["model"])
        token_events += said.token_event
        all_paired = all_paired and (said.paired or not said.token_event)
        if said.text:
            texts.append(said.text)
            times.append(round(reply.arrival(offset) - start_s, 9))
            events_to_first = events_to_first or token_events
        finish = said.finish or finish
        _collect(server, parsed, bool(said.finish))
    text = _mend("".join(texts))
    server = _plain(server)
    tokens, token_source = _count_tokens(server, token_events if all_paired else len(times))
    fields: Dict[str, Any] = {
        "model_answered": _mend(models[-1]) if models else None,
        "output_tokens": tokens,
        "token_source": token_source,
        "first_token_s": times[0] if times else None,
        "last_token_s": times[-1] if times else None,
        "total_s": round(pieces[-1][0] - start_s, 9) if pieces else None,
        "error": _verdict(reply, failure, errors, finish, text, models),
        "headers_s": round(reply.headers_s - start_s, 9) if reply.headers_s is not None else None,
        "prompt_tokens": _figure(server, ("prompt_eval_count",), ("usage", "prompt_tokens"),
                                 ("generation_stats", "prompt_tokens")),
        "frame_times_s": times,
        "first_frame_tokens": _first_frame_tokens(tokens, len(times), token_events, events_to_first),
        "load_s": None,
        "cached_prompt_tokens": _cached(server),
        "finish_reason": _short(finish) if finish else None,
        "server": server,
        "text_sha256": _sha256(text) if text else "",
        "text_head": text[:80],
    }  # fmt: skip
    load_ns = _figure(server, ("load_duration",))
    if load_ns is not None:
        fields["load_s"] = load_ns / 1e9
    return fields


def _verdict(
    reply: Reply, failure: Optional[str], errors: List[str], finish: Optional[str], text: str, models: List[str]
) -> Optional[str]:
    """Return why the answer must not count, the cause before its consequences."""
    if reply.encoding:
        return _short(f"the answer came compressed (Content-Encoding: {reply.encoding}): its frames cannot be timed")
    if reply.status and reply.status != 200:
        told = parse_object(reply.body)
        words = (read_object(told).error if told else None) or _text(reply.body)
        return _short(f"HTTP {reply.status}: {words}")
    if failure:
        return _short(failure)
    if not reply.status:
        return "the server closed the connection without an HTTP answer"
    if errors:
        return errors[0]
    if not reply.whole:
        return "the connection ended in the middle of the answer"
    if finish is None:
        return "stream ended without finish_reason"
    if finish == "error":
        return "the server ended the generation with 'error'"
    if not text:
        return "the answer has no text"
    if len(models) > 1:
        return _short(f"answered under several names: {', '.join(models)}")
    return None


def _collect(server: Dict[str, Any], parsed: Dict[str, Any], last: bool) -> None:
    """Keep the server's own figures: those of Ollama's last frame, usage wherever it stands, generation_stats."""
    choices = parsed.get("choices")
    inner = choices[0].get("usage") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    own = {key: parsed.get(key) for key in ("generation_stats", "timings")}  # EXO 1.x, llama.cpp
    for key, value in {"usage": parsed.get("usage") or inner, **own}.items():
        if isinstance(value, dict):
            server[key] = value
    if isinstance(parsed.get("system_fingerprint"), str):
        server["system_fingerprint"] = parsed["system_fingerprint"][:80]
    if last and parsed.get("done") is True:
        for key, value in parsed.items():
            if key.endswith(("_count", "_duration")) and isinstance(value, (int, float)):
                server[key] = value


def _figure(server: Dict[str, Any], *paths: Tuple[str, ...]) -> Optional[int]:
    """Return the first of `paths` that holds a count."""
    for path in paths:
        value: Any = server
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return None


def _count_tokens(server: Dict[str, Any], events: int) -> Tuple[Optional[int], str]:
    """Take the server's count; else count events, which is right for EXO 0.0.x: one token an event, the last included.

    Its /v1/chat/token/encode counts the tokens of a prompt with its template and is no count of what was generated.
    """
    counted = _figure(server, ("eval_count",))
    if counted:
        return counted, "eval_count"
    counted = _figure(server, ("usage", "completion_tokens"), ("generation_stats", "generation_tokens"))
    if counted:
        return counted, "usage"
    return (events, "frames") if events else (None, "none")


def _first_frame_tokens(tokens: Optional[int], with_text: int, token_events: int, to_first: int) -> Optional[int]:
    """Return how many tokens had been generated when the first text came.

    1 where frames and tokens match. EXO 1.x sends an event a token and holds back text that is half a character:
    where all its events match the tokens, those up to the first text. Otherwise the mean per frame, rounded.
    """
    if not tokens or not with_text:
        return None
    if tokens <= with_text:
        return 1
    return to_first if tokens == token_events else max(1, round(tokens / with_text))


def _cached(server: Dict[str, Any]) -> Optional[int]:
    counted = _figure(server, ("prompt_eval_cached_count",), ("usage", "prompt_tokens_details", "cached_tokens"))
    stats = server.get("generation_stats")
    if counted is None and isinstance(stats, dict):
        hit = stats.get("prefix_cache_hit")
        return 0 if hit == "none" else _figure(stats, ("prompt_tokens",)) if hit == "exact" else None
    return counted


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _short(words: str) -> str:
    """Return `words` on one line of at most 300 printable characters."""
    line = " ".join(_mend(words).split())
    return "".join(c if c.isprintable() else "?" for c in line[:300])


def _mend(words: str) -> str:
    """Join surrogate pairs that came in two frames and replace lone ones, which no UTF-8 file can hold."""
    return words.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(value: Any, depth: int = 0) -> Any:
    """Copy a server's figures without what JSON cannot carry to every reader: NaN, endless depth, huge numbers."""
    if isinstance(value, dict) and depth < 6:
        return {_mend(str(key))[:80]: _plain(inner, depth + 1) for key, inner in list(value.items())[:100]}
    if isinstance(value, list) and depth < 6:
        return [_plain(inner, depth + 1) for inner in value[:100]]
    if isinstance(value, str):
        return _mend(value[:300])
    if isinstance(value, bool) or value is None:
        return value
    return value if isinstance(value, (int, float)) and abs(value) < 2**63 else None  # false for NaN, too


# ---- Samples: one dictionary, one line -------------------------------------------------------------------------------

SAMPLE_KEYS = (
    "schema", "arm", "side", "run", "request", "warmup", "model_asked", "model_answered", "output_tokens",
    "token_source", "first_token_s", "last_token_s", "total_s", "error", "campaign", "start_utc", "start_monotonic_s",
    "connect_s", "headers_s", "prompt_sha256", "prompt_tokens", "max_tokens", "frame_times_s", "first_frame_tokens",
    "load_s", "cached_prompt_tokens", "finish_reason", "server", "text_sha256", "text_head", "concurrency",
    "attempt", "held_up_s",
)  # fmt: skip


def ask(
    arm: Arm, settings: Settings, run: int, request: int, warmup: bool, concurrency: int = 1, unasked: str = ""
) -> Dict[str, Any]:
    """Measure one request and return its sample; with `unasked` send nothing and record that reason as its error."""
    text = prompt_of(settings, run, request)
    path, payload = request_for(arm, text, settings)
    if unasked:
        taken = Exchange(_utc(), clock(), None, [], unasked)
    else:
        taken = exchange(arm.url, path, payload, settings.timeout_s)
    sample = {
        "schema": SCHEMA_VERSION, "arm": arm.name, "side": arm.engine, "run": run, "request": request, "warmup": warmup,
        "model_asked": arm.model, "campaign": settings.campaign, "start_utc": taken.start_utc,
        "start_monotonic_s": taken.start_s, "connect_s": taken.connect_s, "max_tokens": settings.max_tokens,
        "prompt_sha256": _sha256(text), "concurrency": concurrency, "attempt": settings.attempt,
        **read_answer(taken.pieces, taken.start_s, taken.failure),
    }  # fmt: skip
    sample["held_up_s"] = held_up_s(taken, sample["first_token_s"])
    sample["error"] = judge_model(sample["error"], sample["model_answered"], arm.model)
    return {key: sample[key] for key in SAMPLE_KEYS}


def held_up_s(taken: Exchange, first_token_s: Optional[float]) -> Optional[float]:
    """Return by how much at most the time to the first token is this program's own delay, None where nobody tells."""
    if first_token_s is None or not taken.held_up:
        return None
    came = min(range(len(taken.held_up)), key=lambda at: abs(taken.pieces[at][0] - taken.start_s - first_token_s))
    return round(taken.held_up[came], 6)


def judge_model(error: Optional[str], answered: Optional[str], asked: str) -> Optional[str]:
    """Return the sample's error: EXO 0.0.x answers any model name with its default model, which must not count."""
    if error is None and answered is not None and not same_model(answered, asked):
        return _short(f"answered by {answered}, asked for {asked}")
    return error


def same_model(one: str, other: str) -> bool:
    """Tell whether two names mean one model: Ollama implies `:latest`, and ignores case."""
    one, other = one.lower(), other.lower()
    return one == other or one + ":latest" == other or one == other + ":latest"


def rate(sample: Dict[str, Any]) -> Optional[float]:
    """Return output tokens per second of wall time; None for a failed sample."""
    if sample["error"] or not sample["output_tokens"] or not sample["total_s"]:
        return None
    return float(sample["output_tokens"] / sample["total_s"])


class SampleFile:
    """Where samples go: a file (append, fsync each), standard output for `-`, or nowhere."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1
        if path and path != "-":
            try:
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            except OSError as error:
                raise HumanError(f"--samples {path}: {_reason(error)}") from error

    def read(self) -> List[Dict[str, Any]]:
        """Return the samples that the file holds already; a line torn by a crash is none."""
        if self._descriptor < 0:
            return []
        with open(self.path, "rb") as stream:
            lines = [parse_object(line) for line in stream.read().split(b"\n") if line.strip()]
        whole = [line for line in lines if line is not None and all(key in line for key in SAMPLE_KEYS)]
        numbers = ("run", "request", "concurrency")
        return [s for s in whole if isinstance(s["arm"], str) and all(isinstance(s[key], int) for key in numbers)]

    def write(self, sample: Dict[str, Any]) -> None:
        """Append one line by a single write, so that a crash tears at most the last one. Raises OSError."""
        line = json.dumps(sample, allow_nan=False).encode() + b"\n"
        if self.path == "-":
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        elif self._descriptor >= 0:
            size = os.lseek(self._descriptor, 0, os.SEEK_END)
            if size:
                os.lseek(self._descriptor, size - 1, os.SEEK_SET)
                if os.read(self._descriptor, 1) != b"\n":
                    line = b"\n" + line  # the line that a killed process tore stays a line of its own
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "the disk is full")
            os.fsync(self._descriptor)


# ---- Ollama: load and unload a model, and see that it happened -------------------------------------------------------


def call(arm: Arm, path: str, payload: Optional[Dict[str, Any]], timeout_s: float) -> Dict[str, Any]:
    """Return the JSON object that Ollama answers. Raises ServerError."""
    taken = exchange(arm.url, path, payload, timeout_s)
    reply = read_http(taken.pieces)
    answer = parse_object(reply.body) if reply.whole and not taken.failure else None
    if reply.status != 200 or answer is None or answer.get("error"):
        told = (answer or {}).get("error") or taken.failure or f"HTTP {reply.status}, {_text(reply.body)!r}"
        raise ServerError(_short(f"{arm.url}{path}: {told}"))
    return answer


def holding(arm: Arm) -> List[str]:
    """Return the names under which the server holds the arm's model in memory. Raises ServerError.

    Runners are kept by file, and /api/ps shows the name that loaded one first: of two names of one file it may be the
    other one. So digests are compared, and names without case.
    """
    listed = _models(arm, "/api/ps")
    known = _models(arm, "/api/tags") if listed else []
    digests = {m.get("digest") for m in known if same_model(_name(m), arm.model)} - {None, ""}
    return [_name(m) for m in listed if same_model(_name(m), arm.model) or m.get("digest") in digests]


def _models(arm: Arm, path: str) -> List[Dict[str, Any]]:
    models = call(arm, path, None, CONNECT_TIMEOUT_S).get("models")
    return [m for m in models if isinstance(m, dict)] if isinstance(models, list) else []


def _name(model: Dict[str, Any]) -> str:
    return str(model.get("name") or model.get("model") or "")


def unload(arm: Arm) -> None:
    """Unload the arm's model, whatever the server calls it, and wait until /api/ps lists it no more. ServerError."""
    deadline = clock() + UNLOAD_TIMEOUT_S
    names = holding(arm)
    for name in names:
        call(arm, "/api/generate", {"model": name, "keep_alive": 0}, UNLOAD_TIMEOUT_S)
    while names and (names := holding(arm)):
        if clock() > deadline:
            raise ServerError(
                f"{arm.url}: still holds {arm.model} (as {', '.join(names)}) {UNLOAD_TIMEOUT_S:g} s after it was"
                " unloaded; another client keeps loading it"
            )
        time.sleep(0.05)


def load_afresh(arm: Arm, settings: Settings) -> float:
    """Unload, see it gone, load again, see it there; return the seconds it took. Raises ServerError."""
    begin = clock()
    unload(arm)
    options = {"num_ctx": settings.num_ctx}
    payload = {"model": arm.model, "stream": False, "options": options, "keep_alive": settings.keep_alive}
    call(arm, "/api/generate", payload, settings.timeout_s)
    if not holding(arm):
        raise ServerError(f"{arm.url}: {arm.model} was loaded and is not in memory any more (/api/ps)")
    return clock() - begin


# ---- Running ---------------------------------------------------------------------------------------------------------


class Progress:
    """What a person sees while it runs: one live line on a terminal, and one line a run that stays."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._rates: Dict[str, List[float]] = {}
        self._total = total
        self._done = 0
        self._begin = clock()
        self._said: Set[str] = set()

    def say(self, line: str) -> None:
        """Print a line that stays, once."""
        if line not in self._said:
            print(("\r\x1b[K" if self._live else "") + line, file=self._stream, flush=True)
        self._said.add(line)

    def show(self, doing: str) -> None:
        """Renew the live line; only between requests, never during one. An empty text takes it away."""
        if not self._live:
            return
        rates = "  ".join(f"{arm} {mean(rates):.1f} tok/s" for arm, rates in self._rates.items())
        left = "time left not known yet"
        if self._done:
            left = f"about {_duration((clock() - self._begin) / self._done * (self._total - self._done))} left"
        line = f"[{self._done}/{self._total}] {doing}; {left}  {rates}" if doing else ""
        self._stream.write("\r\x1b[K" + line[: max(20, _columns() - 1)])
        self._stream.flush()

    def count(self, sample: Dict[str, Any]) -> None:
        """Take one finished request into account."""
        self._done += 1
        value = rate(sample)
        if value is not None and not sample["warmup"]:
            self._rates.setdefault(sample["arm"], []).append(value)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min" if whole < 5400 else f"{whole / 3600:.1f} h"


def missing_requests(settings: Settings, numbers: Set[int]) -> Tuple[List[int], List[int]]:
    """Return the (warm-up, timed) request numbers that a run still needs, given all `numbers` it already has."""
    count = settings.warmups
    timed = [n for n in range(count, count + settings.requests) if n not in numbers]
    if not timed:
        return [], []
    first = max(count + settings.requests, max(numbers) + 1) if numbers else 0
    return list(range(first, first + count)), timed


def measure_run(
    arm: Arm, run: int, arms: Sequence[Arm], numbers: Set[int], settings: Settings, out: SampleFile, progress: Progress
) -> Tuple[List[Dict[str, Any]], Optional[float]]:
    """Measure what is missing of one run; return its new samples and the seconds of the reload, if there was one."""
    warmups, timed = missing_requests(settings, numbers)
    samples: List[Dict[str, Any]] = []
    reload_s, unasked = None, ""
    if not timed:
        return samples, None
    progress.show(f"{arm.name} run {run}: loading")
    clear_neighbours(arm, arms, settings, progress)
    if arm.engine == "ollama" and arm.reload == "reload":
        try:
            reload_s = load_afresh(arm, settings)
        except ServerError as error:
            warmups, unasked = [], f"the model could not be loaded afresh: {error}"
    for request in warmups + timed:
        kind = "warm-up" if request in warmups else "request"
        progress.show(f"{arm.name} run {run} {kind} {request}")
        with collector_off():
            sample = ask(arm, settings, run, request, request in warmups, unasked=unasked)
        out.write(sample)
        samples.append(sample)
        progress.count(sample)
        if sample["error"] and settings.stop_at_failure:
            break
    if settings.unload_after and arm.engine == "ollama" and not unasked:
        try:
            unload(arm)
        except ServerError as error:
            progress.say(f"{arm.name}: not unloaded: {error}")
    return samples, reload_s


def clear_neighbours(arm: Arm, arms: Sequence[Arm], settings: Settings, progress: Progress) -> None:
    """Unload the models of the other Ollama arms, which must not compete with this one."""
    for other in arms if settings.unload_after else ():
        if other.engine == "ollama" and (other.url, other.model) != (arm.url, arm.model):
            try:
                unload(other)
            except ServerError as error:
                progress.say(f"{other.name}: cannot see that its model is unloaded: {error}")


def measure_all(
    arms: Sequence[Arm],
    order: Sequence[Tuple[str, int]],
    skip: Set[int],
    resume: bool,
    settings: Settings,
    out: SampleFile,
) -> Tuple[List[Dict[str, Any]], Dict[str, float]]:
    """Measure the runs of `order`; return all samples, those of an earlier call too, and the seconds of reloads."""
    samples = [s for s in out.read() if s["concurrency"] == 1 and (s["arm"], s["run"]) in set(order)]
    check_earlier(samples, {arm.name: arm for arm in arms}, resume, settings, out.path)
    have = {pair: set(skip) for pair in order}
    for sample in samples:
        have[sample["arm"], sample["run"]].add(sample["request"])
    todo = sum(len(part) for numbers in have.values() for part in missing_requests(settings, numbers))
    progress = Progress(sys.stderr, todo)
    reloads: Dict[str, float] = {}
    for name, run in order:
        arm = next(arm for arm in arms if arm.name == name)
        new, reload_s = measure_run(arm, run, arms, have[name, run], settings, out, progress)
        samples += new
        if reload_s is not None:
            reloads[f"{name}:{run}"] = round(reload_s, 6)
        if new:
            rates = [value for value in map(rate, (s for s in new if not s["warmup"])) if value]
            words = [f"{mean(rates):.1f} tok/s"] if rates else ["no good request"]
            words += [f"loaded afresh in {reload_s:.2f} s"] if reload_s is not None else []
            failed = [s["error"] for s in new if s["error"]]
            if failed:
                words.append(f"{len(failed)} of {len(new)} requests failed: {'; '.join(sorted(set(failed)))}")
            progress.say(f"{arm.name} run {run}: {', '.join(words)}")
    progress.show("")
    return samples, reloads


def check_earlier(
    earlier: Sequence[Dict[str, Any]], arms: Dict[str, Arm], resume: bool, settings: Settings, path: str
) -> None:
    """Refuse to mix samples that were made with other settings, or are not wanted. Raises HumanError."""
    if earlier and not resume:
        raise HumanError(f"{path} already holds samples of these runs; add --resume or name another file")
    for sample in earlier:
        text = prompt_of(settings, sample["run"], sample["request"])
        for what, found, now in (
            ("model", sample["model_asked"], arms[sample["arm"]].model),
            ("max-tokens", sample["max_tokens"], settings.max_tokens),
            ("campaign", sample["campaign"], settings.campaign),
            ("prompt (seed or file)", sample["prompt_sha256"], _sha256(text)),
        ):
            if found != now:
                raise HumanError(f"{path} holds samples with {what} {found}, this call has {now}; name another file")


def measure_concurrency(
    arms: Sequence[Arm], levels: Sequence[int], settings: Settings, out: SampleFile
) -> List[Dict[str, Any]]:
    """Ask several prompts at once and compare each answer with the one that the same prompt gets alone.

    A separate experiment: its samples have run 0, those asked alone are marked as warm-ups. The first prompt is asked
    alone twice: where a server answers it in two ways, different texts say nothing.
    """
    results = []
    for arm in arms:
        if arm.engine == "ollama" and arm.reload == "reload":
            with contextlib.suppress(ServerError):  # the requests that follow will say it themselves
                load_afresh(arm, settings)
        most = max(levels)
        _ask_alone(arm, settings, most + 1, most + 1, out)  # warms up; its prompt is not asked again
        begin = clock()
        alone = [_ask_alone(arm, settings, number, number, out) for number in range(most)]
        alone_s = clock() - begin
        again = _ask_alone(arm, settings, 0, most, out)
        broken = next((s["error"] for s in [*alone, again] if s["error"]), None)
        repeatable = not broken and again["text_sha256"] == alone[0]["text_sha256"]
        for level in levels:
            samples, wall_s = (alone, alone_s) if level == 1 else ask_together(arm, level, settings)
            for sample in samples if level > 1 else ():
                out.write(sample)
            good = [s for s in samples if not s["error"]]
            pairs = [(s, alone[s["request"]]) for s in good]
            differ = sum(s["text_sha256"] != one["text_sha256"] for s, one in pairs)
            results.append({
                "arm": arm.name, "concurrency": level, "requests": len(samples), "failed": len(samples) - len(good),
                "wall_s": round(wall_s, 6), "tokens_per_s": sum(s["output_tokens"] for s in good) / wall_s,
                "texts_different_from_alone": differ if repeatable else None, "error_alone": broken,
            })  # fmt: skip
        if settings.unload_after and arm.engine == "ollama":
            with contextlib.suppress(ServerError):
                unload(arm)
    return results


def _ask_alone(arm: Arm, settings: Settings, number: int, request: int, out: SampleFile) -> Dict[str, Any]:
    """Ask prompt `number` while nothing else is asked; the sample is kept as request `request`."""
    sample = {**ask(arm, settings, 0, number, True), "request": request}
    out.write(sample)
    return sample


def ask_together(arm: Arm, level: int, settings: Settings) -> Tuple[List[Dict[str, Any]], float]:
    """Send `level` requests at the same moment; return their samples and the wall time until the last has ended."""
    from threading import Barrier, Thread

    gate = Barrier(level + 1)
    samples: List[Dict[str, Any]] = []

    def one(number: int) -> None:
        gate.wait()
        samples.append(ask(arm, settings, 0, number, False, level))

    # Daemons, so that Ctrl-C need not wait for answers that may take minutes.
    threads = [Thread(target=one, args=(number,), daemon=True) for number in range(level)]
    for thread in threads:
        thread.start()
    with collector_off():
        gate.wait()
        begin = clock()
        for thread in threads:
            thread.join()
        wall_s = clock() - begin
    return sorted(samples, key=lambda sample: int(sample["request"])), wall_s


# ---- Calibration: a metronome in a second process, whose true send times are known -----------------------------------

BEATS = ((20, 2, 12), (50, 4, 12), (150, 4, 24), (500, 5, 64))
"""Tokens per second, requests, tokens a request; each at 1 and at 4 tokens a frame."""
STALLS = 5
"""Answers of one speed that may be asked again because the machine stalled all through them."""


def metronome_model(tokens_per_s: float, tokens_per_frame: int, tokens: int, first_s: float) -> str:
    """Return the model name that tells a metronome how to beat, so that any client can ask for it."""
    return f"metronome-{tokens_per_s:g}-{tokens_per_frame}-{tokens}-{first_s:g}"


def calibrate() -> List[Dict[str, Any]]:
    """Measure a server of known speed with this very instrument; return its errors, one entry a speed and frame size.

    Means are signed, p99 is of absolute errors. First token and gaps between frames in seconds, rate as a fraction of
    the true decode rate. Truth: the metronome's stamps just before each send, counted from its receipt of the request.
    """
    import subprocess

    child = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "--metronome"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the parent; the child ends with its standard input
    )  # fmt: skip
    try:
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        calibrate_once(url, 500, 1, 8, 1)
        return [calibrate_once(url, speed, size, tokens, count) for speed, count, tokens in BEATS for size in (1, 4)]
    finally:
        child.kill()
        child.communicate()


def calibrate_once(url: str, speed: float, frame_tokens: int, tokens: int, requests: int) -> Dict[str, Any]:
    """Return the errors at one speed, half of the requests in Ollama's format and half in EXO's."""
    model = metronome_model(speed, frame_tokens, tokens, 0.02)
    settings = Settings(1, requests, 0, tokens, 0, 60.0, "calibration", (), False)
    first: List[float] = []
    gaps: List[float] = []
    rates: List[float] = []
    for number in range(requests + STALLS):
        if len(rates) == requests:
            break
        arm = Arm("metronome", "exo" if number % 2 else "ollama", url, model, "keep")
        with collector_off():
            sample = ask(arm, settings, 1, number, False)
        truth = call(arm, "/truth", None, CONNECT_TIMEOUT_S)["answers"][-1]
        if sample["error"]:
            raise ServerError(f"calibration: {sample['error']}")
        seen, sent = sample["frame_times_s"], truth["sent_s"]
        if seen[-1] <= seen[0]:
            continue  # the machine stalled for the whole answer, and every frame arrived in one read
        first.append(seen[0] - (sent[0] - truth["received_s"]))
        gaps += [(b - a) - (d - c) for a, b, c, d in zip(seen, seen[1:], sent, sent[1:])]  # noqa: B905 - 3.9
        rates.append((sent[-1] - sent[0]) / (seen[-1] - seen[0]) - 1)
    if len(rates) < requests:
        raise ServerError("calibration: this machine is too busy: whole answers arrive at once, again and again")
    return {
        "tokens_per_s": float(speed), "tokens_per_frame": frame_tokens, "requests": requests,
        "first_token_error_mean_s": mean(first), "first_token_error_p99_s": p99(first),
        "inter_token_error_mean_s": mean(gaps), "inter_token_error_p99_s": p99(gaps),
        "rate_error_mean_fraction": mean(rates), "rate_error_p99_fraction": p99(rates),
    }  # fmt: skip


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean (the module `statistics` would add a third to the start-up time)."""
    return math.fsum(values) / len(values)


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two middle ones."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def p99(errors: Sequence[float]) -> float:
    """Return the 99th percentile of the absolute values (nearest rank, so the largest of fewer than 100)."""
    return sorted(abs(error) for error in errors)[math.ceil(0.99 * len(errors)) - 1]


def serve_metronome() -> None:
    """Serve on a free loopback port, printed first, until standard input ends: with the parent, that is."""
    from threading import Thread

    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    _ask_for_stamps(listener)  # every accepted connection inherits it
    print(listener.getsockname()[1], flush=True)
    truths: List[Dict[str, Any]] = []

    def work() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):  # a client may go away
                beat(connection, truths)

    gc.disable()
    for _ in range(32):  # waiting already, so that no thread is started between a request and its receipt
        Thread(target=work, daemon=True).start()
    sys.stdin.buffer.read()


def beat(connection: socket.socket, truths: List[Dict[str, Any]]) -> None:
    """Answer one request: frames at absolute times (no drift), in the engine's format that the path asks for."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw, size, offset_s = b"", None, _realtime_offset_s()
    arrivals: List[Arrival] = []
    while size is None or len(raw) < size:
        arrivals.append(_take(connection))
        if not arrivals[-1][2]:
            return
        raw += arrivals[-1][2]
        size = _announced_size(raw)
    received_s = _settle(arrivals, 0.0, offset_s)[-1][0]  # when it came, not when a busy machine let us look at it
    path = raw.split(b" ", 2)[1]
    asked = parse_object(raw[raw.find(b"\r\n\r\n") + 4 :]) or {}
    shape = re.fullmatch(r"metronome-([\d.]+)-(\d+)-(\d+)-([\d.]+)(:latest)?", str(asked.get("model")))
    if not shape:
        told = {"answers": truths} if path == b"/truth" else {"error": "not a metronome's model"}
        body = json.dumps(told).encode()
        state = "200 OK" if path == b"/truth" else "404 Not Found"
        connection.sendall(f"HTTP/1.1 {state}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        return
    speed, per_frame, tokens, first_s = float(shape[1]), int(shape[2]), int(shape[3]), float(shape[4])
    head, content, end = metronome_frames(path.decode("ascii", "replace"), str(asked["model"]), per_frame, tokens)
    sent: List[float] = []
    gone: List[float] = []
    for number, frame in enumerate(content):
        moment = received_s + first_s + number * per_frame / speed
        pause = moment - clock() - 0.0005  # sleep is late by up to this much; the rest is spun
        if pause > 0:
            time.sleep(pause)
        while clock() < moment:
            pass
        sent.append(clock())
        connection.sendall(frame if number else head + frame)
        gone.append(clock())
    truths.append({"model": asked["model"], "received_s": received_s, "sent_s": sent, "gone_s": gone})
    del truths[:-1000]
    connection.sendall(end)


def metronome_frames(path: str, model: str, size: int, tokens: int) -> Tuple[bytes, List[bytes], bytes]:
    """Return (head, one chunk a frame, end) of an answer of `tokens` tokens, `size` a frame."""
    texts = ["tick " * min(size, tokens - done) for done in range(0, tokens, size)]
    shown: List[Dict[str, Any]]
    if path.endswith("/chat/completions"):
        about = {"id": "m", "object": "chat.completion.chunk", "created": 0, "model": model}
        shown = [{**about, "choices": [{"index": 0, "delta": {"role": "assistant", "content": t}}]} for t in texts]
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        last = {**about, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "usage": usage}
        lines = [f"data: {json.dumps(one)}\n\n".encode() for one in [*shown, last]] + [b"data: [DONE]\n\n"]
        kind, closing = "text/event-stream", 2
    else:
        about = {"model": model, "created_at": "2026-01-01T00:00:00Z"}
        chat = path.endswith("/chat")
        shown = [{"message": {"role": "assistant", "content": t}} if chat else {"response": t} for t in texts]
        empty: Dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
        last = {**about, **empty, "done": True, "done_reason": "length", "eval_count": tokens, "prompt_eval_count": 1}
        shown = [{**about, **one, "done": False} for one in shown]
        lines = [json.dumps(one).encode() + b"\n" for one in [*shown, last]]
        kind, closing = "application/x-ndjson", 1
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = [b"%x\r\n%s\r\n" % (len(line), line) for line in lines]
    return head, chunks[:-closing], b"".join(chunks[-closing:]) + b"0\r\n\r\n"


# ---- What a person reads ---------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One run in the plan's table: means of its timed requests; the rate is the geometric mean."""

    arm: Arm
    time_s: Optional[float]
    tokens: Optional[float]
    tokens_per_s: Optional[float]
    error: Optional[str]


def run_row(arm: Arm, run: int, samples: Sequence[Dict[str, Any]]) -> Row:
    """Sum one run up; an error only where no timed request succeeded."""
    timed = [s for s in samples if (s["arm"], s["run"]) == (arm.name, run) and not s["warmup"]]
    good = [s for s in timed if rate(s)]
    if not good:
        return Row(arm, None, None, None, next((s["error"] for s in timed if s["error"]), "not measured"))
    mean_log = mean([math.log(rate(s) or 1.0) for s in good])
    time_s = mean([s["total_s"] for s in good])
    return Row(arm, time_s, mean([s["output_tokens"] for s in good]), math.exp(mean_log), None)


def summary(arms: Sequence[Arm], order: Sequence[Tuple[str, int]], samples: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """Return what is printed, as data: per arm best, median and spread of its runs, and the plan's own rule."""
    told: List[Dict[str, Any]] = []
    for arm in arms:
        timed = [s for s in samples if s["arm"] == arm.name and not s["warmup"]]
        rows = [run_row(arm, run, samples) for name, run in order if name == arm.name]
        rates = [row.tokens_per_s for row in rows if row.tokens_per_s]
        first = [s["first_token_s"] for s in timed if rate(s)]
        told.append({
            "arm": arm.name, "side": arm.engine, "name": arm.title, "model": arm.model, "runs": len(rows),
            "good_requests": sum(rate(s) is not None for s in timed),
            "failed_requests": sum(rate(s) is None for s in timed),
            "best_tokens_per_s": max(rates) if rates else None,
            "median_tokens_per_s": median(rates) if rates else None,
            "spread_tokens_per_s": max(rates) - min(rates) if rates else None,
            "median_first_token_s": median(first) if first else None,
            "token_sources": sorted({s["token_source"] for s in timed if rate(s)}),
        })  # fmt: skip
    best = {engine: max((a["best_tokens_per_s"] or 0.0 for a in told if a["side"] == engine), default=0.0)
            for engine in ("exo", "ollama")}  # fmt: skip
    percent = (best["exo"] / best["ollama"] - 1) * 100 if best["exo"] and best["ollama"] else None
    rule = None if percent is None else {"speedup_percent": percent, "words": plan_words(percent)}
    return {"arms": told, "plan_rule": rule}


def plan_words(percent: float) -> str:
    """Return the plan's own sentence about a speed-up of best run against best run."""
    if percent >= 30:
        return "✓ SUCCESS: Target ≥30% speedup achieved!"
    if percent > 0:
        return "~ PARTIAL: Some speedup, but below 30% target"
    return "✗ FAIL: EXO slower than single-node Ollama"


def print_table(
    arms: Sequence[Arm], order: Sequence[Tuple[str, int]], samples: Sequence[Dict[str, Any]], stream: TextIO
) -> None:
    """Print the plan's table, one row a run, then best, median and spread per arm and the plan's own rule."""
    colour = stream.isatty() and "NO_COLOR" not in os.environ
    name_width = max(30, *(len(arm.title) for arm in arms))
    model_width = max(15, *(len(arm.model) for arm in arms))
    width = name_width + model_width + 30

    def put(line: str = "") -> None:
        print(line, file=stream)

    put("\n" + "=" * width + "\nBENCHMARK RESULTS: EXO vs Ollama\n" + "=" * width)
    put(f"{'Name':<{name_width}} {'Model':<{model_width}} {'Time':>8} {'Tokens':>8} {'Tok/s':>10}")
    put("-" * width)
    for arm in arms:
        for run in sorted(run for name, run in order if name == arm.name):
            row = run_row(arm, run, samples)
            start = f"{arm.title:<{name_width}} {arm.model:<{model_width}} "
            if row.tokens_per_s is None:
                put(f"{start}{'ERROR':>8} {row.error}")
            else:
                put(f"{start}{row.time_s:>7.2f}s {row.tokens:>8.0f} {row.tokens_per_s:>10.1f}")
    put("-" * width)
    found = summary(arms, order, samples)
    for one in found["arms"]:
        if one["best_tokens_per_s"] is not None:
            put(
                f"{one['name']}: best {one['best_tokens_per_s']:.1f}, median {one['median_tokens_per_s']:.1f}, spread "
                f"{one['spread_tokens_per_s']:.1f} tok/s over {one['runs']} runs; first token after "
                f"{one['median_first_token_s'] * 1000:.0f} ms; tokens counted by {', '.join(one['token_sources'])}"
            )
    rule = found["plan_rule"]
    if rule:
        words = rule["words"]
        shade = "32" if words.startswith("✓") else "33" if words.startswith("~") else "31"
        put(f"\nSpeedup: {rule['speedup_percent']:+.1f}% (EXO vs best Ollama)")
        put(f"\x1b[{shade}m{words}\x1b[0m" if colour else words)
        put("(The plan's own rule: best run against best run. It says nothing about chance; `fab report` does.)")


def print_calibration(entries: Sequence[Dict[str, Any]], stream: TextIO) -> None:
    """Print the instrument's errors as a table."""
    print("The instrument's error against a server of known speed (mean, and p99 of absolute values)", file=stream)
    print(f"{'tok/s':>6} {'a frame':>8} {'first token, ms':>20} {'gap, ms':>20} {'rate, %':>18}", file=stream)
    for e in entries:
        print(
            f"{e['tokens_per_s']:>6.0f} {e['tokens_per_frame']:>8}"
            f" {e['first_token_error_mean_s'] * 1e3:>+10.3f} {e['first_token_error_p99_s'] * 1e3:>9.3f}"
            f" {e['inter_token_error_mean_s'] * 1e3:>+10.3f} {e['inter_token_error_p99_s'] * 1e3:>9.3f}"
            f" {e['rate_error_mean_fraction'] * 100:>+9.3f} {e['rate_error_p99_fraction'] * 100:>8.3f}",
            file=stream,
        )


# ---- The command line ------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line."""

    def error(self, message: str) -> NoReturn:
        """Raise HumanError instead of printing the usage."""
        raise HumanError(f"{message} (--help shows all options)")


def _parser() -> Parser:
    parser = Parser(description="Benchmark EXO vs Ollama", allow_abbrev=False)
    add = parser.add_argument
    add("--model", default="qwen2.5:3b", help="model to test, by Ollama's name (default: %(default)s)")
    add("--runs", type=_count, default=3, help="runs of each arm, each freshly loaded (default: %(default)s)")
    add("--ollama", action="append", metavar="NAME=URL", help="an Ollama server to measure; repeatable")
    add("--exo", metavar="NAME=URL", help="the EXO API to measure; without --ollama and --exo: the plan's hosts")
    add("--exo-model", metavar="ID", help="the model's id in EXO (default: as --model)")
    add("--requests", type=_count, default=3, metavar="K", help="timed requests a run (default: %(default)s)")
    add("--warmup", type=_natural, default=1, metavar="W", help="discarded requests a run (default: %(default)s)")
    add("--max-tokens", type=_count, default=128, metavar="T", help="output length asked for (default: %(default)s)")
    add("--prompt-file", metavar="F", help="one task a line instead of the plan's; each gets a unique opening")
    add("--seed", type=int, default=20260101, help="decides order and prompts (default: %(default)s)")
    add("--timeout", type=_seconds, default=900.0, metavar="S", help="for one request (default: %(default)g)")
    add("--samples", default="", metavar="FILE", help="append one JSON line a request; - is standard output")
    add("--resume", action="store_true", help="go on with what FILE lacks")
    add("--json", action="store_true", help="print the summary (or the calibration) as JSON")
    add("--reload", action="append", default=[], metavar="ARM=HOW", help="reload (default for Ollama) or keep")
    add("--unload-after", action=argparse.BooleanOptionalAction, default=None,
        help="unload an Ollama arm's model after its run (default: when there are several arms)")  # fmt: skip
    add("--only", metavar="ARM:RUN", help="measure this one run of the schedule")
    add("--skip-requests", default="", metavar="N,N", help="with --only: every request number the run already has")
    add("--campaign", default="", metavar="ID", help="copied into every sample")
    add("--num-ctx", type=_count, default=4096, metavar="N", help="context of Ollama's models (default: %(default)s)")
    add("--attempt", type=_count, default=1, metavar="N", help="a run measured again has other prompts (default: 1)")
    add("--stop-at-failure", action="store_true", help="end a run at its first failed request")
    add("--order", action="store_true", help="print the schedule as JSON and do nothing")
    add("--concurrency", metavar="N,N", help="the separate experiment: this many requests at once, e.g. 1,2,4")
    add("--calibrate", action="store_true", help="measure this instrument's own error (about 7 s)")
    add("--metronome", action="store_true", help=argparse.SUPPRESS)
    return parser


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def _natural(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return value


def _arms(options: argparse.Namespace) -> List[Arm]:
    given = bool(options.ollama or options.exo)
    wanted = [("ollama", text) for text in (options.ollama or (() if given else PLAN_OLLAMA))]
    wanted += [("exo", text) for text in ([options.exo] if options.exo else () if given else [PLAN_EXO])]
    hows = dict(_pair(text, "--reload", "ARM=reload") for text in options.reload)
    arms: List[Arm] = []
    for engine, text in wanted:
        name, url = _pair(text, f"--{engine}", "NAME=http://HOST:PORT")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise HumanError(f"--{engine} {text}: '{name}' is no name; letters, digits, dot, dash and underscore are")
        if name in (arm.name for arm in arms):
            raise HumanError(f"--{engine} {text}: the name '{name}' is given twice")
        try:
            parts = urlsplit(url)
            good = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0 and not parts.username
        except ValueError:
            good = False
        if url.lower().startswith("https:"):
            raise HumanError(f"--{engine} {text}: https is not timed here; name the server's own http address")
        if not good or not re.fullmatch(r"[!-~]+", url):
            raise HumanError(f"--{engine} {text}: '{url}' is not an address like http://localhost:11434")
        how = hows.pop(name, "reload" if engine == "ollama" else "keep")
        if how not in ("reload", "keep") or (engine == "exo" and how != "keep"):
            raise HumanError(f"--reload {name}={how}: an Ollama arm takes reload or keep, EXO only keep")
        model = options.exo_model or options.model if engine == "exo" else options.model
        arms.append(Arm(name, engine, url.rstrip("/"), model, how))
    if hows:
        raise HumanError(f"--reload {next(iter(hows))}: no such arm; there are {', '.join(a.name for a in arms)}")
    return arms


def _pair(text: str, option: str, form: str) -> Tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise HumanError(f"{option} {text}: needs the form {form}")
    return name, value


def _numbers(text: str, option: str, least: int) -> List[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"\d{1,6}", part) and int(part) >= least for part in parts):
        raise HumanError(f"{option} {text}: needs whole numbers of at least {least} with commas between")
    return [int(part) for part in parts]


def _bases(path: Optional[str]) -> Tuple[str, ...]:
    if not path:
        return ()
    try:
        with open(path, encoding="utf-8") as stream:
            bases = tuple(line.strip() for line in stream if line.strip())
    except (OSError, ValueError) as error:
        raise HumanError(f"--prompt-file {path}: {_reason(error)}") from error
    if not bases:
        raise HumanError(f"--prompt-file {path}: holds no line")
    return bases


def _order(options: argparse.Namespace, arms: Sequence[Arm]) -> List[Tuple[str, int]]:
    names = [arm.name for arm in arms]
    if not options.only:
        return schedule(names, options.runs, options.seed)
    name, _, run = options.only.rpartition(":")
    if name not in names or not re.fullmatch(r"[1-9]\d{0,6}", run):
        raise HumanError(f"--only {options.only}: needs ARM:RUN, ARM one of {', '.join(names)}, RUN from 1")
    return [(name, int(run))]


def bench(options: argparse.Namespace) -> int:
    """Do what the command line asks for; return the exit code. Raises HumanError."""
    arms = _arms(options)
    order = _order(options, arms)
    if options.order:
        print(json.dumps(order))
        return 0
    if options.resume and options.samples in ("", "-"):
        raise HumanError("--resume: needs --samples FILE to read what is done (with `-` use --skip-requests)")
    if options.skip_requests and not options.only:
        raise HumanError("--skip-requests: only together with --only ARM:RUN")
    unload_after = len(arms) > 1 if options.unload_after is None else options.unload_after
    if not options.model.strip() or not (options.exo_model or "x").strip():
        raise HumanError("--model: is empty")
    settings = Settings(
        options.runs, options.requests, options.warmup, options.max_tokens, options.seed, options.timeout,
        options.campaign, _bases(options.prompt_file), unload_after, options.num_ctx, options.attempt,
        options.stop_at_failure,
    )  # fmt: skip
    skip = set(_numbers(options.skip_requests, "--skip-requests", 0))
    out = SampleFile(options.samples)
    people = sys.stderr if options.samples == "-" else sys.stdout
    if options.concurrency is not None:
        levels = _numbers(options.concurrency, "--concurrency", 1)
        if not levels or max(levels) > 64:
            raise HumanError(f"--concurrency {options.concurrency}: needs numbers from 1 to 64")
        results = measure_concurrency(arms, levels, settings, out)
        if options.json:
            print(json.dumps({"concurrency": results}), file=people)
        else:
            print_concurrency(results, people)
        return 0 if all(one["failed"] < one["requests"] for one in results) else 1
    if not options.json:
        print(f"Benchmarking model: {options.model}\nRuns per configuration: {options.runs}", file=people, flush=True)
    samples, reloads = measure_all(arms, order, skip, options.resume, settings, out)
    shown = [arm for arm in arms if arm.name in {name for name, _ in order}]
    found = summary(shown, order, samples)
    if options.json:
        print(json.dumps({**found, "reload_s": reloads}), file=people)
    else:
        print_table(shown, order, samples, people)
    return 0 if skip or all(one["good_requests"] for one in found["arms"]) else 1


def print_concurrency(results: Sequence[Dict[str, Any]], stream: TextIO) -> None:
    """Print the separate experiment, labelled as such."""
    print("SEPARATE EXPERIMENT: several requests at once. It says nothing about the speed of one answer.", file=stream)
    print(f"{'arm':<16} {'at once':>8} {'failed':>7} {'wall':>9} {'tok/s together':>15}  texts", file=stream)
    for one in results:
        differ = one["texts_different_from_alone"]
        varies = f"failed alone: {one['error_alone']}" if one["error_alone"] else "the server varies even alone"
        words = f"not comparable: {varies}" if differ is None else (
            f"{differ} of {one['requests'] - one['failed']} differ from the text alone" if differ else "as alone"
        )  # fmt: skip
        print(
            f"{one['arm']:<16} {one['concurrency']:>8} {one['failed']:>7} {one['wall_s']:>8.2f}s"
            f" {one['tokens_per_s']:>15.1f}  {words}",
            file=stream,
        )


def _terminate(*_: object) -> None:
    raise Terminated


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line and return its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of ASCII or Latin-1 has no sign for every sign of ours
    try:
        options = _parser().parse_args(arguments)
        if options.metronome:
            serve_metronome()
            return 0
        if options.calibrate:
            entries = calibrate()
            if options.json:
                print(json.dumps(entries))
            else:
                print_calibration(entries, sys.stdout)
            return 0
        return bench(options)
    except HumanError as error:
        print(f"{os.path.basename(sys.argv[0])}: {_short(str(error))}", file=sys.stderr)
        return 2
    except ServerError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"{os.path.basename(sys.argv[0])}: cannot write: {_reason(error)}", file=sys.stderr)
            return 1
        # Whoever read the samples has gone; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("\ninterrupted; finished requests are kept, --resume goes on", file=sys.stderr)
        return 130
    except Terminated:
        print("terminated; finished requests are kept, --resume goes on", file=sys.stderr)
        return 143


if __name__ == "__main__":
    sys.exit(main())
