"""How often the verdict is wrong: simulated campaigns of known speed-up, through the very functions the report uses.

    python -m benchmarks.verdict_error_rates                   # 10 000 campaigns a cell, a few minutes
    python -m benchmarks.verdict_error_rates --campaigns 2000  # a rough look

Every campaign is drawn as log rates of three timed requests a run, in the order of the script's own schedule. They go
through `rounds.votes`, `verdict_of` and the naive rules' own functions, many campaigns at once; nothing of the rule is
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
from itertools import pairwise

import msgspec
import numpy as np
from scipy.special import stdtrit

from benchmarks.verdict_noise import NOISES, TIED, Campaigns, Cell, Noise, campaigns_of
from records.settings import Limits
from reports.checks.heat import ORDER_ERROR
from reports.stats import rounds
from reports.stats.naive import RULES, plan_word
from reports.verdict.rule import LOOK_ERROR, LOOKS, RateVerdict, verdict_of

LIMITS = Limits()
ERROR = 1 - LIMITS.confidence
GO_AT = (1.20, 1.25, 1.30, 1.40, 1.50, 1.60)
NO_GO_AT = (1.00, 1.20, 1.25, 1.30)
EVERY_RATIO = (1.00, *GO_AT)
OURS = "ours"
WARNED = "warned"


class Rates(msgspec.Struct, frozen=True):
    """Shares of campaigns, 0 to 1, by rule and word."""

    cell: Cell
    said: dict[str, dict[str, float]]
    mean_rounds: float = 0.0


def verdicts(made: Campaigns, number: int, error: float) -> list[RateVerdict]:
    """Return what the rule says of each campaign's first `number` rounds."""
    exo = made.exo[:, :number].mean(-1)
    votes = [
        rounds.votes(exo, ollama[:, :number].mean(-1), places[:, :number], LIMITS.target_ratio, error)
        for ollama, places in zip(made.baselines, made.places, strict=True)
    ]
    return [verdict_of(each, len(votes)) for each in np.stack(votes, axis=-1).astype(int).tolist()]


def fixed(cell: Cell) -> Rates:
    """Measure our rule for a fixed number of rounds, the naive rules and the warning of an order, on the same data."""
    made = campaigns_of(cell)
    said = {OURS: _shares(verdicts(made, cell.rounds, ERROR))}
    exo = np.exp(made.exo).reshape(cell.campaigns, -1)
    arms = np.stack([np.exp(logs).reshape(cell.campaigns, -1) for logs in made.baselines])
    for name, middle, _ in RULES:
        ratios = middle(exo, axis=-1) / middle(arms, axis=-1).max(axis=0)
        said[name] = _shares([plan_word(ratio, LIMITS.target_ratio) for ratio in ratios.tolist()])
    said[WARNED] = {"order": _warned(made)}
    return Rates(cell, said)


def _warned(made: Campaigns) -> float:
    """Return the share of campaigns in which the check of the order warns, against any baseline."""
    warns = np.zeros(len(made.exo), dtype=bool)
    for ollama, places in zip(made.baselines, made.places, strict=True):
        if len(set(places[0] < places[1])) < 2:
            continue  # in blocks there is no order to tell
        found = rounds.interval(made.exo.mean(-1), ollama.mean(-1), places, ERROR)
        _, t = rounds.order_effect(found.log_ratios, places)
        warns |= np.abs(t) >= stdtrit(made.exo.shape[1] - 2, 1 - ORDER_ERROR / 2)
    return float(warns.mean())


def looking(cell: Cell) -> Rates:
    """Measure the rule with looks after 6, 12 and 18 rounds."""
    made = campaigns_of(msgspec.structs.replace(cell, rounds=LOOKS[-1]))
    return _repeated(cell, made, LOOKS, LOOK_ERROR)


def peeking(cell: Cell) -> Rates:
    """Measure the fixed rule misused: asked again after every further round, from 4 to `cell.rounds`."""
    return _repeated(cell, campaigns_of(cell), range(rounds.FEWEST_ROUNDS, cell.rounds + 1), ERROR)


def adding(cell: Cell) -> Rates:
    """Measure the fixed rule misused: 5 rounds, and where they say INCONCLUSIVE, more are added to them."""
    return _repeated(cell, campaigns_of(cell), [5, cell.rounds], ERROR)


def _repeated(cell: Cell, made: Campaigns, sizes: Sequence[int], error: float) -> Rates:
    final: list[RateVerdict] = []
    used = 0
    for before, size in pairwise([0, *sizes]):
        used += len(made.exo) * (size - before)
        now = verdicts(made, size, error)
        final += [verdict for verdict in now if verdict != "INCONCLUSIVE"]
        still = [verdict == "INCONCLUSIVE" for verdict in now]
        made = Campaigns(made.exo[still], [logs[still] for logs in made.baselines], made.places)
    final += ["INCONCLUSIVE"] * len(made.exo)
    return Rates(cell, {OURS: _shares(final)}, used / cell.campaigns)


def _shares(words: Sequence[str]) -> dict[str, float]:
    return {word: number / len(words) for word, number in Counter(words).items()}


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


