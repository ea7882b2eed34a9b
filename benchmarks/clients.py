"""Other clients beside ours against the same metronome, as a table: `python -m benchmarks.clients`.

Each client runs in a process of its own and does what its manual shows: N streamed requests, one after another, with
the clock read when it hands over a piece of text. Truth is the metronome's. What is not installed is said to be
missing; libraries are those of the interpreter that runs this.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from benchmarks.load_tools import aiperf_command, aiperf_timings
from benchmarks.metronome import SCRIPT, Truth, gaps, metronome, p99, truths
from scripts.benchmark_exo_vs_ollama import metronome_model

REQUESTS = 10
Timing = list[float]
"""Seconds from the start of one request to each piece of text."""
Ask = Callable[[str], Iterator[str]]
"""Ask a model for one streamed answer."""


class Measured(msgspec.Struct, frozen=True):
    """One client's whole process."""

    timings: list[Timing]
    wall_s: float
    memory_mb: float


def _http_client(url: str) -> Ask:
    def ask(model: str) -> Iterator[str]:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        body = json.dumps({"model": model, "prompt": "x", "stream": True})
        connection.request("POST", "/api/generate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        while line := answer.readline():
            yield json.loads(line)["response"]

    return ask


def _httpx(url: str) -> Ask:
    import httpx  # type: ignore[import-not-found, unused-ignore]

    client = httpx.Client(base_url=url, timeout=60)

    def ask(model: str) -> Iterator[str]:
        payload = {"model": model, "prompt": "x", "stream": True}
        with client.stream("POST", "/api/generate", json=payload) as answer:
            for line in answer.iter_lines():
                yield json.loads(line)["response"]

    return ask


def _ollama(url: str) -> Ask:
    import ollama  # type: ignore[import-not-found, unused-ignore]

    client = ollama.Client(host=url)
    return lambda model: (part["response"] for part in client.generate(model=model, prompt="x", stream=True))


def _openai(url: str) -> Ask:
    import openai  # type: ignore[import-not-found, unused-ignore]

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")

    def ask(model: str) -> Iterator[str]:
        said = [{"role": "user", "content": "x"}]
        for part in client.chat.completions.create(model=model, messages=said, stream=True):
            yield part.choices[0].delta.content or ""

    return ask


LIBRARIES = {"http.client": _http_client, "httpx": _httpx, "ollama": _ollama, "openai": _openai}


def loop(ask: Ask, model: str, requests: int) -> list[Timing]:
    """Stream `requests` answers, one after another, and note when each piece of text was handed over."""
    timings = []
    for _ in range(requests):
        begin = time.monotonic()
        timings.append([time.monotonic() - begin for text in ask(model) if text])
    return timings


def measure_process(command: list[str]) -> tuple[bytes, float, float]:
    """Run a command; return its output, wall seconds and largest resident set in MB. Raises CalledProcessError."""
    with tempfile.TemporaryFile() as out:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command)
        out.seek(0)
        return out.read(), wall_s, usage.ru_maxrss / 1024


def measure(name: str, url: str, model: str, requests: int) -> Measured:
    """Measure one client in a process of its own. Raises CalledProcessError."""
    if name == "ours":
        command = [sys.executable, str(SCRIPT), "--model", model, "--ollama", f"a={url}", "--reload", "a=keep"]
        command += ["--only", "a:1", "--warmup", "0", "--requests", str(requests), "--samples", "-"]
        output, wall_s, memory_mb = measure_process(command)
        return Measured([json.loads(line)["frame_times_s"] for line in output.splitlines()], wall_s, memory_mb)
    if name == "aiperf":
        with tempfile.TemporaryDirectory() as folder:
            command = aiperf_command(str(find("aiperf")), url, model, requests, Path(folder))
            _, wall_s, memory_mb = measure_process(command)
            return Measured(aiperf_timings(Path(folder)), wall_s, memory_mb)
    command = [sys.executable, "-m", "benchmarks.clients", name, url, model, str(requests)]
    output, wall_s, memory_mb = measure_process(command)
    return Measured(json.loads(output), wall_s, memory_mb)


def find(name: str) -> str | None:
    """Return where a client is installed: beside this interpreter or on the PATH; None where it is missing."""
    if name in ("ours", "http.client"):
        return name
    if name == "aiperf":
        beside = Path(sys.executable).parent / "aiperf"
        return str(beside) if beside.exists() else shutil.which("aiperf")
    return name if importlib.util.find_spec(name) else None


def row(name: str, slow: Measured, slow_truth: list[Truth], fast: Measured, fast_truth: list[Truth]) -> str:
    """Compare one client's timings at 50 and at 500 tokens/s with the truth."""
    first = [t[0] - truth.first_token_s for t, truth in zip(slow.timings, slow_truth, strict=True)]
    pairs = list(zip(fast.timings, fast_truth, strict=True))
    rates = [(truth.sent_s[-1] - truth.sent_s[0]) / (t[-1] - t[0]) - 1 for t, truth in pairs]
    seen = p99([gap for timing in fast.timings for gap in gaps(timing)])
    true = p99([gap for truth in fast_truth for gap in truth.gaps_s])
    overhead_s = slow.wall_s - sum(timing[-1] for timing in slow.timings)
    return (
        f"{name:<12} {statistics.mean(first) * 1e3:>+12.2f} {p99([abs(e) for e in first]) * 1e3:>10.2f}"
        f" {statistics.mean(rates) * 1e2:>+9.3f} {(seen / true - 1) * 1e2:>+9.1f} {overhead_s:>11.2f}"
        f" {slow.memory_mb:>8.0f}"
    )


def main() -> None:
    """Print the table."""
    print(f"{'':<12} {'first token, ms':>23} {'rate, %':>9} {'gap, %':>9} {'overhead, s':>11} {'memory':>8}")
    print(f"{'client':<12} {'mean error':>12} {'p99':>10} {'error':>9} {'p99 error':>9} {'10 requests':>11} {'MB':>8}")
    with metronome() as url:
        for name in ("ours", *LIBRARIES, "aiperf"):
            if not find(name):
                print(f"{name:<12} not installed")
                continue
            results = []
            for speed, tokens, count in ((50, 50, REQUESTS), (500, 400, 5)):
                before = len(truths(url))
                model = metronome_model(speed, 1, tokens, 0.12)
                results += [measure(name, url, model, count), truths(url)[before:]]
            print(row(name, *results), flush=True)  # type: ignore[arg-type]
        print("Memory is that of the largest process; aiperf runs several.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        name, url, model, requests = sys.argv[1:]
        print(json.dumps(loop(LIBRARIES[name](url), model, int(requests))))
    else:
        main()
