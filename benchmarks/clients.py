"""Other clients beside ours against the same metronome, as a table: `python -m benchmarks.clients`.

Each client runs in a process of its own. Truth is the metronome's. What is not installed is said to be missing:
libraries are those of the interpreter that runs this, tools lie beside it or on the PATH. guidellm needs PyTorch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.client_libraries import LIBRARIES, installed, library_command
from benchmarks.load_tools import TOOLS, find_tool, prepare
from benchmarks.metronome import PROJECT, SCRIPT, Truth, metronome, truths
from benchmarks.seen import Seen, errors_of, seen_of
from scripts.benchmark_exo_vs_ollama import metronome_model

SLOW, FAST = (50, 50, 10), (500, 400, 5)
"""Tokens per second, tokens a request, requests; one token a frame."""
FIRST_S = 0.12


class CommandResult(msgspec.Struct, frozen=True):
    """One whole process: its output, wall seconds and largest resident set."""

    output: bytes
    wall_s: float
    memory_mb: float


class Measured(msgspec.Struct, frozen=True):
    """What one client made of a number of requests, and the truth about them."""

    pairs: list[tuple[Truth, Seen]]
    overhead_s: float
    """Wall time of the process beyond its requests."""
    memory_mb: float


class ClientError(Exception):
    """A client failed, or did not send the requests that it was told to send."""


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> CommandResult:
    """Run a command in `folder`. Raises ClientError with its last words."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=complaints, cwd=folder, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        complaints.seek(0)
        output = out.read()
        if child.returncode:
            last = (complaints.read().strip() or output.strip()).decode(errors="replace").splitlines()[-1:]
            raise ClientError(f"exit code {child.returncode}: {''.join(last)[:200]}")
        return CommandResult(output, wall_s, usage.ru_maxrss / 1024)


def is_there(name: str) -> bool:
    """Tell whether a client is installed."""
    return name == "ours" or (find_tool(name) is not None if name in TOOLS else installed(name))


def ask(name: str, url: str, model: str, requests: int) -> tuple[CommandResult, list[Seen]]:
    """Have one client stream `requests` answers. Raises ClientError."""
    if name == "ours":
        command = [sys.executable, str(SCRIPT), "--model", model, "--ollama", f"a={url}", "--reload", "a=keep"]
        command += ["--only", "a:1", "--warmup", "0", "--requests", str(requests), "--samples", "-"]
        ran = run(command, PROJECT)
        return ran, [seen_of(json.loads(line)["frame_times_s"]) for line in ran.output.splitlines()]
    if name in TOOLS:
        tool, program = TOOLS[name], find_tool(name)
        assert program is not None
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            environment = prepare(tool, folder)
            ran = run(tool.command(program, url, model, requests, folder), folder, environment)
            return ran, tool.read(folder)
    ran = run(library_command(name, url, model, requests), PROJECT)
    return ran, [seen_of(timing) for timing in json.loads(ran.output)]


def measure(name: str, url: str, speed: int, tokens: int, requests: int) -> Measured:
    """Measure one client at one speed. Raises ClientError."""
    before = len(truths(url))
    ran, seen = ask(name, url, metronome_model(speed, 1, tokens, FIRST_S), requests)
    true = truths(url)[before:]
    if not len(seen) == len(true) == requests:
        raise ClientError(f"told to send {requests} requests, sent {len(true)}, reported {len(seen)}")
    in_requests_s = sum(one.first_s + one.span_s for one in seen)
    return Measured(list(zip(true, seen, strict=True)), ran.wall_s - in_requests_s, ran.memory_mb)


def row(name: str, slow: Measured, fast: Measured) -> str:
    """Return a client's line of the table."""
    found = errors_of(slow.pairs, fast.pairs)
    gaps = "not kept" if found.gaps_p99_fraction is None else f"{found.gaps_p99_fraction * 1e2:+.1f}"
    return (
        f"{name:<13} {found.first_token_mean_s * 1e3:>+12.2f} {found.first_token_p99_s * 1e3:>10.2f}"
        f" {found.rate_mean_fraction * 1e2:>+9.3f} {gaps:>9} {slow.overhead_s:>11.2f} {slow.memory_mb:>8.0f}"
    )


def main() -> None:
    """Print the table."""
    print(f"{'':<13} {'first token, ms':>23} {'rate, %':>9} {'gap, %':>9} {'overhead, s':>11} {'memory':>8}")
    print(f"{'client':<13} {'mean error':>12} {'p99':>10} {'error':>9} {'p99 error':>9} {'10 requests':>11} {'MB':>8}")
    with metronome() as url:
        for name in ("ours", *LIBRARIES, *TOOLS):
            if not is_there(name):
                print(f"{name:<13} not installed")
                continue
            try:
                print(row(name, measure(name, url, *SLOW), measure(name, url, *FAST)), flush=True)
            except ClientError as error:
                print(f"{name:<13} failed: {error}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("Memory is that of the largest process; aiperf and guidellm run several.")


if __name__ == "__main__":
    main()
