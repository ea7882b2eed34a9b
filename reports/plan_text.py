"""The plan's two text files, in the layout of the plan's own script (its Task 10), from the samples of steps 12 and 13.

The file names are the plan's; the model that was really run is named at the top. The speed-up in them is the plan's
(best single request of each engine); the decision is made otherwise and stands in the report.
"""

from __future__ import annotations

from functools import lru_cache

from records import facts, plan
from records.campaign import Campaign
from records.samples import Sample
from reports.stats.runs import rate_tokens_per_s
from reports.text.escape import one_line

NAMES = {12: "benchmark-results-qwen3b.txt", 13: "benchmark-results-qwen32b.txt"}
PLANNED_MODELS = {12: "qwen2.5:3b", 13: "qwen2.5-coder:32b"}
RULE = "=" * 70
LINE = "-" * 70


def plan_text(campaign: Campaign, step: int, banner: str = "", verdict: str = "none was made") -> str:
    """Return the text file of step 12 or 13, whatever became of the step, with this program's own verdict on it."""
    head = [banner, ""] if banner else []
    head.append(f"Step {step} ({plan.step_numbered(step).name}); the plan's model: {PLANNED_MODELS[step]}")
    timed = [s for s in campaign.samples.get(step, []) if not s.warmup and s.concurrency == 1]
    record, skipped, unread = campaign.records.get(step), campaign.skipped(step), campaign.unreadable_step(step)
    if skipped:
        return "\n".join([*head, f"skipped: {_plain(skipped.reason, 2000)}", ""])
    if not timed:
        why = f"{record.status}: {_plain(record.trouble, 2000)}" if record and record.errors else "not run yet"
        why = f"its record cannot be read: {_plain(unread.words, 2000)}" if unread else why
        return "\n".join([*head, why, ""])
    head += _models(campaign.benchmark(step), timed, step)
    if not campaign.done(step):
        head.append("the step did not end well: these are the requests that it left")
    rows = [_row(s) for s in sorted(timed, key=lambda s: (s.engine == "exo", s.arm, s.run, s.request))]
    title = f"{'Name':<30} {'Model':<15} {'Time':>8} {'Tokens':>8} {'Tok/s':>10}"
    table = ["", RULE, "BENCHMARK RESULTS: EXO vs Ollama", RULE, title, LINE, *rows, LINE]
    return "\n".join([*head, *table, *_speedup(timed, verdict), ""])


def _models(benchmark: facts.Benchmark | None, timed: list[Sample], step: int) -> list[str]:
    asked = {e: {s.model_asked for s in timed if s.engine == e} for e in ("exo", "ollama")}
    exo = f" ({_plain(benchmark.exo_precision, 40)})" if benchmark and benchmark.exo_precision else ""
    exo_models, models = (", ".join(sorted(_plain(name, 80) for name in names)) for names in asked.values())
    words = [f"model pair really run: EXO {exo_models or 'none'}{exo} against Ollama {models or 'none'}"]
    if PLANNED_MODELS[step] not in asked["ollama"]:
        words.append("this is not the plan's model; the file's name is the plan's, docs/exo-phase1-results.md says why")
    return words


def _row(sample: Sample) -> str:
    name = "EXO Cluster" if sample.engine == "exo" else f"Ollama ({_plain(sample.arm, 20)})"
    model = _plain(sample.model_asked, 60)
    rate = rate_tokens_per_s(sample)
    if rate is None or sample.total_s is None:
        return f"{name:<30} {model:<15} {'ERROR':>8} {_plain(sample.error or 'no tokens', 20)}"
    return f"{name:<30} {model:<15} {sample.total_s:>7.2f}s {sample.output_tokens:>8} {rate:>9.1f}"


def _speedup(timed: list[Sample], verdict: str) -> list[str]:
    rates = {engine: [rate_tokens_per_s(s) or 0 for s in timed if s.engine == engine] for engine in ("exo", "ollama")}
    best = {engine: max(values, default=0) for engine, values in rates.items()}
    if not best["exo"] or not best["ollama"]:
        return ["", "No speed-up: only one engine has a finished request."]
    speedup = (best["exo"] - best["ollama"]) / best["ollama"] * 100
    if speedup >= 30:
        word = "✓ SUCCESS: Target ≥30% speedup achieved!"
    elif speedup > 0:
        word = "~ PARTIAL: Some speedup, but below 30% target"
    else:
        word = "✗ FAIL: EXO slower than single-node Ollama"
    return [
        "",
        f"Speedup: {speedup:+.1f}% (EXO vs best Ollama)",
        word,
        "",
        "This is the plan's rule (best request of each engine). It is wrong about half of the time near its own",
        "target, and it does not ask whether the numbers compare. The decision that the data carries:",
        f"    {_plain(verdict, 300)}",
        "How it was reached, with its uncertainty, is in docs/exo-phase1-results.md.",
    ]


@lru_cache  # every row names its arm and model
def _plain(text: str, cap: int) -> str:
    """One line of visible characters; the table's layout holds whatever a server said."""
    line = one_line(text, 10 * cap)
    return line if len(line) <= cap else f"{line[: cap - 3]}..."
