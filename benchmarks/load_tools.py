"""aiperf, driven from its command line, as one of `benchmarks.clients`.

It wants a tokenizer even where the server counts the tokens, and fetches one from the network unless it is given a
folder: it is given one that knows single characters. guidellm is not driven: its package needs PyTorch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def aiperf_command(aiperf: str, url: str, model: str, requests: int, folder: Path) -> list[str]:
    """Return the call that streams `requests` chats, one after another, and leaves its records in `folder`."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text(json.dumps(_CHARACTERS))
    (tokenizer / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?", "eos_token": "$", "bos_token": "$"})
    )
    (tokenizer / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    return [
        aiperf, "profile", "--model", model, "--url", url, "--endpoint-type", "chat", "--streaming",
        "--request-count", str(requests), "--concurrency", "1", "--tokenizer", str(tokenizer),
        "--use-server-token-count", "--synthetic-input-tokens-mean", "20", "--ui", "none",
        "--output-artifact-dir", str(folder / "out"),
    ]  # fmt: skip


def aiperf_timings(folder: Path) -> list[list[float]]:
    """Read the records: per request, seconds from its start to each piece of text."""
    timings = []
    for line in (folder / "out" / "profile_export.jsonl").read_text().splitlines():
        metrics = json.loads(line)["metrics"]
        timing = [metrics["time_to_first_token"]["value"] / 1e3]
        for gap_ms in metrics["inter_chunk_latency"]["value"]:
            timing.append(timing[-1] + gap_ms / 1e3)
        timings.append(timing)
    return timings


_CHARACTERS: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": False},
    "post_processor": None, "decoder": {"type": "Fuse"},
    "model": {"type": "WordLevel", "vocab": {chr(32 + code): code for code in range(95)}, "unk_token": "?"},
}  # fmt: skip
