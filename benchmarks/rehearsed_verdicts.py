"""Rehearse whole campaigns at known speed-ups and count the verdicts: the rule end to end, where nothing is simulated.

    python -m benchmarks.rehearsed_verdicts

Three SSH nodes, stand-in engines, the benchmark script, raw samples, checks, decision: all of it is the program's own.
One rehearsal a true speed-up goes through steps 1 to 10 once; then each campaign is step 12 anew with a seed of its own
for the order, the prompts and the engines' noise. EXO is restarted for each of its runs as in real use: the noise of a
run is drawn when its model is loaded, so that runs of an EXO kept loaded would be one run, counted several times.

Exit codes: 0 every limit held, 1 one is broken or a rehearsal did not come so far, 2 an option makes no sense,
130 and 143 interrupted. The table is in docs/methodology.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from benchmarks.verdict_tally import Outcome, broken_limits, table
from records.campaign import load_campaign
from rehearsal import cluster
from rehearsal.layout import Layout
from rehearsal.speeds import settings
from reports.verdict.decision import decide
from tasks import console
from tasks.benchmark.instrument import create_benchmark
from tasks.benchmark.models import download_model
from tasks.benchmark.steps import bench_comparison
from tasks.errors import StepError
from tasks.install import install_group
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.preflight import preflight_group
from tasks.start import start_group

FASTEST = "rog"
"""The baseline that a rehearsal's speed-up is against."""


FIRST_LASTS_S = 60.0
"""Of the first campaign's drift; from then on it is known how long one lasts."""


class Settings(msgspec.Struct, frozen=True):
    """What the options say. `noise` is the standard deviation of a run's log rate; a request's is half of it."""

    campaigns: int
    runs: int
    noise: float
    seed: int
    jobs: int
    drift: float = 0.0
    """Relative change of all rates over each campaign."""


def rehearsed(root: Path, speedup: float, told: Settings, ended: threading.Event) -> list[Outcome]:
    """Bring up one rehearsal below `root`, run its campaigns until `ended` is set, and take it down whatever happens.

    Raises StepError where the preparation fails, RuntimeError where the rehearsal does not come up.
    """
    outcomes: list[Outcome] = []
    lab: Lab | None = None
    try:
        layout = cluster.up(root, speedup=speedup, noise=told.noise, seed=_seed(told, speedup, 0), drift=told.drift)
        lab = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
        for group in (preflight_group, install_group, start_group, download_model, create_benchmark):
            group(lab)
        lasts_s = FIRST_LASTS_S
        for number in range(told.campaigns):
            if ended.is_set():
                break
            reseed(layout, lab, _seed(told, speedup, number), lasts_s)
            begin = time.monotonic()
            one = campaign(lab, told.runs)
            lasts_s = time.monotonic() - begin
            outcomes.append(one)
            spent = f"{time.monotonic() - begin:.0f} s"
            counted = f"{speedup:.2f}  {number + 1:>3} of {told.campaigns}"
            print(f"{counted}  {spent:>5}  {one.verdict}: {one.said}", file=sys.stderr)
    finally:
        if lab is not None:
            lab.close()
        cluster.down(root)
    return outcomes


def _seed(told: Settings, speedup: float, number: int) -> int:
    """Return the seed of a campaign; the speed-ups share none, so that their tables are independent."""
    return told.seed + round(speedup * 100) * 1000 + number


def reseed(layout: Layout, lab: Lab, seed: int, lasts_s: float = FIRST_LASTS_S) -> None:
    """Give a running rehearsal another seed: the engines' noise, and the order and prompts of the benchmark.

    A drift begins anew and goes its way while a campaign lasts, which is as long as the one before.
    """
    anew = dataclasses.replace(layout, seed=seed, drift_from_s=time.time(), drift_over_s=lasts_s)
    for node in layout.nodes():
        kept = json.loads(node.settings.read_text(encoding="utf-8"))
        for section, values in settings(anew, node.key).items():
            kept[section] |= values  # what was added when the node was laid out stays
        node.settings.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    bench = msgspec.structs.replace(lab.inventory.bench, seed=seed)
    lab.inventory = msgspec.structs.replace(lab.inventory, bench=bench)


