"""The instrument's error against servers of known speed, as a table: `python -m benchmarks.instrument`.

Everything is measured through the script itself, against its metronome in a second process. Truth is the metronome's
own stamp just before each send; how well it knows that itself is the last line, and gaps are compared with the nearest
ones that it allows. Ends with exit code 1 where a limit is exceeded.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.metronome import SCRIPT, Truth, gaps, metronome, p99, p99_error, truths
from records.samples import Sample, read_samples
from scripts.benchmark_exo_vs_ollama import metronome_model

FIRST_S = 0.12


class Line(msgspec.Struct, frozen=True):
    """One property: what was found, and the limit that it must stay below, if it has one."""

    what: str
    found: float
    limit: float | None
    unit: str

    @property
    def exceeded(self) -> bool:
        """Tell whether the limit is not kept."""
        return self.limit is not None and abs(self.found) >= self.limit


class Process(msgspec.Struct, frozen=True):
    """One whole call of the script."""

    samples: list[Sample]
    truths: list[Truth]
    overhead_s: float
    """Wall time of the process beyond its requests."""
    memory_mb: float
    """Largest resident set."""


def call_script(url: str, model: str, requests: int) -> Process:
    """Measure `requests` requests with one call of the script, in EXO's format."""
    before = len(truths(url))
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out:
        command = [sys.executable, str(SCRIPT), "--model", model, "--exo", f"exo={url}", "--only", "exo:1"]
        command += ["--requests", str(requests), "--warmup", "0", "--samples", "-"]
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - begin
        out.seek(0)
        samples = [msgspec.json.decode(line, type=Sample) for line in out.read().splitlines()]
    in_requests_s = sum(sample.total_s or 0.0 for sample in samples)
    return Process(samples, truths(url)[before:], wall_s - in_requests_s, usage.ru_maxrss / 1024)


def errors_at(url: str, speed: float, size: int, tokens: int, requests: int) -> list[Line]:
    """Compare first token, rate and gaps with the truth at one speed and frame size."""
    done = call_script(url, metronome_model(speed, size, tokens, FIRST_S), requests)
    first = [
        s.first_token_s - t.first_token_s for s, t in zip(done.samples, done.truths, strict=True) if s.first_token_s
    ]
    rates = [rate(s) / true_rate(t, size) - 1 for s, t in zip(done.samples, done.truths, strict=True)]
    pairs = [(t, gaps(s.frame_times_s)) for s, t in zip(done.samples, done.truths, strict=True)]
    where = f"{speed:g} tok/s, {size} a frame"
    return [
        Line(f"{where}: first token, error of the mean", statistics.mean(first) * 1e3, 0.5, "ms"),
        Line(f"{where}: decode rate, error of the mean", statistics.mean(rates) * 1e2, 0.1, "%"),
        Line(f"{where}: 99th percentile of gaps, error", p99_error(pairs) * 1e2, 2, "%"),
    ]


def rate(sample: Sample) -> float:
    """Return the decode rate: tokens after the first frame over the time they took (verdict.md)."""
    assert sample.output_tokens and sample.first_frame_tokens and sample.last_token_s and sample.first_token_s
    return (sample.output_tokens - sample.first_frame_tokens) / (sample.last_token_s - sample.first_token_s)


def true_rate(truth: Truth, size: int) -> float:
    """Return the rate at which the metronome really sent."""
    return size * (len(truth.sent_s) - 1) / truth.span_s


def frame_size_dependence(url: str) -> Line:
    """Return by how much the measured rate, over the true one, moves with 1, 2, 4 and 8 tokens a frame."""
    means = []
    for size in (1, 2, 4, 8):
        done = call_script(url, metronome_model(200, size, 200, 0.02), 2)
        pairs = zip(done.samples, done.truths, strict=True)
        means.append(statistics.mean(rate(sample) / true_rate(truth, size) for sample, truth in pairs))
    return Line("200 tok/s: rate at 1, 2, 4, 8 tokens a frame, range", (max(means) / min(means) - 1) * 1e2, 0.1, "%")


def killed_and_resumed(url: str, instants: int) -> Line:
    """Kill the script at random instants, resume it, and count timed requests that are lost, repeated or changed."""
    chance = random.Random(11)  # noqa: S311 - instants, not secrets
    model = metronome_model(500, 1, 4, 0.01)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "samples.jsonl"
        command = [sys.executable, str(SCRIPT), "--model", model, "--exo", f"exo={url}", "--runs", "30"]
        command += ["--requests", "3", "--samples", str(out), "--resume"]
        kept = b""
        for _ in range(instants):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.1 + chance.random() * 0.15)
            child.kill()
            child.wait()
            now = out.read_bytes() if out.exists() else b""
            wrong += not now.startswith(kept)
            kept = now
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=120)
        wrong += not out.read_bytes().startswith(kept)
        samples, _ = read_samples(out)
        keys = [(sample.run, sample.request) for sample in samples]
        timed = {(sample.run, sample.request) for sample in samples if not sample.warmup}
        wrong += len(keys) - len(set(keys))
        wrong += len(timed ^ {(run, request) for run in range(1, 31) for request in (1, 2, 3)})
    return Line(f"killed at {instants} instants and resumed: lost, repeated or changed", wrong, 0.5, "requests")


def main() -> int:
    """Print the table; return 1 where a limit is exceeded."""
    with metronome() as url:
        call_script(url, metronome_model(500, 1, 8, 0.01), 2)
        found = [line for speed, tokens in ((50, 100), (500, 500)) for size in (1, 4)
                 for line in errors_at(url, speed, size, tokens, 8)]  # fmt: skip
        found.append(frame_size_dependence(url))
        whole = call_script(url, metronome_model(500, 1, 200, FIRST_S), 10)
        found.append(Line("one call with 10 requests: time beyond the requests", whole.overhead_s, 0.3, "s"))
        found.append(Line("one call with 10 requests: memory", whole.memory_mb, 40, "MB"))
        found.append(killed_and_resumed(url, 20))
        doubt_s = p99([doubt for truth in whole.truths for doubt in truth.doubts_s])
        found.append(Line("the metronome's own doubt about one send, 99th percentile", doubt_s * 1e3, None, "ms"))
    return show(found)


def show(found: list[Line]) -> int:
    """Print what was found as a table, with `--json` as JSON; return 1 where a limit is exceeded."""
    if "--json" in sys.argv:
        print(json.dumps([msgspec.to_builtins(line) for line in found]))
    else:
        busy = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        print(f"{'property (' + busy + ')':<70} {'found':>9} {'limit':>7}")
        for line in found:
            limit = "-" if line.limit is None else f"{line.limit:g}"
            mark = "   EXCEEDED" if line.exceeded else ""
            print(f"{line.what:<70} {line.found:>+9.3f} {limit:>7} {line.unit}{mark}")
    return int(any(line.exceeded for line in found))


if __name__ == "__main__":
    sys.exit(main())
