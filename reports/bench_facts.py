"""What steps 9 to 14 found, as frozen structs; `reports.facts` has the other steps' and says why they live here."""

from __future__ import annotations

from typing import Literal

import msgspec


class OllamaModel(msgspec.Struct, frozen=True):
    """One baseline's model as its server describes it."""

    arm: str
    model: str
    digest: str
    quantization: str | None
    parameter_size: str | None
    size_bytes: int | None
    size_vram_bytes: int | None = None
    """0 means it runs on the CPU; None where the model was not loaded when asked."""


class ModelReady(msgspec.Struct, frozen=True):
    """Step 9: the model pair is on the nodes and the cluster answers under the right name."""

    pair: str
    exo_model: str
    exo_answered: str
    exo_precision: str
    first_answer_s: float
    downloaded: dict[str, str]
    """Node -> what is there, in words ("3.2 GB, 9 of 9 files")."""
    ollama: dict[str, OllamaModel]


class Calibration(msgspec.Struct, frozen=True):
    """The instrument's own error at one speed of a server whose truth is known."""

    tokens_per_s: float
    tokens_per_frame: int
    requests: int
    first_token_error_mean_s: float
    first_token_error_p99_s: float
    inter_token_error_mean_s: float
    inter_token_error_p99_s: float
    rate_error_mean_fraction: float
    rate_error_p99_fraction: float


class ScriptReady(msgspec.Struct, frozen=True):
    """Step 10."""

    node: str
    path: str
    sha256: str
    python_version: str
    calibration: list[Calibration]


class Benchmark(msgspec.Struct, frozen=True):
    """Steps 11, 12 and 13: what was measured; the samples themselves lie beside the record."""

    pair: str
    exo_model: str | None
    """None in step 11, which measures Ollama alone."""
    ollama_model: str
    arms: list[str]
    runs: int
    requests: int
    warmups: int
    max_tokens: int
    seed: int
    order: list[str]
    """The schedule in the order it ran, `arm:run`."""
    reload: dict[str, str]
    devices: dict[str, str]
    """Arm -> where it computed, in the server's own words."""
    gpu_claims: dict[str, bool] = {}
    """Arm -> whether hosts.yaml says that it computes on a GPU."""
    gpu_kinds: dict[str, Literal["gpu", "cpu", "unknown"]] = {}
    topology_start: dict[str, bool] = {}
    topology_end: dict[str, bool] = {}
    ollama: dict[str, OllamaModel] = {}
    exo_precision: str = ""
    resumed: int = 0
    """Finished runs that an earlier, interrupted call had left."""
    until_decided: bool = False
    """`--until-decided`: run i of every arm is pair i, and the rule with three looks decides."""


class Skipped(msgspec.Struct, frozen=True):
    """A step that was left out on purpose."""

    reason: str


class Documented(msgspec.Struct, frozen=True):
    """Step 14."""

    verdict: str
    files: list[str]
    commit: str | None = None
