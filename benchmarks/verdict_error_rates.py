"""How often the verdict is wrong: simulated campaigns of known speed-up, through the very functions the report uses.

    python -m benchmarks.verdict_error_rates                  # 10 000 campaigns a cell, about 10 minutes on two cores
    python -m benchmarks.verdict_error_rates --campaigns 500  # a rough look

Every campaign is made of samples (`records.samples.Sample`), three timed requests a run, in the order of the script's
own schedule. They go through `run_values`, `decide_rates`, `decide_rounds` and `naive_rules`; nothing of the rule is
repeated here. The tables are in docs/methodology.md.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import msgspec

from benchmarks.verdict_noise import NOISES, Cell, Noise, campaigns_of
from records.samples import Sample
from records.settings import Limits
from reports.stats.naive import naive_rules
from reports.stats.runs import RunValue, run_values
from reports.stats.sequential import MOST_ROUNDS
from reports.verdict.rule import decide_rates, decide_rounds

LIMITS = Limits()
GO_AT = (1.20, 1.25, 1.30, 1.40, 1.50, 1.60)
NO_GO_AT = (1.00, 1.20, 1.25, 1.30)
EVERY_RATIO = (1.00, *GO_AT)


class Rates(msgspec.Struct, frozen=True):
    """Shares of campaigns, 0 to 1, by rule and word."""

    cell: Cell
    said: dict[str, dict[str, float]]
    mean_pairs: float = 0.0


def arms_of(samples: Sequence[Sample]) -> tuple[list[RunValue], dict[str, list[RunValue]]]:
    """Return EXO's runs and every baseline's, as the report makes them."""
    by_arm: dict[str, list[Sample]] = {}
    for sample in samples:
        by_arm.setdefault(sample.arm, []).append(sample)
    runs = {arm: run_values(members) for arm, members in by_arm.items()}
    return runs.pop("exo"), runs


def fixed(cell: Cell) -> Rates:
    """Measure our rule for a fixed number of runs, and the naive rules, on the same campaigns."""
    counts: dict[str, Counter[str]] = {}
    for samples in campaigns_of(cell):
        exo, baselines = arms_of(samples)
        counts.setdefault("ours", Counter())[decide_rates(exo, baselines, LIMITS).verdict] += 1
        for rule in naive_rules(samples, LIMITS):
            counts.setdefault(rule.name, Counter())[rule.says] += 1
    return Rates(cell, _shares(counts, cell.campaigns))


def sequential(cell: Cell) -> Rates:
    """Measure the rule with three looks."""
    counts: dict[str, Counter[str]] = {"looks": Counter()}
    pairs = 0
    for samples in campaigns_of(msgspec.structs.replace(cell, runs=MOST_ROUNDS)):
        exo, baselines = arms_of(samples)
        decided = decide_rounds(exo, baselines, LIMITS)
        counts["looks"][decided.verdict] += 1
        pairs += decided.looks[-1].rounds
    return Rates(cell, _shares(counts, cell.campaigns), pairs / cell.campaigns)


def peeking(cell: Cell) -> Rates:
    """Measure the fixed rule misused: asked again after every further round of runs, from 3 to `cell.runs`."""
    return _repeated(cell, list(range(3, cell.runs + 1)))


def adding(cell: Cell) -> Rates:
    """Measure the fixed rule misused: 5 runs an arm, and where they say INCONCLUSIVE, more are added to them."""
    return _repeated(cell, [5, cell.runs])


def _repeated(cell: Cell, sizes: Sequence[int]) -> Rates:
    counts: dict[str, Counter[str]] = {"ours": Counter()}
    for samples in campaigns_of(cell):
        exo, baselines = arms_of(samples)
        for size in sizes:
            some = {name: runs[:size] for name, runs in baselines.items()}
            verdict = decide_rates(exo[:size], some, LIMITS).verdict
            if verdict != "INCONCLUSIVE":
                break
        counts["ours"][verdict] += 1
    return Rates(cell, _shares(counts, cell.campaigns))


def _shares(counts: dict[str, Counter[str]], campaigns: int) -> dict[str, dict[str, float]]:
    return {rule: {word: number / campaigns for word, number in said.items()} for rule, said in counts.items()}


Work = tuple[Callable[[Cell], Rates], Cell]


def measure(work: Work) -> Rates:
    """Run one cell; a module-level function, so that other processes can."""
    function, cell = work
    return function(cell)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share < 0.9995 else "100"


def _row(name: str, values: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(values)} |"


def _head(first: str, columns: Sequence[str]) -> list[str]:
    return [_row(first, columns), "|:--|" + "--:|" * len(columns)]


def tables(run: Callable[[list[Work]], list[Rates]], campaigns: int, seed: int, runs: int) -> Iterator[str]:
    """Yield the lines of every table; `run` performs the cells."""

    def cell(noise: Noise, ratio: float, runs: int = runs, layout: str = "interleaved") -> Cell:
        return Cell(noise, ratio, runs, campaigns, seed, layout)

    ours = run([(fixed, cell(noise, ratio)) for noise in NOISES for ratio in EVERY_RATIO])
    looks = run([(sequential, cell(noise, ratio)) for noise in NOISES for ratio in EVERY_RATIO])
    by_fixed = {(r.cell.noise.name, r.cell.true_ratio): r for r in ours}
    by_looks = {(r.cell.noise.name, r.cell.true_ratio): r for r in looks}
    naive = [name for name in ours[0].said if name != "ours"]

    yield f"False GO at a true speed-up of exactly 1.30, in % ({runs} runs an arm):"
    yield ""
    yield from _head("noise", ["ours", "ours, --until-decided", *naive])
    for noise in NOISES:
        at = by_fixed[noise.name, 1.30].said
        values = [_percent(at["ours"].get("GO", 0)), _percent(by_looks[noise.name, 1.30].said["looks"].get("GO", 0))]
        yield _row(noise.name, values + [_percent(at[name].get("SUCCESS", 0)) for name in naive])
    yield ""
    yield f"Our rule with {runs} runs an arm, in % of campaigns:"
    yield ""
    yield from _head("noise", [*(f"GO at {r:.2f}" for r in GO_AT), *(f"NO-GO at {r:.2f}" for r in NO_GO_AT)])
    for noise in NOISES:
        values = [_percent(by_fixed[noise.name, r].said["ours"].get("GO", 0)) for r in GO_AT]
        yield _row(
            noise.name, values + [_percent(by_fixed[noise.name, r].said["ours"].get("NO-GO", 0)) for r in NO_GO_AT]
        )
    yield ""
    yield "Our rule with looks after 6, 12 and 18 pairs, in % of campaigns, and the mean number of pairs used:"
    yield ""
    yield from _head("noise", [*(f"GO at {r:.2f}" for r in GO_AT), *(f"pairs at {r:.2f}" for r in GO_AT)])
    for noise in NOISES:
        values = [_percent(by_looks[noise.name, r].said["looks"].get("GO", 0)) for r in GO_AT]
        yield _row(noise.name, values + [f"{by_looks[noise.name, r].mean_pairs:.1f}" for r in GO_AT])
    yield ""
    yield from _misuse(run, cell)


def _misuse(run: Callable[[list[Work]], list[Rates]], cell: Callable[..., Cell]) -> Iterator[str]:
    equal, drifting = NOISES[1], NOISES[5]
    cases: list[tuple[str, Work]] = [
        ("5 requests after one load taken for 5 runs, CV 5 %", (fixed, cell(equal, 1.30, 5, "one load"))),
        ("block order under a drift of -10 %, 5 runs", (fixed, cell(drifting, 1.30, 5, "blocks"))),
        ("block order under a drift of +10 %, 5 runs", (fixed, cell(_reversed(drifting), 1.30, 5, "blocks"))),
        ("5 runs, and 15 more added where they were inconclusive", (adding, cell(equal, 1.30, 20))),
        ("the fixed rule asked again after every round, 3 to 18 runs", (peeking, cell(equal, 1.30, 18))),
    ]
    yield "What the schedule and the rule guard against: false GO at exactly 1.30 by our rule, misused, in %:"
    yield ""
    yield from _head("misuse", ["false GO"])
    for (name, _), found in zip(cases, run([work for _, work in cases]), strict=True):
        yield _row(name, [_percent(found.said["ours"].get("GO", 0))])


def _reversed(noise: Noise) -> Noise:
    return msgspec.structs.replace(noise, name=noise.name.replace("-", "+"), drift=-noise.drift)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Simulate campaigns and print how often the verdict is wrong.")
    parser.add_argument("--campaigns", type=int, default=10_000, help="campaigns a cell (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=6, help="runs an arm of the fixed rule (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    begin = time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        for line in tables(lambda work: list(pool.map(measure, work)), options.campaigns, options.seed, options.runs):
            print(line, flush=True)
    error = 100 * math.sqrt(0.05 * 0.95 / options.campaigns)
    print(
        f"\n{options.campaigns} campaigns a cell, seed {options.seed}: standard error {error:.2f} points at 5 %; "
        f"{time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    main()
