"""The hosts file of a rehearsal: as /hosts.yaml, with the rehearsal's addresses, ports, keys and short times.

Written as JSON, which is YAML, because only the product's inventory module reads or writes YAML.
"""

from __future__ import annotations

import json
from typing import Any

from rehearsal.layout import USER, Layout
from rehearsal.speeds import MAX_TOKENS

PROFILES = {0: "llama-0015", 1: "qwen-1x"}
HEAD = "# Written by `python -m rehearsal up`: loopback nodes, engines of a set speed. Not your machines.\n"


def hosts(layout: Layout) -> dict[str, Any]:
    """Return the content of the hosts file, before any trap changes it."""
    profile = PROFILES[layout.generation]
    return {
        "profile": profile,
        "nodes": {key: _node(layout, key) for key in ("srv1", "srv2", "rog")},
        "ollama": {
            "srv1": {"node": "srv1", "url": layout.ollama_url("srv1")},
            "rog": {"node": "rog", "url": layout.ollama_url("rog"), "gpu": True},
        },
        "profiles": {profile: _llama(layout) if layout.generation == 0 else _qwen(layout)},
        "bench": {
            "node": "srv1",
            "runs": 5,
            "baseline_runs": 2,
            "requests": 3,
            "warmups": 1,
            "max_tokens": MAX_TOKENS,
            "seed": 20260101 + layout.seed,
            "request_timeout_s": 30,
            "exo_reload": "reload" if layout.generation else "restart",
            "ollama_reload": "reload",
        },
        # Engines and instrument share one machine with whatever else runs on it. An error of 5 % of a rate moves no
        # verdict at the speed-ups that are rehearsed; the shipped limit of 1 % is for machines of one's own.
        "decision": {"target_ratio": 1.30, "confidence": 0.95, "instrument_fraction": 0.05},
        "rehearsal": {"speedup": layout.speedup, "trap": layout.trap, "seed": layout.seed}
        | ({"drift": layout.drift} if layout.drift else {}),
    }


def write_hosts(layout: Layout, content: dict[str, Any]) -> None:
    """Write `content` as the rehearsal's hosts file."""
    layout.hosts_file.write_text(HEAD + json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _node(layout: Layout, key: str) -> dict[str, Any]:
    node = layout.node(key)
    spec: dict[str, Any] = {
        "host": node.address,
        "port": node.ssh_port,
        "user": USER,
        "identity_file": str(layout.root / "id_ed25519"),
        "known_hosts": str(layout.root / "known_hosts"),
        "address": node.address,
    }
    if key == "rog":
        spec["gpu"] = {"name": "Radeon 8060S", "gfx": "gfx1151", "pci_id": "1002:1586"}
    return spec


def _exo(layout: Layout, release: str) -> dict[str, Any]:
    return {
        "release": release,
        "source": str(layout.source),
        "python": ">=3.11",
        "ports": {"api": layout.api_port, "peer": layout.peer_port},
        "install_timeout_s": 180,
        "start_timeout_s": 30,
        "cluster_timeout_s": 20,
        "stands_s": 0.5,
        "download_timeout_s": 60,
    }


def _llama(layout: Layout) -> dict[str, Any]:
    exo = _exo(layout, "0.0.15") | {
        "nodes": {
            "srv1": {"overrides": ["tinygrad==0.10.2"], "environment": {"CPU": "1"}},
            "srv2": {"overrides": ["tinygrad==0.10.2"], "environment": {"CPU": "1"}},
            "rog": {
                "overrides": ["tinygrad==0.11.0"],
                "extras": ["amd-gpu"],
                "environment": {"AMD": "1", "AMD_LLVM": "0"},
            },
        },
    }
    small = ("llama-3.2-3b", "llama3.2:3b-instruct-fp16", "fp16", "F16", 9_838_360)
    large = ("llama-3.1-8b", "llama3.1:8b-instruct-fp16", "fp16", "F16", 9_838_360)
    title = "Stand-in for EXO 0.0.15 with Llama 3.2 3B at 16 bit, GPU on rog"
    return {"title": title, "exo": exo, "models": {"small": _pair(*small), "large": _pair(*large)}}


def _qwen(layout: Layout) -> dict[str, Any]:
    exo = _exo(layout, "1.0.71") | {"extras": ["cpu"], "overrides": ["mlx==0.31.2", "mlx-cpu==0.31.2"]}
    small = ("mlx-community/Qwen2.5-3B-Instruct-4bit", "qwen2.5:3b", "MLX 4-bit", "Q4_K_M", 9_838_360)
    large = ("mlx-community/Qwen2.5-Coder-32B-Instruct-4bit", "qwen2.5-coder:32b", "MLX 4-bit", "Q4_K_M", 9_838_360)
    title = "Stand-in for EXO 1.0.71 with the plan's Qwen 2.5 models at 4 bit"
    return {"title": title, "exo": exo, "models": {"small": _pair(*small), "large": _pair(*large)}}


def _pair(exo: str, ollama: str, exo_precision: str, ollama_precision: str, size: int) -> dict[str, Any]:
    return {
        "exo": exo,
        "ollama": ollama,
        "exo_precision": exo_precision,
        "ollama_precision": ollama_precision,
        "download_bytes": size,
    }
