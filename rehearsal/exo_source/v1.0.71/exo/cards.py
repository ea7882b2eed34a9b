"""Model cards: the 120 static ones of EXO 1.0.71, and what its hub would give for the plan's two models."""

import json
import time
from pathlib import Path

from .flags import RECORDED

SAMPLING = ("temperature", "topP", "topK", "minP", "repetitionPenalty", "presencePenalty", "frequencyPenalty")
MODES = ("thinking", "nonThinking")

HUB = {
    "mlx-community/Qwen2.5-3B-Instruct-4bit": (1_736_293_376, 36, 2048, 0, 2, "qwen2", "4bit", "", 32768, "{}"),
    "mlx-community/Qwen2.5-Coder-32B-Instruct-4bit": (18_431_754_240, 64, 5120, 0, 8, "qwen2", "4bit", "", 32768, "{}"),
}
"""What the hub knows beside the static cards: bytes, layers, hidden size, tensor sharding, KV heads, family, ..."""


def card(model: str, told: tuple, custom: bool) -> dict:
    """Return a model card as it stands in every shard's metadata."""
    size, layers, hidden, tensor, heads, family, quantization, base, context, sampling = told
    return {
        "modelId": model,
        "storageSize": {"inBytes": int(size)},
        "nLayers": int(layers),
        "hiddenSize": int(hidden),
        "supportsTensor": bool(int(tensor)),
        "numKeyValueHeads": int(heads) if heads else None,
        "tasks": ["TextGeneration"],
        "components": None,
        "family": family,
        "quantization": quantization,
        "baseModel": base,
        "capabilities": ["text"],
        "contextLength": int(context),
        "usesCfg": False,
        "trustRemoteCode": True,
        "isCustom": custom,
        "vision": None,
        "samplingDefaults": _sampling(json.loads(sampling)),
    }


def _sampling(told: dict) -> dict:
    """Return sampling defaults with every key, null where nothing is told."""
    plain = {key: told.get(key) for key in SAMPLING}
    modes = {mode: {key: told[mode].get(key) for key in SAMPLING} if mode in told else None for mode in MODES}
    return plain | modes


def static() -> dict[str, dict]:
    """Return the cards that come with the release."""
    lines = (line.split("\t") for line in (RECORDED / "cards.tsv").read_text().splitlines())
    return {fields[0]: card(fields[0], tuple(fields[1:]), custom=False) for fields in lines}


def kept() -> dict[str, dict]:
    """Return the cards that were added from the hub before: EXO keeps them on disk."""
    cards = [json.loads(file.read_text()) for file in sorted(_folder().glob("*.json"))]
    return {one["modelId"]: one for one in cards}


def keep(one: dict) -> None:
    """Keep an added card for the next start."""
    _folder().mkdir(parents=True, exist_ok=True)
    (_folder() / f"{one['modelId'].replace('/', '--')}.json").write_text(json.dumps(one))


def _folder() -> Path:
    return Path.home() / ".local" / "share" / "exo" / "custom_model_cards"


def from_hub(model: str) -> dict | None:
    """Return the card that the hub gives for a model, None where it has none."""
    return card(model, HUB[model], custom=True) if model in HUB else None


def listed(one: dict) -> dict:
    """Return a card as GET /v1/models lists it."""
    return {
        "id": one["modelId"],
        "object": "model",
        "created": int(time.time()),
        "owned_by": "exo",
        "hugging_face_id": one["modelId"],
        "name": one["modelId"].rpartition("/")[2],
        "description": "",
        "context_length": one["contextLength"],
        "tags": [],
        "storage_size_megabytes": one["storageSize"]["inBytes"] // 2**20,
        "supports_tensor": one["supportsTensor"],
        "tasks": one["tasks"],
        "is_custom": one["isCustom"],
        "family": one["family"],
        "quantization": one["quantization"],
        "base_model": one["baseModel"],
        "capabilities": one["capabilities"],
    }


def shard(one: dict, rank: int = 0, world: int = 1) -> dict:
    """Return the metadata of one part of a model that is split into `world` parts by layers."""
    layers = one["nLayers"]
    return {
        "PipelineShardMetadata": {
            "modelCard": one,
            "deviceRank": rank,
            "worldSize": world,
            "immediateException": False,
            "shouldTimeout": None,
            "startLayer": round(rank * layers / world),
            "endLayer": round((rank + 1) * layers / world),
            "nLayers": layers,
        }
    }


def model_of(metadata: dict) -> str:
    """Return the model of a shard's metadata."""
    return next(iter(metadata.values()))["modelCard"]["modelId"]
