"""Campaigns of known speed-up and noise, as arrays of log rates: what the simulations of the verdict are fed with."""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import msgspec
import numpy as np

from reports.stats.rounds import Array
from scripts.benchmark_exo_vs_ollama import schedule

REQUESTS = 3
OLLAMA_RATE = 20.0
OUTLIER = math.log(0.7)
BOOST_REQUESTS = 1.5
"""A thermal sawtooth loses 63 % of what it loses in so many requests, give or take a half, afresh in every run."""
CURVE = 4.0
"""A curved drift has done 98 % of its way when a campaign ends, and 63 % after its first quarter."""


class Noise(msgspec.Struct, frozen=True):
    """What disturbs the log rates. CVs are standard deviations of log rates; changes of rate are logs as well."""

    name: str
    exo_cv: float
    """Between EXO's runs."""
    ollama_cv: float
    request_cv: float = 0.01
    """Between the requests of one run."""
    drift: float = 0.0
    """From the first to the last run of the campaign, evenly, for both arms."""
    curve: float = 0.0
    """Likewise, but fast at first: a machine that warms up."""
    step: float = 0.0
    """From one run on, which is any of them, to the end."""
    sawtooth: float = 0.0
    """Within each run, from its first request on, back with the next load."""
    together: float = 0.0
    """Of the CV of a noise that both arms share and that remembers the run before by 0.7."""
    outlier_chance: float = 0.0
    """Of a run (any arm's) to be slower by OUTLIER, all of its requests."""
    request_outlier_chance: float = 0.0
    exo_after_itself: float = 0.0
    """An EXO run right after one of EXO's."""
    ollama_after_exo: float = 0.0
    """An Ollama run right after one of EXO's: a drift that is tied to an arm, which nothing can tell from speed."""
    baselines: int = 1
    """Baselines of equal speed."""


MINUS_10, MINUS_20, MINUS_30 = math.log(0.9), math.log(0.8), math.log(0.7)

NOISES = (
    Noise("equal, CV 2 %", 0.02, 0.02),
    Noise("equal, CV 5 %", 0.05, 0.05),
    Noise("equal, CV 10 %", 0.10, 0.10),
    Noise("EXO 10 %, Ollama 2 %", 0.10, 0.02),
    Noise("EXO 2 %, Ollama 10 %", 0.02, 0.10),
    Noise("drift -10 %, CV 5 %", 0.05, 0.05, drift=MINUS_10),
    Noise("drift -20 %, CV 5 %", 0.05, 0.05, drift=MINUS_20),
    Noise("drift -30 %, CV 5 %", 0.05, 0.05, drift=MINUS_30),
    Noise("drift -30 %, CV 2 %", 0.02, 0.02, drift=MINUS_30),
    Noise("curved drift -30 %, CV 5 %", 0.05, 0.05, curve=MINUS_30),
    Noise("curved drift -30 %, CV 2 %", 0.02, 0.02, curve=MINUS_30),
    Noise("a step of -20 % anywhere, CV 3 %", 0.03, 0.03, step=MINUS_20),
    Noise("sawtooth -20 % a run, CV 2 %", 0.02, 0.02, sawtooth=MINUS_20),
    Noise("shared noise 5 %, remembered, CV 2 %", 0.02, 0.02, together=0.05),
    Noise("EXO -10 % after its own run, CV 3 %", 0.03, 0.03, exo_after_itself=MINUS_10),
    Noise("run effects 5 %, requests 5 %", 0.05, 0.05, request_cv=0.05),
    Noise("slow runs: 10 % of them x 0.7, CV 5 %", 0.05, 0.05, outlier_chance=0.10),
    Noise("slow requests: 5 % of them x 0.7, CV 5 %", 0.05, 0.05, request_outlier_chance=0.05),
    Noise("two equal baselines, CV 5 %", 0.05, 0.05, baselines=2),
)
TIED = (
    Noise("Ollama -5 % after EXO's run, CV 2 %", 0.02, 0.02, ollama_after_exo=math.log(0.95)),
    Noise("Ollama -10 % after EXO's run, CV 2 %", 0.02, 0.02, ollama_after_exo=MINUS_10),
    Noise("Ollama -10 % after EXO's run, CV 5 %", 0.05, 0.05, ollama_after_exo=MINUS_10),
)
"""Drifts that are tied to an arm: no schedule and no rule holds them."""


