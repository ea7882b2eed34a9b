"""Raw measurements: one line a request, one line a run's surroundings; append-only on both sides of the fence.

The lines are written by `scripts/benchmark_exo_vs_ollama.py` (which has no dependencies and so spells the same keys
out itself); a test holds the two together. All times named `*_s` are seconds on the monotonic clock from the
moment the request's first byte was about to be written, unless said otherwise.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from records.files import append_line

SCHEMA_VERSION = 1

TokenSource = Literal["usage", "eval_count", "token_endpoint", "frames", "none"]
"""Where a sample's token count comes from; `frames` (one token a frame) is the weakest."""


class Sample(msgspec.Struct, frozen=True):
    """One request, timed or warm-up, complete or failed. A failed one has `error` set and may lack the rest."""

    schema: int
    arm: str
    """Name of what was measured: `exo`, or the name of an Ollama baseline (`srv1`, `rog`)."""
    engine: Literal["exo", "ollama"] = msgspec.field(name="side")
    run: int
    """Counts from 1 within an arm: a run is one load of the model, its warm-ups and its timed requests."""
    request: int
    """Counts from 0 within a run, warm-ups first."""
    warmup: bool
    model_asked: str
    model_answered: str | None
    output_tokens: int | None
    token_source: TokenSource
    first_token_s: float | None
    """Arrival of the first frame whose content or reasoning text is not empty."""
    last_token_s: float | None
    total_s: float | None
    """Arrival of the stream's last byte."""
    error: str | None
    campaign: str = ""
    start_utc: str = ""
    start_monotonic_s: float | None = None
    connect_s: float | None = None
    """Duration of the connection set-up, outside of every other time."""
    headers_s: float | None = None
    prompt_sha256: str = ""
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    frame_times_s: Sequence[float] = []
    """Arrival of every frame with content."""
    first_frame_tokens: int | None = None
    """Tokens in the first content frame; 1 unless the server packs several into a frame."""
    load_s: float | None = None
    """Model load inside this request, where the server tells."""
    cached_prompt_tokens: int | None = None
    finish_reason: str | None = None
    server: dict[str, Any] = {}
    """The server's own figures, untouched (`eval_duration`, `generation_stats`, ...)."""
    text_sha256: str = ""
    text_head: str = ""
    concurrency: int = 1
    """Requests in flight together; more than 1 only in the separate concurrency experiment."""
    attempt: int = 1
    """Which try at its run: a run that was lost is measured again as a whole."""
    held_up_s: float | None = None
    """How long another program had the processor when the script was ready to send or to see the first token.

    By so much at most is `first_token_s` too long, through no fault of the server's. None where nothing tells."""
    lost: str = ""
    """Why the try that it belongs to counts for nothing; told by the conditions (`marked`), never by its own line."""


class LoadedModel(msgspec.Struct, frozen=True):
    """A model in an Ollama's memory, as one answer of /api/ps told it."""

    name: str
    """The one that loaded it first: another name of the same file may be meant."""
    digest: str = ""
    memory_bytes: int | None = None
    """Its footprint, context included; not the size of its file."""
    vram_bytes: int | None = None
    context_length: int | None = None
    expires_in_s: float | None = None
    """Seconds until the server lets go of it, by the clock that noted it."""


class ExoSeen(msgspec.Struct, frozen=True):
    """What of EXO was in the memory of one node."""

    processes: int
    memory_bytes: int
    """Resident, all of them together."""
    runners: int
    """Of 1.x, those that hold a model."""


