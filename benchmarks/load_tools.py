"""Load generators, driven from their command lines as their manuals show: aiperf, guidellm, llama-benchy.

All three want a tokenizer even where the server counts the tokens, and fetch one from the network unless they are given
a folder: they are given one that knows single characters. They run in a home of their own, which goes with the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.seen import Seen

BOOK = "http://notes.invalid"
"""llama-benchy cuts its prompts out of a notes that it fetches once; it finds this one in its cache."""


class LoadTool(msgspec.Struct, frozen=True):
    """How one tool is called and where it leaves its numbers."""

    command: Callable[[str, str, str, int, Path], list[str]]
    """(program, url, model, requests, folder) -> the call that streams `requests` chats, one after another."""
    read: Callable[[Path], list[Seen]]
    """folder -> what it saw, in the order of the requests."""
    offline: bool = True
    """Whether it may be told to ask no hub."""


def find_tool(name: str) -> str | None:
    """Return where a tool is installed: beside this interpreter or on the PATH; None where it is missing."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def prepare(tool: LoadTool, folder: Path) -> dict[str, str]:
    """Put into `folder` what the tools read; return the environment that keeps what they write in it as well."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text(json.dumps(_CHARACTERS))
    (tokenizer / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?", "eos_token": "$", "bos_token": "$"})
    )
    (tokenizer / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    prompts = [json.dumps({"prompt": f"Count to {number}."}) for number in range(100)]
    (folder / "prompts.jsonl").write_text("\n".join(prompts))
    notes = folder / ".cache" / "llama-benchy" / f"{hashlib.md5(BOOK.encode(), usedforsecurity=False).hexdigest()}.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("The clock on the wall went tick, and tock. " * 500)
    return {**os.environ, "HOME": str(folder), **({"HF_HUB_OFFLINE": "1"} if tool.offline else {})}


def _aiperf(program: str, url: str, model: str, requests: int, folder: Path) -> list[str]:
    return [
        program, "profile", "--model", model, "--url", url, "--endpoint-type", "chat", "--streaming",
        "--request-count", str(requests), "--concurrency", "1", "--tokenizer", str(folder / "tokenizer"),
        "--use-server-token-count", "--synthetic-input-tokens-mean", "20", "--ui", "none",
        "--output-artifact-dir", str(folder / "out"),
    ]  # fmt: skip


def read_aiperf(folder: Path) -> list[Seen]:
    """Read aiperf's records: a line a request as it ended, with its first token and its gaps in milliseconds."""
    lines = [json.loads(line) for line in (folder / "out" / "profile_export.jsonl").read_text().splitlines()]
    seen = []
    for line in sorted(lines, key=lambda line: int(line["metadata"]["request_start_ns"])):
        gaps_s = [gap_ms / 1e3 for gap_ms in line["metrics"]["inter_chunk_latency"]["value"]]
        seen.append(Seen(line["metrics"]["time_to_first_token"]["value"] / 1e3, sum(gaps_s), gaps_s))
    return seen


def _guidellm(program: str, url: str, model: str, requests: int, folder: Path) -> list[str]:
    return [
        program, "run", "--backend", f"kind=openai_http,target={url},model={model},validate_backend=false",
        "--profile", "kind=synchronous", "--constraint", f"kind=max_requests,count={requests}",
        "--data", f"kind=json_file,path={folder / 'prompts.jsonl'}",
        "--tokenizer", f"kind=huggingface_auto,model={folder / 'tokenizer'}",
        "--output", f"kind=json,path={folder / 'guidellm.json'}", "--disable-console",
    ]  # fmt: skip


def read_guidellm(folder: Path) -> list[Seen]:
    """Read guidellm's report; of each request it keeps the first and the last token's time, and no gaps."""
    benchmark = json.loads((folder / "guidellm.json").read_text())["benchmarks"][0]
    every = [request["info"]["timings"] for request in benchmark["requests"]["successful"]]
    return [
        Seen(
            first_s=times["first_token_iteration"] - times["request_start"],
            span_s=times["last_token_iteration"] - times["first_token_iteration"],
        )
        for times in sorted(every, key=lambda times: float(times["request_start"]))
    ]


def _llama_benchy(program: str, url: str, model: str, requests: int, folder: Path) -> list[str]:
    return [
        program, "--base-url", f"{url}/v1", "--model", model, "--tokenizer", str(folder / "tokenizer"),
        "--notes-url", BOOK, "--pp", "20", "--tg", "50", "--runs", str(requests), "--latency-mode", "none",
        "--no-warmup", "--skip-coherence", "--no-adapt-prompt", "--format", "json", "--save-result",
        str(folder / "llama-benchy.json"),
    ]  # fmt: skip


def read_llama_benchy(folder: Path) -> list[Seen]:
    """Read llama-benchy's report: per run the first token in milliseconds and the rate of the tokens after it.

    The rate counts the usage's tokens but the first; the metronome sends what its model's name says.
    """
    report = json.loads((folder / "llama-benchy.json").read_text())
    tokens = int(report["model"].split("-")[3])
    run = report["benchmarks"][0]
    pairs = zip(run["e2e_ttft"]["values"], run["tg_req_throughput"]["values"], strict=True)
    return [Seen(first_s=first_ms / 1e3, span_s=(tokens - 1) / rate) for first_ms, rate in pairs]


TOOLS = {
    "aiperf": LoadTool(_aiperf, read_aiperf, offline=False),  # offline it takes the folder for a name on the hub
    "guidellm": LoadTool(_guidellm, read_guidellm),
    "llama-benchy": LoadTool(_llama_benchy, read_llama_benchy),
}

_CHARACTERS: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": False},
    "post_processor": None, "decoder": {"type": "Fuse"},
    "model": {"type": "WordLevel", "vocab": {chr(32 + code): code for code in range(95)}, "unk_token": "?"},
}  # fmt: skip