def tables(run: Callable[[list[Work]], list[Rates]], campaigns: int, seed: int, number: int) -> Iterator[str]:
    """Yield the lines of every table; `run` performs the cells."""

    def cell(noise: Noise, ratio: float, number: int = number, layout: str = "interleaved") -> Cell:
        return Cell(noise, ratio, number, campaigns, seed, layout)

    ours = run([(fixed, cell(noise, ratio)) for noise in NOISES for ratio in EVERY_RATIO])
    looks = run([(looking, cell(noise, ratio)) for noise in NOISES for ratio in EVERY_RATIO])
    by_fixed = {(r.cell.noise.name, r.cell.true_ratio): r for r in ours}
    by_looks = {(r.cell.noise.name, r.cell.true_ratio): r for r in looks}
    naive = [name for name, _, _ in RULES]

    yield f"False GO at a true speed-up of exactly 1.30, in % ({number} rounds):"
    yield ""
    yield from _head("noise", [OURS, f"{OURS}, --until-decided", *naive])
    for noise in NOISES:
        at = by_fixed[noise.name, 1.30].said
        values = [_percent(at[OURS].get("GO", 0)), _percent(by_looks[noise.name, 1.30].said[OURS].get("GO", 0))]
        yield _row(noise.name, values + [_percent(at[name].get("SUCCESS", 0)) for name in naive])
    yield ""
    yield f"Our rule with {number} rounds, in % of campaigns:"
    yield ""
    yield from _head("noise", [*(f"GO at {r:.2f}" for r in GO_AT), *(f"NO-GO at {r:.2f}" for r in NO_GO_AT)])
    for noise in NOISES:
        values = [_percent(by_fixed[noise.name, r].said[OURS].get("GO", 0)) for r in GO_AT]
        yield _row(
            noise.name, values + [_percent(by_fixed[noise.name, r].said[OURS].get("NO-GO", 0)) for r in NO_GO_AT]
        )
    yield ""
    yield "Our rule with looks after 6, 12 and 18 rounds, in % of campaigns, and the mean number of rounds used:"
    yield ""
    yield from _head("noise", [*(f"GO at {r:.2f}" for r in GO_AT), *(f"rounds at {r:.2f}" for r in GO_AT)])
    for noise in NOISES:
        values = [_percent(by_looks[noise.name, r].said[OURS].get("GO", 0)) for r in GO_AT]
        yield _row(noise.name, values + [f"{by_looks[noise.name, r].mean_rounds:.1f}" for r in GO_AT])
    yield ""
    yield from _by_rounds(run, cell)
    yield ""
    yield from _tied(run, cell)
    yield ""
    yield from _misuse(run, cell)


def _by_rounds(run: Callable[[list[Work]], list[Rates]], cell: Callable[..., Cell]) -> Iterator[str]:
    shown, ratios = NOISES[:4], (1.30, 1.40, 1.50, 1.60)
    yield "By rounds (`--runs`), false GO at 1.30 and GO at 1.40, 1.50 and 1.60, in %; and the worst false GO:"
    yield ""
    yield from _head("rounds", [*(noise.name for noise in shown), "false GO, worst of all noises"])
    for number in (4, 5, 6, 8, 11):
        at = {r.cell: r for r in run([(fixed, cell(noise, 1.30, number)) for noise in NOISES])}
        more = run([(fixed, cell(noise, ratio, number)) for noise in shown for ratio in ratios])
        go = [_percent(found.said[OURS].get("GO", 0)) for found in more]
        rows = [" / ".join(go[k : k + len(ratios)]) for k in range(0, len(go), len(ratios))]
        worst = max(at.values(), key=lambda found: found.said[OURS].get("GO", 0))
        yield _row(str(number), [*rows, f"{_percent(worst.said[OURS].get('GO', 0))} ({worst.cell.noise.name})"])


def _tied(run: Callable[[list[Work]], list[Rates]], cell: Callable[..., Cell]) -> Iterator[str]:
    yield "What no rule holds, a drift that is tied to an arm: false GO at 1.30 and how often *order* warns, in %:"
    yield ""
    numbers = (6, 12, 18)
    yield from _head("noise", [f"{word}, {number} rounds" for number in numbers for word in ("false GO", "warned")])
    for noise in (NOISES[0], NOISES[1], NOISES[14], *TIED):
        found = run([(fixed, cell(noise, 1.30, number)) for number in numbers])
        values = [[r.said[OURS].get("GO", 0), r.said[WARNED]["order"]] for r in found]
        yield _row(noise.name, [_percent(value) for pair in values for value in pair])


def _misuse(run: Callable[[list[Work]], list[Rates]], cell: Callable[..., Cell]) -> Iterator[str]:
    equal, drifting = NOISES[1], NOISES[5]
    cases: list[tuple[str, Work]] = [
        ("5 requests after one load taken for 5 rounds, CV 5 %", (fixed, cell(equal, 1.30, 5, "one load"))),
        ("block order under a drift of -10 %, 5 rounds", (fixed, cell(drifting, 1.30, 5, "blocks"))),
        ("block order under a curved drift of -30 %, CV 2 %, 6 rounds", (fixed, cell(NOISES[10], 1.30, 6, "blocks"))),
        ("5 rounds, and 15 more added where they were inconclusive", (adding, cell(equal, 1.30, 20))),
        ("the fixed rule asked again after every round, 4 to 18", (peeking, cell(equal, 1.30, 18))),
    ]
    yield "What the schedule and the rule guard against: false GO at exactly 1.30 by our rule, misused, in %:"
    yield ""
    yield from _head("misuse", ["false GO"])
    for (name, _), found in zip(cases, run([work for _, work in cases]), strict=True):
        yield _row(name, [_percent(found.said[OURS].get("GO", 0))])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Simulate campaigns and print how often the verdict is wrong.")
    parser.add_argument("--campaigns", type=int, default=10_000, help="campaigns a cell (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="of the fixed rule (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    begin = time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        for line in tables(lambda work: list(pool.map(measure, work)), options.campaigns, options.seed, options.rounds):
            print(line, flush=True)
    error = 100 * math.sqrt(0.05 * 0.95 / options.campaigns)
    print(
        f"\n{options.campaigns} campaigns a cell, seed {options.seed}: standard error {error:.2f} points at 5 %; "
        f"{time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    main()