class Cell(msgspec.Struct, frozen=True):
    """One noise, one true speed-up, one number of rounds."""

    noise: Noise
    true_ratio: float
    rounds: int
    campaigns: int
    seed: int
    layout: str = "interleaved"
    """`blocks`: all of EXO, then all of Ollama. `one load`: a single run an arm, its requests called rounds."""


class Campaigns(NamedTuple):
    """Log rates: campaigns by rounds by requests, of every arm."""

    exo: Array
    baselines: list[Array]
    places: list[Array]
    """Of every baseline, EXO's and its own places in the order, 2 by rounds."""


def campaigns_of(cell: Cell) -> Campaigns:
    """Make the cell's campaigns, the same for the same seed."""
    noise = cell.noise
    key = zlib.crc32(repr((noise.name, cell.true_ratio, cell.rounds, cell.layout)).encode())
    chance = np.random.default_rng([cell.seed, key])
    arms = ["exo", *(f"ollama{i}" for i in range(noise.baselines))]
    order = (
        [(arm, run) for arm in arms for run in range(1, cell.rounds + 1)]
        if cell.layout == "blocks"
        else schedule(arms, cell.rounds, cell.seed)
    )
    shared = _shared(cell, len(order), chance)
    places: dict[str, list[int]] = {arm: [] for arm in arms}
    for place, (arm, _) in enumerate(order):
        places[arm].append(place)
    rates = {}
    for arm in arms:
        at = places[arm]
        logs = _own(arm, cell, chance) + shared[:, at, None]
        logs += math.log(OLLAMA_RATE * (cell.true_ratio if arm == "exo" else 1.0))
        after_exo = np.array([place > 0 and order[place - 1][0] == "exo" for place in at])
        logs += after_exo[:, None] * (noise.exo_after_itself if arm == "exo" else noise.ollama_after_exo)
        rates[arm] = logs
    pairs = [np.array([places["exo"], places[arm]], dtype=float) for arm in arms[1:]]
    return Campaigns(rates["exo"], [rates[arm] for arm in arms[1:]], pairs)


def _shared(cell: Cell, runs: int, chance: np.random.Generator) -> Array:
    """Return what every run of both arms bears by its place in the campaign: campaigns by places."""
    noise, at = cell.noise, np.linspace(0, 1, runs)
    shared = np.tile(noise.drift * at + noise.curve * np.expm1(-CURVE * at) / math.expm1(-CURVE), (cell.campaigns, 1))
    shared += noise.step * (np.arange(runs) >= chance.integers(1, runs, (cell.campaigns, 1)))
    if noise.together:
        state = chance.normal(0, noise.together, cell.campaigns)
        for place in range(runs):
            shared[:, place] += state
            state = 0.7 * state + math.sqrt(1 - 0.7**2) * chance.normal(0, noise.together, cell.campaigns)
    return shared


def _own(arm: str, cell: Cell, chance: np.random.Generator) -> Array:
    """Return what each run and each request bears for itself: campaigns by rounds by requests."""
    noise, one_load = cell.noise, cell.layout == "one load"
    runs = (cell.campaigns, cell.rounds, 1)
    shape = (cell.campaigns, cell.rounds, 1 if one_load else REQUESTS)
    cv = noise.exo_cv if arm == "exo" else noise.ollama_cv
    logs = chance.normal(0, cv, (cell.campaigns, 1, 1) if one_load else runs)
    logs = logs + chance.normal(0, noise.request_cv, shape)
    if noise.outlier_chance:
        logs += OUTLIER * (chance.random(runs) < noise.outlier_chance)
    if noise.request_outlier_chance:
        logs += OUTLIER * (chance.random(shape) < noise.request_outlier_chance)
    if noise.sawtooth:
        boost = BOOST_REQUESTS * np.exp(chance.normal(0, 0.5, runs))
        logs += noise.sawtooth * -np.expm1(-(np.arange(shape[2]) + 0.5) / boost)
    return logs