class Conditions(msgspec.Struct, frozen=True):
    """What surrounded one run of one arm, noted just before its first request."""

    schema: int
    arm: str
    run: int
    noted_utc: str
    reload: str = ""
    """How the model was loaded afresh: `restart`, `reload` or `keep`."""
    reload_s: float | None = None
    neighbours_loaded: list[str] = []
    """Models of the other arms still in memory, as `arm: model`; must be empty."""
    load_1m: dict[str, float] = {}
    """Load average of each node."""
    cpu_count: dict[str, int] = {}
    memory_available_bytes: dict[str, int] = {}
    temperature_c: dict[str, float] = {}
    clock_mhz: dict[str, float] = {}
    gpu_busy_percent: dict[str, list[float]] = {}
    """Sampled during the run on the nodes that have a GPU."""
    gpu_power_w: dict[str, list[float]] = {}
    """Likewise, of the GPUs together; of an APU the kernel tells its whole package."""
    ollama_size_vram_bytes: int | None = None
    ollama_size_bytes: int | None = None
    topology_complete: dict[str, bool] = {}
    """Whether each node's own topology had every node just before an EXO run; empty for the other arms."""
    notes: list[str] = []
    topology_complete_after: dict[str, bool] = {}
    """Likewise just after an EXO run, every process of ours alive: what broke in it is not restarted away."""
    exo_seen: dict[str, ExoSeen] = {}
    """What of EXO was in memory on every node just before an Ollama run; must hold no model."""
    attempt: int = 1
    lost: str = ""
    """Why this try at the run counts for nothing: a request failed, or something else was at work."""
    seen_unloaded: bool | None = None
    """Whether the server was seen without the model and then with it; None for EXO and in older records."""
    load_s: float | None = None
    """What loading it took, at the run's start."""
    placing_s: float | None = None
    """What placing EXO's model took, and the chat that proves its ring; None where its first request loads it."""
    ollama_name: str = ""
    """The name under which the server lists the measured model."""
    ollama_version: str = ""
    """What its server was at the run's start; "" where it was not asked."""
    memory_before: dict[str, list[LoadedModel]] = {}
    """Arm -> what its server held just before the first request, the measured one included."""
    memory_after: dict[str, list[LoadedModel]] = {}
    """Likewise just after the last one."""
    engines_before: list[str] = []
    """The processes that compute for Ollamas on the arm's node just before the first request, by PID and start; empty
    where the node does not tell."""
    engines_after: list[str] = []
    """Likewise just after the last one: where they are the same ones, nothing was loaded in between."""


LineT = TypeVar("LineT", Sample, Conditions)


class TornLine(msgspec.Struct, frozen=True):
    """A line that cannot be read, or is of another schema: number (from 1) and what is wrong with it."""

    line: int
    reason: str


_SHARED = ("arm", "model_asked", "model_answered", "campaign", "finish_reason", "prompt_sha256")


def marked(samples: Iterable[Sample], conditions: Iterable[Conditions]) -> list[Sample]:
    """Return the samples with `lost` set on those of a try that was lost, or that a later try stands for."""
    why = {(note.arm, note.run, note.attempt): note.lost for note in conditions if note.lost}
    kept = list(samples)
    last: dict[tuple[str, int], int] = {}
    for s in kept:
        last[s.arm, s.run] = max(s.attempt, last.get((s.arm, s.run), 1))

    def reason(s: Sample) -> str:
        again = "the run was measured again" if s.attempt < last[s.arm, s.run] else ""
        return why.get((s.arm, s.run, s.attempt), again)

    return [msgspec.structs.replace(s, lost=words) if (words := reason(s)) else s for s in kept]


def append_sample(path: Path, line: bytes) -> Sample:
    """Append one line of the script's output to `path`, flushed to disk, and return it read.

    A line that is no sample is refused.

    Raises msgspec.DecodeError (ValidationError included) and leaves the file untouched.
    """
    sample = _read_line(line, msgspec.json.Decoder(Sample))
    append_line(path, line)
    return sample


def append_conditions(path: Path, conditions: Conditions) -> None:
    """Append what surrounded a run to `path`, flushed to disk."""
    append_line(path, msgspec.json.encode(conditions))


def read_samples(path: Path) -> tuple[list[Sample], list[TornLine]]:
    """Read every sample of `path`, and name the lines that are none (a crash may tear one)."""
    torn: list[TornLine] = []
    return [*each_sample(path, torn)], torn


def each_sample(path: Path, torn: list[TornLine]) -> Iterator[Sample]:
    """Give the samples of `path` one by one, so that a large file needs no memory; lines that are none go to `torn`."""
    return _lines(path, msgspec.json.Decoder(Sample), torn)


def compact(sample: Sample) -> Sample:
    """Return the sample in a third of the memory: times as plain doubles, words that many share kept once, no text."""
    words = {name: sys.intern(word) for name in _SHARED if isinstance(word := getattr(sample, name), str)}
    return msgspec.structs.replace(sample, frame_times_s=array("d", sample.frame_times_s), text_head="", **words)


def read_conditions(path: Path) -> tuple[list[Conditions], list[TornLine]]:
    """Read every run's conditions of `path`, and name the lines that are none."""
    torn: list[TornLine] = []
    return [*_lines(path, msgspec.json.Decoder(Conditions), torn)], torn


def _lines(path: Path, decoder: msgspec.json.Decoder[LineT], torn: list[TornLine]) -> Iterator[LineT]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield _read_line(line, decoder)
            except msgspec.DecodeError as error:
                torn.append(TornLine(number, str(error)))


def _read_line(line: bytes, decoder: msgspec.json.Decoder[LineT]) -> LineT:
    struct = decoder.decode(line)
    if struct.schema != SCHEMA_VERSION:
        raise msgspec.ValidationError(f"schema {struct.schema}, this version reads {SCHEMA_VERSION}")
    return struct
