"""The models that the Ollama stand-ins have, as /api/tags and /api/show describe them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Model:
    """One pulled model. The digest is made up, but stays the same."""

    name: str
    family: str
    parameter_size: str
    quantization: str
    size: int
    parameters: int
    layers: int
    context: int
    scale: float
    """Its speed, as a share of the small models'."""
    file: str = ""
    """The model whose file it shares, where it is only another name; runners are kept by file."""

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(f"rehearsal {self.file or self.name}".encode()).hexdigest()

    def footprint(self, context: int) -> int:
        """Return the bytes that it takes in memory: its file, and a cache of keys and values for its context."""
        return self.size + self.layers * context * 2048

    def details(self, parent: str = "") -> dict[str, Any]:
        """Return the `details` object of several answers."""
        return {
            "parent_model": parent,
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization,
        }

    def info(self) -> dict[str, Any]:
        """Return the `model_info` of /api/show, shortened."""
        file_type = {"F16": 1, "Q4_K_M": 15}[self.quantization]
        return {
            "general.architecture": self.family,
            "general.file_type": file_type,
            "general.parameter_count": self.parameters,
            "general.quantization_version": 2,
            "general.type": "model",
            f"{self.family}.block_count": self.layers,
            f"{self.family}.context_length": self.context,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": None,
        }


LARGE_SCALE = 0.8

MODELS = {
    model.name: model
    for model in (
        Model("llama3.2:3b-instruct-fp16", "llama", "3.2B", "F16", 6_433_703_586, 3_212_749_888, 28, 131072, 1.0),
        Model(
            "llama3.1:8b-instruct-fp16", "llama", "8.0B", "F16", 16_068_910_253, 8_030_261_312, 32, 131072, LARGE_SCALE
        ),
        Model("qwen2.5:3b", "qwen2", "3.1B", "Q4_K_M", 1_929_912_432, 3_085_938_688, 36, 32768, 1.0),
        Model("qwen2.5-coder:32b", "qwen2", "32.8B", "Q4_K_M", 19_851_349_856, 32_763_876_352, 64, 32768, LARGE_SCALE),
    )
}
