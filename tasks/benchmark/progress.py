"""What a person sees while a benchmark runs: a line that stays after each run, a live one after each request.

Rates shown are those that vote: output tokens over the wall time of a request, warm-ups and failures left out.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

from records.samples import Sample
from reports.stats.runs import is_good, run_values
from reports.text.format import about, duration
from tasks import console


class Progress:
    """Follows one schedule, of which the pairs (arm, run) in `left` still have requests to make."""

    def __init__(self, left: Sequence[tuple[str, int]], runs: int, requests_a_run: int) -> None:
        self._left = left
        self._runs = runs
        self._requests_a_run = requests_a_run
        self._begin = time.monotonic()
        self._done = 0
        self._of_run = 0
        """Requests of the run under way that have ended."""
        self._good: dict[str, list[Sample]] = {}

    def begin(self, arm: str, run: int) -> None:
        """Show that a run's arm is being loaded, which may take longer than the run."""
        self._of_run = 0
        self._show(f"[{arm}] run {run} of {self._runs}: loading")

    def request(self, sample: Sample) -> None:
        """Take one finished request into account."""
        self._of_run += 1
        if is_good(sample):
            self._good.setdefault(sample.arm, []).append(sample)
        kind = "warm-up" if sample.warmup else "request"
        outcome = f"failed: {sample.error}" if sample.error else f"TTFT {duration(sample.first_token_s)}"
        where = f"[{sample.arm}] run {sample.run} of {self._runs}, {self._of_run} of {self._requests_a_run}"
        self._show(f"{where} ({kind}) {outcome}")

    def again(self, arm: str, run: int) -> None:
        """Take a run that was lost into account: it is measured once more."""
        self._left = [*self._left, (arm, run)]
        self._good[arm] = [sample for sample in self._good.get(arm, []) if sample.run != run]

    def end(self, arm: str, run: int, samples: Sequence[Sample]) -> None:
        """Show what a run came to, all of whose samples are given."""
        self._done += 1
        self._of_run = 0
        console.note(
            arm, f"run {run} of {self._runs}: {run_words(samples)} ({self._done}/{len(self._left)}{self._time()})"
        )

    def end_of_round(self, run: int) -> None:
        """Show the ratios so far, by the rounds of this call; no word of what they mean before the last one."""
        logs = {arm: {r.run: r.log_rate for r in run_values(every)} for arm, every in self._good.items()}
        exo = logs.pop("exo", {})
        shared = {arm: [exo[n] - of_arm[n] for n in exo if n in of_arm] for arm, of_arm in logs.items()}
        ratios = [f"{math.exp(statistics.fmean(of_arm)):.2f}x over {arm}" for arm, of_arm in shared.items() if of_arm]
        if not ratios:
            return
        left = self._runs - run
        after = f"{left} more to go, and no verdict before" if left else "the last one"
        console.note("", f"round {run} of {self._runs}: EXO so far {', '.join(ratios)}; {after}")

    def _show(self, doing: str) -> None:
        rates = (f"{arm} {rate:.1f} tok/s" for arm, rate in self._rates().items())
        console.live("  ".join([f"{self._done}/{len(self._left)} {doing}{self._time()}", *rates]))

    def _rates(self) -> dict[str, float]:
        """Return each arm's rate so far, as the report will: the geometric mean of its runs."""
        logs = {arm: [run.log_rate for run in run_values(every)] for arm, every in self._good.items()}
        return {arm: math.exp(math.fsum(of_runs) / len(of_runs)) for arm, of_runs in logs.items() if of_runs}

    def _time(self) -> str:
        """Return the time left by what was done so far, unfinished runs counted by their requests."""
        share = self._done + min(self._of_run / self._requests_a_run, 1.0)
        if not share:
            return ""
        left_s = (time.monotonic() - self._begin) / share * (len(self._left) - share)
        return f", {about(left_s)} left" if left_s >= 1 else ""


def run_words(samples: Sequence[Sample]) -> str:
    """Return a run's rate and median TTFT (time to first token) in words, and how many of its requests failed."""
    good = [sample for sample in samples if is_good(sample)]
    failed = sum(sample.error is not None for sample in samples)
    words = "no good request"
    if good:
        waits = [sample.first_token_s for sample in good if sample.first_token_s is not None]
        ttft = duration(statistics.median(waits) if waits else None)
        words = f"{run_values(good)[-1].rate_tokens_per_s:.1f} tok/s, TTFT {ttft}"
    return f"{words}, {failed} of {len(samples)} requests failed" if failed else words
