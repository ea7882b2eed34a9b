"""A llama of the hub's layout, scaled down until a CPU computes a token in milliseconds; its weights are noise.

EXO 1.x takes a model's shape from its config.json. EXO 0.0.15 knows its shapes by heart (MODEL_PARAMS, model_cards), so
its copy under test is told the small ones. Most of a token's time there is tinygrad's own Python, in proportion to the
layers, so these are few: two a node.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WIDTH, HEADS, KV_HEADS, HIDDEN, LAYERS = 128, 8, 4, 256, 6
SPECIAL = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
MODELS = {
    "llama-3.2-3b": (3072, "unsloth/Llama-3.2-3B-Instruct"),
    "llama-3.1-8b": (4096, "mlabonne/Meta-Llama-3.1-8B-Instruct-abliterated"),
}
"""Model -> its real width, by which its shape is found, and where EXO fetches it from."""
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def scale_down(checkout: Path) -> None:
    """Change the shapes of both models in a checkout of EXO 0.0.15. Raises ValueError where they are not found."""
    small = (
        f'"dim": {WIDTH}, "n_heads": {HEADS}, "n_kv_heads": {KV_HEADS}, "n_layers": {LAYERS},'
        rf'\1"vocab_size": {len(vocabulary_of())}, "hidden_dim": {HIDDEN}'
    )
    for model, (width, _) in MODELS.items():
        head = rf'"dim": {width}, "n_heads": \d+, "n_kv_heads": \d+, "n_layers": \d+,'
        shape = head + r'(.*?)"vocab_size": \d+, "hidden_dim": \d+'
        _replace(checkout / "exo/inference/tinygrad/inference.py", shape, small)
        _replace(checkout / "exo/models.py", rf'("{model}": {{\s+"layers": )\d+', rf"\g<1>{LAYERS}")


def _replace(path: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, path.read_text())
    if count != 1:
        raise ValueError(f"{path}: {pattern} is there {count} times; is this EXO v0.0.15-alpha?")
    path.write_text(text)


def write_models(hub: Path, models: Iterable[tuple[int, str]]) -> None:
    """Write the repositories of `models` (its weights follow from the number) below `hub`."""
    for number, repo in models:
        folder = hub / repo
        folder.mkdir(parents=True)
        _write_tokenizer(folder)
        _write_weights(folder, random.Random(number))
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": WIDTH,
            "intermediate_size": HIDDEN,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "num_hidden_layers": LAYERS,
            "vocab_size": len(vocabulary_of()),
            "rms_norm_eps": 1e-05,
            "max_position_embeddings": 8192,
        }
        (folder / "config.json").write_text(json.dumps(config))


def vocabulary_of() -> list[str]:
    """Return the tokens: the special ones, then every byte as byte-level BPE writes it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    odd = [byte for byte in range(256) if byte not in plain]
    written = {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(odd)}
    return [*SPECIAL, *(written[byte] for byte in range(256))]


def _write_tokenizer(folder: Path) -> None:
    tokens = vocabulary_of()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [{"id": n, "content": text, "special": True} | flags for n, text in enumerate(SPECIAL)],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {text: n for n, text in enumerate(tokens)}, "merges": []},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _write_weights(folder: Path, dice: random.Random) -> None:
    """Write one safetensors file and its index; embedding and head are one matrix."""
    width, kv_width = WIDTH, WIDTH // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (len(vocabulary_of()), width)}
    for n in range(LAYERS):
        at = f"model.layers.{n}."
        shapes |= {
            at + "input_layernorm.weight": (width,),
            at + "post_attention_layernorm.weight": (width,),
            at + "self_attn.q_proj.weight": (width, width),
            at + "self_attn.k_proj.weight": (kv_width, width),
            at + "self_attn.v_proj.weight": (kv_width, width),
            at + "self_attn.o_proj.weight": (width, width),
            at + "mlp.gate_proj.weight": (HIDDEN, width),
            at + "mlp.up_proj.weight": (HIDDEN, width),
            at + "mlp.down_proj.weight": (width, HIDDEN),
        }
    shapes["model.norm.weight"] = (width,)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, shape in shapes.items():
        values = _values(name, shape, dice)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(body), len(body) + len(values)]}
        body += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file = "model-00001-of-00001.safetensors"
    (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + body)
    index = {"metadata": {"total_size": len(body)}, "weight_map": dict.fromkeys(shapes, file)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _values(name: str, shape: tuple[int, ...], dice: random.Random) -> bytes:
    """Return a tensor at 16 bit: ones for a norm, else noise of 256 different values that keeps a signal's size."""
    if len(shape) == 1:
        return struct.pack("<e", 1.0) * shape[0]
    deviation = 1.0 if "embed" in name else shape[1] ** -0.5
    halves = [struct.pack("<e", dice.gauss(0, deviation)) for _ in range(256)]
    noise = dice.randbytes(shape[0] * shape[1])
    values = bytearray(2 * len(noise))
    values[0::2] = noise.translate(bytes(half[0] for half in halves))
    values[1::2] = noise.translate(bytes(half[1] for half in halves))
    if "embed" in name:
        # A zero row is never the likeliest next token: no answer ends before its length.
        values[: 2 * len(SPECIAL) * shape[1]] = bytes(2 * len(SPECIAL) * shape[1])
    return bytes(values)
