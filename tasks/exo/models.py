"""What is known about models before any work: which run on Linux, how big they are, what shape they have.

0.0.x: the cards of v0.0.15-alpha (exo/models.py) that have a repository for tinygrad, its only engine on Linux; an id
with `-8bit` or `-bf16` loads the same 16-bit weights. 1.x: cards of v1.0.71; any other id is added from the model hub.
Sizes are those of the weights' files. `hidden` and `kv_heads` decide whether a layer can be split over N nodes.
"""

from __future__ import annotations

import re

import msgspec


class Known(msgspec.Struct, frozen=True):
    """One model as EXO loads it on Linux."""

    size_bytes: int
    layers: int
    hidden: int
    kv_heads: int
    ollama: str = ""
    """Ollama's name of the same weights at the same precision, "" where there is none."""
    note: str = ""
    """What the name does not say."""
    other_weights: bool = False
    """EXO's copy has the shape of Ollama's model and other weights."""


LINUX_0 = {
    "llama-3.2-1b": Known(2_471_600_000, 16, 2048, 8, "llama3.2:1b-instruct-fp16"),
    "llama-3.2-3b": Known(6_425_500_000, 28, 3072, 8, "llama3.2:3b-instruct-fp16"),
    "llama-3.1-8b": Known(
        16_060_500_000,
        32,
        4096,
        8,
        "llama3.1:8b-instruct-fp16",
        "EXO's copy is mlabonne/Meta-Llama-3.1-8B-Instruct-abliterated: of the same shape, but other weights",
        other_weights=True,
    ),
    "llama-3-8b": Known(
        16_060_500_000,
        32,
        4096,
        8,
        "llama3:8b-instruct-fp16",
        "EXO's copy is SFR-Iterative-DPO-LLaMA-3-8B-R: of the same shape, but other weights",
        other_weights=True,
    ),
    "llama-3.1-70b": Known(141_107_000_000, 80, 8192, 8, "llama3.1:70b-instruct-fp16"),
    "llama-3.3-70b": Known(141_107_000_000, 80, 8192, 8, "llama3.3:70b-instruct-fp16"),
    "llama-3-70b": Known(141_107_000_000, 80, 8192, 8, "llama3:70b-instruct-fp16"),
}

REPOSITORIES_0 = {
    "llama-3.2-1b": "unsloth/Llama-3.2-1B-Instruct",
    "llama-3.2-3b": "unsloth/Llama-3.2-3B-Instruct",
    "llama-3.1-8b": "mlabonne/Meta-Llama-3.1-8B-Instruct-abliterated",
    "llama-3-8b": "TriAiExperiments/SFR-Iterative-DPO-LLaMA-3-8B-R",
    "llama-3.1-70b": "NousResearch/Meta-Llama-3.1-70B-Instruct",
    "llama-3.3-70b": "unsloth/Llama-3.3-70B-Instruct",
    "llama-3-70b": "TriAiExperiments/SFR-Iterative-DPO-LLaMA-3-70B-R",
}
"""Where EXO 0.0.15 fetches these on the model hub, as its log names them."""

LINUX_1 = {
    "mlx-community/Llama-3.2-1B-Instruct-4bit": Known(729_808_896, 16, 2048, 8),
    "mlx-community/Llama-3.2-3B-Instruct-4bit": Known(1_863_319_552, 28, 3072, 8),
    "mlx-community/Llama-3.2-3B-Instruct-8bit": Known(3_501_195_264, 28, 3072, 8),
    "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit": Known(4_637_851_648, 32, 4096, 8),
    "mlx-community/Meta-Llama-3.1-8B-Instruct-8bit": Known(8_954_839_040, 32, 4096, 8),
    "mlx-community/Meta-Llama-3.1-8B-Instruct-bf16": Known(
        16_882_073_600, 32, 4096, 8, "llama3.1:8b-instruct-fp16", "bf16 against F16: both 16 bit"
    ),
    "mlx-community/Llama-3.3-70B-Instruct-4bit": Known(40_652_242_944, 80, 8192, 8),
    # No cards in 1.0.71; shapes from the models' config.json.
    "mlx-community/Qwen2.5-3B-Instruct-4bit": Known(1_740_000_000, 36, 2048, 2),
    "mlx-community/Qwen2.5-7B-Instruct-4bit": Known(4_290_000_000, 28, 3584, 4),
    "mlx-community/Qwen2.5-Coder-32B-Instruct-4bit": Known(18_430_000_000, 64, 5120, 8),
}

TABLES = {"0.0.x": LINUX_0, "1.x": LINUX_1}


def known(generation: str, model: str) -> Known | None:
    """Return what is known of `model`, an id of EXO's, in a generation (`0.0.x`, `1.x`); None where nothing is."""
    table = TABLES.get(generation, {})
    return table.get(plain_id(model) if generation == "0.0.x" else model)


def plain_id(model: str) -> str:
    """Return the id of 0.0.x whose weights `model` loads under Linux: `-8bit` and `-bf16` are Apple's."""
    return re.sub(r"-(8bit|bf16)$", "", model)


def loaded_precision(generation: str, model: str) -> str:
    """Return the precision that EXO really loads on Linux, "" where the id does not tell it."""
    if generation == "0.0.x":
        return "fp16"
    named = re.search(r"-(\d{1,2})bits?\b|-(bf16|fp16)\b", model, re.IGNORECASE)
    if not named:
        return ""
    return f"MLX {named.group(1)}-bit" if named.group(1) else named.group(2).lower()


def bits(precision: str) -> float | None:
    """Return the bits a weight has in `precision` (`F16`, `fp16`, `MLX 4-bit`, `Q4_K_M`), None where it is not told.

    The mixed formats of llama.cpp hold a little more than their name says; the name's number is enough here.
    """
    text = precision.strip().lower()
    if text in ("f16", "fp16", "bf16", "float16", "bfloat16", "half"):
        return 16.0
    if text in ("f32", "fp32", "float32"):
        return 32.0
    named = re.match(r"^(?:mlx[ -]?|mxfp)?(?:i?q)?(\d{1,2})(?:[-_ ]?bits?\b|_|$)", text) or re.search(
        r"(\d{1,2})-bit", text
    )
    return float(named.group(1)) if named and 1 <= int(named.group(1)) <= 32 else None


def equal_precision(one: str, other: str) -> bool:
    """Tell whether two precisions are the same weights for a fair race: both 16-bit floats, or the same name.

    `MLX 4-bit` and `Q4_K_M` are different quantisations of different size.
    """
    if bits(one) == bits(other) == 16.0:
        return True
    return one.strip().lower() == other.strip().lower()
