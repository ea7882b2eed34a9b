"""Campaigns of known speed-up and noise, as samples: what the simulations of the verdict are fed with."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np

from records.samples import Sample
from scripts.benchmark_exo_vs_ollama import schedule

REQUESTS = 3
TOKENS = 128
OLLAMA_RATE = 20.0


class Noise(msgspec.Struct, frozen=True):
    """What disturbs the log rates. CVs are standard deviations of log rates."""

    name: str
    exo_cv: float
    """Between EXO's runs."""
    ollama_cv: float
    request_cv: float = 0.01
    """Between the requests of one run."""
    drift: float = 0.0
    """Change of the log rate of both arms from the first to the last run of the campaign."""
    outlier_chance: float = 0.0
    """Of a run (any side) to be OUTLIER times as fast, all of its requests."""
    request_outlier_chance: float = 0.0
    baselines: int = 1
    """Baselines of equal speed."""


OUTLIER = 0.7

NOISES = (
    Noise("equal, CV 2 %", 0.02, 0.02),
    Noise("equal, CV 5 %", 0.05, 0.05),
    Noise("equal, CV 10 %", 0.10, 0.10),
    Noise("EXO 10 %, Ollama 2 %", 0.10, 0.02),
    Noise("EXO 2 %, Ollama 10 %", 0.02, 0.10),
    Noise("drift -10 %, CV 5 %", 0.05, 0.05, drift=-0.10),
    Noise("drift -30 %, CV 2 %", 0.02, 0.02, drift=-0.30),
    Noise("run effects 5 %, requests 5 %", 0.05, 0.05, request_cv=0.05),
    Noise("slow runs: 10 % of them x 0.7, CV 5 %", 0.05, 0.05, outlier_chance=0.10),
    Noise("slow requests: 5 % of them x 0.7, CV 5 %", 0.05, 0.05, request_outlier_chance=0.05),
    Noise("two equal baselines, CV 5 %", 0.05, 0.05, baselines=2),
)


class Cell(msgspec.Struct, frozen=True):
    """One noise, one true speed-up, one number of runs an arm."""

    noise: Noise
    true_ratio: float
    runs: int
    campaigns: int
    seed: int
    layout: str = "interleaved"
    """`blocks`: all of EXO, then all of Ollama. `one load`: a single run an arm, its requests called runs."""


def campaigns_of(cell: Cell) -> Iterator[list[Sample]]:
    """Make the cell's campaigns one after the other, the same for the same seed."""
    key = zlib.crc32(repr((cell.noise.name, cell.true_ratio, cell.runs, cell.layout)).encode())
    chance = np.random.default_rng([cell.seed, key])
    arms = ["exo", *(f"ollama{i}" for i in range(cell.noise.baselines))]
    if cell.layout == "blocks":
        order = [(arm, run) for arm in arms for run in range(1, cell.runs + 1)]
    else:
        order = schedule(arms, cell.runs, cell.seed)
    places = {pair: place / max(1, len(order) - 1) for place, pair in enumerate(order)}
    for _ in range(cell.campaigns):
        samples: list[Sample] = []
        for arm in arms:
            samples += _arm_samples(arm, cell, [places[arm, run] for run in range(1, cell.runs + 1)], chance)
        yield samples


def _arm_samples(arm: str, cell: Cell, places: Sequence[float], chance: np.random.Generator) -> list[Sample]:
    noise = cell.noise
    shape = (cell.runs, 1 if cell.layout == "one load" else REQUESTS)
    cv = noise.exo_cv if arm == "exo" else noise.ollama_cv
    level = math.log(OLLAMA_RATE * (cell.true_ratio if arm == "exo" else 1.0))
    effects = chance.normal(0, cv, 1 if cell.layout == "one load" else cell.runs)
    logs = level + effects[:, None] + noise.drift * np.asarray(places)[:, None] + np.zeros(shape)
    logs = logs + chance.normal(0, noise.request_cv, shape)
    logs += math.log(OUTLIER) * (chance.random((cell.runs, 1)) < noise.outlier_chance)
    logs += math.log(OUTLIER) * (chance.random(shape) < noise.request_outlier_chance)
    engine: Literal["exo", "ollama"] = "exo" if arm == "exo" else "ollama"
    return [
        Sample(
            1, arm, engine, run, request, False, "m", "m", TOKENS, "usage", 0.1, total_s, total_s, None
        )
        for run, totals in enumerate((TOKENS / np.exp(logs)).tolist(), start=1)
        for request, total_s in enumerate(totals, start=1)
    ]  # fmt: skip
