"""The trap gallery: each trap by name, what the plan would have reported, and what it changes in a rehearsal.

A trap is laid at a seam: the content of hosts.yaml, a program on a node's PATH, or the settings that the stand-ins
read. None changes the product. Most are laid before the servers start; `starts` runs once they answer, and `springs`
when the caller says that a step is about to begin (`spring`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal import trap_acts as act
from rehearsal.layout import NODES, Layout, read_layout

Hosts = dict[str, Any]


def _nothing(_layout: Layout, _hosts: Hosts) -> None:
    """Change nothing before the start."""


@dataclass(frozen=True)
class Trap:
    """One trap. `lay` may change the laid-out nodes and the content of hosts.yaml."""

    plan_would_say: str
    really: str
    lay: Callable[[Layout, Hosts], None] = _nothing
    starts: Callable[[Layout], None] | None = None
    springs: tuple[str, Callable[[Layout], None]] | None = None
    """The step before which it springs, and what happens then."""


def exo_of(hosts: Hosts) -> dict[str, Any]:
    """Return the `exo` part of the profile in force."""
    found: dict[str, Any] = hosts["profiles"][hosts["profile"]]["exo"]
    return found


def rog_of(hosts: Hosts) -> dict[str, Any]:
    """Return what that part says for rog alone."""
    found: dict[str, Any] = exo_of(hosts).setdefault("nodes", {}).setdefault("rog", {})
    return found


def small_of(hosts: Hosts) -> dict[str, Any]:
    """Return the small model pair of the profile in force."""
    found: dict[str, Any] = hosts["profiles"][hosts["profile"]]["models"]["small"]
    return found


def tell(layout: Layout, keys: tuple[str, ...], section: str, **values: Any) -> None:
    """Change the settings of nodes in one section."""
    for key in keys:
        path = layout.node(key).settings
        told = json.loads(path.read_text())
        told.setdefault(section, {}).update(values)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(told, indent=2) + "\n")
        aside.replace(path)


def spring(root: Path, step: str) -> str | None:
    """Spring the rehearsal's trap if it is one that waits for `step` (`stop-cluster`, ...); returns its name then."""
    layout = read_layout(root.resolve())
    waiting = TRAPS[layout.trap].springs if layout.trap else None
    if waiting is None or waiting[0] != step:
        return None
    waiting[1](layout)
    return layout.trap


def _without_rocm(layout: Layout) -> None:
    act.remove_rocm(layout)
    tell(layout, ("rog",), "gpu", usable=False)
    tell(layout, ("rog",), "ollama", gpu=False)


def _cache_prompts(layout: Layout) -> None:
    tell(layout, OLLAMAS, "ollama", prompt_cache="always")
    tell(layout, NODES, "exo", prompt_cache="always")


OLLAMAS = ("srv1", "rog")