def campaign(lab: Lab, runs: int) -> Outcome:
    """Run step 12 with `runs` runs an arm and return what the report would say of it."""
    try:
        bench_comparison(lab, runs=str(runs), fresh=True)  # the one before moves to the archive
    except StepError as error:
        return Outcome("failed", str(error))
    decision = decide(load_campaign(lab.logs))
    said = decision.headline.removeprefix(f"{decision.verdict}: ")
    found = next((c for c in decision.comparisons if c.baseline == FASTEST), None)
    if found is None:
        return Outcome(decision.verdict, said)
    return Outcome(decision.verdict, said, found.ratio, found.lower, found.upper)


def rehearse_all(folder: Path, speedups: Sequence[float], told: Settings) -> dict[float, list[Outcome]]:
    """Run one rehearsal a speed-up below `folder`, `jobs` side by side, and leave none up, whatever ends this."""
    ended = threading.Event()
    roots = {speedup: folder / f"{speedup:.2f}" for speedup in speedups}
    steps_log = folder / "steps.log"
    found: dict[float, list[Outcome]] = {}

    def work(speedup: float) -> list[Outcome]:
        return [] if ended.is_set() else rehearsed(roots[speedup], speedup, told, ended)

    with steps_log.open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        with ThreadPoolExecutor(told.jobs) as pool:
            futures = {speedup: pool.submit(work, speedup) for speedup in speedups}
            try:
                for speedup, future in futures.items():
                    try:
                        found[speedup] = future.result()
                    except (StepError, RuntimeError) as error:
                        found[speedup] = []
                        print(f"{speedup:.2f}  did not come up: {error}", file=sys.stderr)
            finally:
                ended.set()
                for root in roots.values():
                    cluster.down(root)  # a campaign under way ends at once, for want of nodes
                console.closing()  # else what a step says to type next would stand below the table
        return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rehearse campaigns of known speed-up and count the verdicts.")
    parser.add_argument("--campaigns", type=int, default=20, help="a true speed-up (default: %(default)s)")
    parser.add_argument("--speedups", default="1.0,1.2,1.3,1.4,1.6", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=6, help="rounds of a campaign (default: %(default)s)")
    parser.add_argument("--noise", type=float, default=0.05, help="of a run's log rate (default: %(default)s)")
    parser.add_argument("--drift", type=float, default=0.0, help="relative change of all rates over each campaign")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="rehearsals side by side (default: %(default)s)")
    options = parser.parse_args()
    try:
        options.speedups = sorted({float(text) for text in options.speedups.split(",")})
    except ValueError:
        parser.error(f"--speedups {options.speedups}: needs numbers with commas between them")
    if min(options.campaigns, options.runs, options.jobs) < 1 or not 0 <= options.noise <= 0.5:
        parser.error("--campaigns, --runs and --jobs are at least 1, --noise is from 0 to 0.5")
    if not all(0.05 <= speedup <= 20 for speedup in options.speedups):
        parser.error("--speedups are from 0.05 to 20")
    return options


def _terminate(*_: object) -> None:
    raise SystemExit(143)


def main() -> None:
    """Print the table and end with 1 where a limit is broken."""
    options = _options()
    told = Settings(options.campaigns, options.runs, options.noise, options.seed, options.jobs, options.drift)
    signal.signal(signal.SIGTERM, _terminate)
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="rehearsed-verdicts-"))
    found = rehearse_all(folder, options.speedups, told)
    print("\n".join(table(found)))
    print(
        f"\n{told.campaigns} campaigns a row, {told.runs} rounds, noise {told.noise:g} a run, drift {told.drift:+.0%},"
        f" seed {told.seed}; {time.monotonic() - begin:.0f} s"
    )
    broken = broken_limits(found, told.campaigns)
    if broken:
        raise SystemExit("\n".join([*broken, f"the logs of every campaign are below {folder}"]))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
