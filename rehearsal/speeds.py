"""The truth of a rehearsal: how fast each engine really is.

The product's primary metric is output tokens / wall time of the request. An answer of n tokens takes
`first_token_s + (n - 1) / tokens_per_s` (rehearsal.engine.pace), so an engine whose two numbers are both better by a
factor s is better by exactly s in that metric, whatever n is. EXO is the faster baseline, times `speedup`.
"""

from __future__ import annotations

from typing import Any

from rehearsal.layout import Layout
from rehearsal.ollama.models import LARGE_SCALE

OLLAMA = {
    "srv1": {"first_token_s": 0.070, "tokens_per_s": 75.0},
    "rog": {"first_token_s": 0.045, "tokens_per_s": 110.0},
}
"""Node -> the small models' speed there; rog's is the faster one."""
MAX_TOKENS = 32
GPU_MEMORY_BYTES = 64 * 2**30


def settings(layout: Layout, key: str) -> dict[str, Any]:
    """Return the content of a node's `.rehearsal.json`."""
    noise = {"noise": layout.noise, "seed": layout.seed}
    if layout.drift:
        noise |= {"drift": layout.drift, "drift_from_s": layout.drift_from_s, "drift_over_s": layout.drift_over_s}
    best = OLLAMA["rog"]
    exo = {
        "first_token_s": best["first_token_s"] / layout.speedup,
        "tokens_per_s": best["tokens_per_s"] * layout.speedup,
        "scale": dict.fromkeys(LARGE_EXO_MODELS, LARGE_SCALE),
        "cold_s": 0.3,
        "download_s": 2.5,
        "stale_s": 3.0,
    }
    told: dict[str, Any] = {"exo": exo | noise}
    if key in OLLAMA:
        told["ollama"] = OLLAMA[key] | noise | {"node": key, "load_s": 0.15, "gpu": key == "rog"}
    if key == "rog":
        told["gpu"] = {"usable": True, "name": "AMD Radeon Graphics", "memory_bytes": GPU_MEMORY_BYTES}
    return told


LARGE_EXO_MODELS = ("llama-3.1-8b", "mlx-community/Qwen2.5-Coder-32B-Instruct-4bit")