TRAPS: dict[str, Trap] = {
    "yeast-package": Trap(
        "Successfully installed exo-0.1.2; `exo --version` prints a version",
        "it is the Yeast Epigenome Project's tool",
        lambda layout, hosts: act.yeast(layout, exo_of(hosts)),
    ),
    "wrong-extra": Trap(
        "Successfully installed exo with AMD dependencies",
        "exo has no extra `amd`; pip only warns, and nothing for the GPU is installed",
        lambda _, hosts: rog_of(hosts).update(extras=["amd"]),
    ),
    "one-shot-run": Trap(
        "the PID file is written and the log says that the chat interface started",
        "`exo run` is a one-shot: it never listens and exits 0 after a moment",
        lambda _, hosts: exo_of(hosts).update(flags=["run"]),
    ),
    "split-ports": Trap(
        "three processes run, three dashboards answer",
        "the listen port stays 5678, so nobody hears the broadcasts: three islands",
        lambda layout, hosts: exo_of(hosts).update(
            flags=["--discovery-module", "udp", "--broadcast-port", str(layout.api_port)]
        ),
    ),
    "silent-discovery-error": Trap(
        "three processes run, no error in any log",
        "srv2 cannot read its discovery file and says nothing: an island",
        lambda layout, _: tell(layout, ("srv2",), "exo", discovery_fails=True),
    ),
    "always-ready-models": Trap(
        "the model is listed, `ready: true`",
        "all 73 models always are; the download failed without a trace",
        lambda layout, _: tell(layout, NODES, "exo", download_fails_at=0.4),
    ),
    "hub-unreachable": Trap(
        "the model is listed, `ready: true`, and a chat takes its time",
        "srv2 cannot reach the model hub; EXO asks it 30 times in silence, whatever is on the disk",
        lambda layout, _: tell(layout, ("srv2",), "exo", hub_down=True),
    ),
    "wrong-model": Trap(
        "HTTP 200 and a text, so tokens per second",
        "EXO does not know qwen2.5:3b and answers with llama-3.2-1b",
        lambda _, hosts: small_of(hosts).update(exo="qwen2.5:3b"),
    ),
    "mlx-only-model": Trap(
        "qwen-2.5-3b is in the list of models",
        "its card is for Apple's MLX alone; on Linux every chat is refused with 400",
        lambda _, hosts: small_of(hosts).update(exo="qwen-2.5-3b"),
    ),
    "gpu-on-cpu": Trap(
        "rocm-smi shows the GPU, EXO starts with AMD=1",
        "the pinned tinygrad does not know the Radeon 8060S and falls back to the CPU in silence",
        lambda _, hosts: rog_of(hosts).update(overrides=[]),
    ),
    "rocm-missing": Trap(
        "`rocm-smi: command not found`, or a hit for 8060S in the processor's name",
        "there is no ROCm on rog and no /dev/kfd, so EXO and Ollama both compute on its CPU",
        lambda layout, _: _without_rocm(layout),
    ),
    "second-start": Trap(
        "PID file written, process exists",
        "another EXO holds the API port of srv2; a second one stays alive without an API",
        starts=lambda layout: act.start_stale_exo(layout),
    ),
    "peer-lost": Trap(
        "a slower or a failed request",
        "srv2's EXO dies in the first run and stands in the topology for a while yet",
        lambda layout, _: tell(layout, ("srv2",), "exo", dies_at_prompt=3),
    ),
    "cut-stream": Trap(
        "HTTP 200, a clean end of the stream",
        "half of the tokens are missing, and the finish_reason",
        lambda layout, _: tell(layout, ("srv1",), "exo", cut_stream_at=0.5),
    ),
    "stale-prompt-cache": Trap(
        "faster engines than there are",
        "every prompt but the first is answered from a cache (EXO 1.x's too), so its evaluation is not measured",
        lambda layout, _: _cache_prompts(layout),
    ),
    "cold-load-in-run": Trap(
        "a slower Ollama than there is",
        "rog's Ollama drops the model after each answer, so every timed request loads it",
        lambda layout, _: tell(layout, ("rog",), "ollama", forgets_models=True),
    ),
    "neighbour-loaded": Trap(
        "a slower EXO than there is",
        "somebody else keeps a large model loaded in rog's Ollama",
        lambda layout, _: tell(layout, ("rog",), "ollama", others_use=["qwen2.5-coder:32b"]),
    ),
    "unequal-length": Trap(
        "tokens per second as if the work were the same",
        "Ollama stops after 60 % of the tokens",
        lambda layout, _: tell(layout, OLLAMAS, "ollama", length_share=0.6),
    ),
    "mixed-revisions": Trap(
        "exo 0.0.1 on all nodes",
        "srv2 has another revision, and every revision calls itself 0.0.1",
        lambda layout, _: act.other_revision(layout, "srv2"),
    ),
    "recycled-pid": Trap(
        "`kill $(cat pid)`: done",
        "srv2's EXO is long gone, and its PID belongs to somebody else's process, which the plan kills",
        springs=("stop-cluster", lambda layout: act.recycle_pid(layout, "srv2")),
    ),
    "ollama-changed": Trap(
        "Ollama still answers with a number of models",
        "rog's Ollama is another version now and lacks a model",
        lambda layout, _: tell(
            layout, ("rog",), "ollama", changes_after=4, new_version="0.5.14", lost_model="qwen2.5-coder:32b"
        ),
    ),
    "relayed-tailnet": Trap(
        "the nodes reach each other",
        "through a relay (DERP): each hop costs tens of milliseconds, per token",
        lambda layout, _: act.relay(layout, "fra"),
    ),
}
