"""The trap gallery: each trap by name, what the plan would have reported, what catches it, and what it changes.

A trap is laid at a seam: the content of hosts.yaml, a program on a node's PATH, or the settings that the stand-ins
read. None changes the product. Most are laid before the servers start; `starts` runs once they answer, and `springs`
when the caller says that a step is about to begin (`spring`). `python -m rehearsal.traps` prints docs/traps.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal import trap_acts as act
from rehearsal.layout import NODES, Layout, read_layout
from rehearsal.shims import lay_load

Hosts = dict[str, Any]


def _nothing(_layout: Layout, _hosts: Hosts) -> None:
    """Change nothing before the start."""


@dataclass(frozen=True)
class Trap:
    """One trap. `lay` may change the laid-out nodes and the content of hosts.yaml."""

    plan_would_say: str
    really: str
    caught_by: str
    lay: Callable[[Layout, Hosts], None] = _nothing
    starts: Callable[[Layout], None] | None = None
    springs: tuple[str, Callable[[Layout], None]] | None = None
    """The step before which it springs, and what happens then."""


def exo_of(hosts: Hosts) -> dict[str, Any]:
    """Return the `exo` part of the profile in force."""
    found: dict[str, Any] = hosts["profiles"][hosts["profile"]]["exo"]
    return found


def node_of(hosts: Hosts, key: str) -> dict[str, Any]:
    """Return what that part says for one node alone."""
    found: dict[str, Any] = exo_of(hosts).setdefault("nodes", {}).setdefault(key, {})
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


def _log_out(layout: Layout) -> None:
    act.lay_logind(layout)
    tell(layout, NODES, "login", kills_user_processes=True)


def _stick(layout: Layout, hosts: Hosts) -> None:
    exo_of(hosts).update(download_timeout_s=600)  # the rehearsal's own is as short as the patience with a placement
    for key, state in zip(NODES, ("Idle", "Idle", "Connecting"), strict=True):
        tell(layout, (key,), "exo", stuck_in=[f"Runner{state}"], holds_on=key == "srv2")


OLLAMAS = ("srv1", "rog")

TRAPS: dict[str, Trap] = {
    "yeast-package": Trap(
        "Successfully installed exo-0.1.2; `exo --version` prints a version",
        "it is the Yeast Epigenome Project's tool",
        "`fab install`: the node's own `exo --help` is asked, and the Yeast Epigenome Project's tool is refused "
        "by name; hosts.yaml refuses the bare name `exo` as a source before that",
        lambda layout, hosts: act.yeast(layout, exo_of(hosts)),
    ),
    "wrong-extra": Trap(
        "Successfully installed exo with AMD dependencies",
        "exo has no extra `amd`; pip only warns, and nothing for the GPU is installed",
        '`fab install`: pip\'s warning "does not provide the extra" is an error',
        lambda _, hosts: node_of(hosts, "rog").update(extras=["amd"]),
    ),
    "one-shot-run": Trap(
        "the PID file is written and the log says that the chat interface started",
        "`exo run` is a one-shot: it never listens and exits 0 after a moment",
        "`fab start`: the process must answer on its own port; one that ends by itself is told with its last words",
        lambda _, hosts: exo_of(hosts).update(flags=["run"]),
    ),
    "split-ports": Trap(
        "three processes run, three dashboards answer",
        "the listen port stays 5678, so nobody hears the broadcasts: three islands",
        "`fab verify-cluster`: every node's own topology must hold all nodes; the generated discovery names the "
        "peers instead of broadcasting",
        lambda layout, hosts: exo_of(hosts).update(
            flags=["--discovery-module", "udp", "--broadcast-port", str(layout.api_port)]
        ),
    ),
    "silent-discovery-error": Trap(
        "three processes run, no error in any log",
        "srv2 cannot read its discovery file and says nothing: an island",
        "`fab verify-cluster`: the island sees only itself, whatever its log says",
        lambda layout, _: tell(layout, ("srv2",), "exo", discovery_fails=True),
    ),
    "always-ready-models": Trap(
        "the model is listed, `ready: true`",
        "all 73 models always are; the download failed without a trace",
        "`fab download-model`: the model must answer a chat; a list proves nothing",
        lambda layout, _: tell(layout, NODES, "exo", download_fails_at=0.4),
    ),
    "hub-unreachable": Trap(
        "the model is listed, `ready: true`, and a chat takes its time",
        "srv2 cannot reach the model hub; EXO asks it 30 times in silence, whatever is on the disk",
        "`fab download-model`: where a node shows no download, or the chat fails, its own log is asked, and the "
        "hub's error told within seconds",
        lambda layout, _: tell(layout, ("srv2",), "exo", hub_down=True),
    ),
    "readonly-ring": Trap(
        "three processes run, the topology is complete, the log of the node that was asked holds no error",
        "srv1's tinygrad refuses the read-only arrays that a ring hands on: the prompt passes, the first token sent "
        "back ends in srv1's log, and the chat hangs for 900 s",
        "`fab download-model`: every node's log is read while the first answer is awaited, and the line told within "
        "seconds with its node and the version to set",
        lambda layout, _: tell(layout, ("srv1",), "exo", stall="read-only array"),
    ),
    "empty-shard": Trap(
        "three processes run, the topology is complete, most logs hold no error",
        "EXO deals no layer to a node with little memory: `IndexError` in srv2's log, and the chat hangs for 900 s",
        "`fab download-model`: every node's log is read while the first answer is awaited, and the line told within "
        "seconds",
        lambda layout, _: tell(layout, ("srv2",), "exo", stall="empty shard"),
    ),
    "wrong-model": Trap(
        "HTTP 200 and a text, so tokens per second",
        "EXO does not know qwen2.5:3b and answers with llama-3.2-1b",
        "`fab download-model`: the answer's `model` must be the id asked for; the script refuses such a sample as well",
        lambda _, hosts: small_of(hosts).update(exo="qwen2.5:3b"),
    ),
    "mlx-only-model": Trap(
        "qwen-2.5-3b is in the list of models",
        "its card is for Apple's MLX alone; on Linux every chat is refused with 400",
        "`fab preflight` before any work, and `fab download-model`: the refusal is told with the models that do "
        "run on Linux",
        lambda _, hosts: small_of(hosts).update(exo="qwen-2.5-3b"),
    ),
    "readonly-array": Trap(
        "three nodes, one dashboard; each node alone answers",
        "srv2's tinygrad (0.10.3 and later) refuses on a CPU the read-only arrays in which EXO hands on a hidden "
        "state: the ring's first chat hangs, and one node's log alone says why",
        "`fab install-srv2`: the compute probe does in EXO's own venv and environment what a prompt will do, and "
        "fails with the engine's words, the cause and the version to pin",
        lambda _, hosts: node_of(hosts, "srv2").update(overrides=["tinygrad==0.10.3"]),
    ),
    "amd-mask": Trap(
        "rocm-smi shows the GPU, EXO starts with AMD=1, its topology says AMD",
        "tinygrad 0.11.0 compiles with LLVM, which refuses llama's half-precision mask: HTTP 500 at the first prompt "
        "of more than a few tokens, and no log has the cause",
        "`fab install-rog`: the compute probe builds that mask on the GPU, and fails at it",
        lambda _, hosts: node_of(hosts, "rog").update(environment={"AMD": "1"}),
    ),
    "amd-pinned-tinygrad": Trap(
        "rocm-smi shows the GPU, EXO starts with AMD=1, its topology says AMD",
        "the tinygrad that EXO pins lacks its AMD part as packaged: HTTP 500 at every prompt",
        "`fab install-rog`: the compute probe computes nothing there, and names the version that does",
        lambda _, hosts: node_of(hosts, "rog").update(overrides=[]),
    ),
    "amd-without-pyrsmi": Trap(
        "Successfully installed exo; the PID file is written",
        "with AMD=1 EXO asks pyrsmi about the GPU, which the extra `amd-gpu` brings: it crashes at its start",
        "`fab install-rog`: the compute probe asks pyrsmi as EXO does",
        lambda _, hosts: node_of(hosts, "rog").update(extras=[]),
    ),
    "amd-without-comgr": Trap(
        "rocm-smi shows the GPU, EXO starts with AMD=1, its topology says AMD",
        "rog has no libamd_comgr, with which tinygrad compiles for its GPU: HTTP 500 at every prompt",
        "`fab install-rog`: the compute probe compiles there, and names the package that is missing",
        lambda layout, _: tell(layout, ("rog",), "gpu", comgr=False),
    ),
    "no-clang": Trap(
        "Successfully installed exo; a dashboard answers",
        "srv1 has no clang, with which tinygrad compiles for the CPU: every prompt fails",
        "`fab install-srv1`: the compute probe compiles there, and names clang",
        lambda layout, _: tell(layout, ("srv1",), "cpu", clang=False),
    ),
    "mlx-as-locked": Trap(
        "Successfully installed exo 1.0.71; three dashboards answer",
        "the mlx that EXO 1.0.71 locks lacks `new_thread_local_stream`: no model ever runs on Linux",
        "`fab install`, profile `qwen-1x`: the compute probe asks for such a stream",
        lambda _, hosts: exo_of(hosts).update(overrides=[]),
    ),
    "rocm-missing": Trap(
        "`rocm-smi: command not found`, or a hit for 8060S in the processor's name",
        "there is no ROCm on rog and no /dev/kfd: EXO ends at its start, and Ollama computes on rog's CPU",
        "`fab install-rog`: rocm-smi, rocminfo, sysfs and /dev/kfd are asked, the processor's name is no witness, and "
        "the compute probe says what EXO would end with",
        lambda layout, _: _without_rocm(layout),
    ),
    "second-start": Trap(
        "PID file written, process exists",
        "another EXO holds the API port of srv2; a second one stays alive without an API",
        "`fab start`: the ports must be free before, and the listening socket must be our own process's after",
        starts=lambda layout: act.start_stale_exo(layout),
    ),
    "redialled-peers": Trap(
        "three processes run, three APIs answer, every topology is complete",
        "EXO 1.0.71 dials the addresses of --bootstrap-peers again every five seconds, and each connection starts an "
        "election: complete all the while, and no command is taken",
        "`fab verify-cluster`, profile `qwen-1x`: all nodes must be complete together for a time in which no log tells "
        "of an election, no connection is new, and a POST is answered promptly",
        lambda layout, hosts: act.redial(layout, "srv2", exo_of(hosts)),
    ),
    "stuck-placement": Trap(
        "the model is placed: HTTP 200, and an instance is listed on three nodes",
        "one runner of EXO 1.0.71 connects, the others idle, for good; srv2's EXO waits for its runner's word",
        "`fab download-model`, profile `qwen-1x`: a placement that stands still for 8 s is deleted, a runner "
        "that outlives it is ended, and it is made again, twenty times at most; then the nodes are named",
        _stick,
    ),
    "dead-ring": Trap(
        "every topology is complete, every runner is ready",
        "after a link was cut and mended no chat is answered any more, and none fails",
        "before each run of EXO 1.x a chat must pass through the ring; one on which no node works for a minute is "
        "given up, and the model placed again",
        lambda layout, _: tell(layout, ("srv1",), "exo", ring_dies_in=1),
    ),
    "error-frame": Trap(
        "HTTP 200, `data: [DONE]`: a clean end of the stream",
        "a runner of EXO 1.0.71 was killed in the answer, which holds an `error` frame and half of the tokens",
        "the script reads the frame; the run is lost, stays in the data, and is measured again as a whole; the check "
        "*errors* tells it once",
        lambda layout, _: tell(layout, ("srv1",), "exo", runner_dies_in=3),
    ),
    "logout-kills": Trap(
        "PID file written, process exists, port answers",
        "logind ends what a login leaves behind (`KillUserProcesses=yes`): EXO is gone with the SSH connection",
        "`fab start`: the SSH connection is closed and opened again before a start counts, and `loginctl "
        "enable-linger` is named",
        lambda layout, _: _log_out(layout),
    ),
    "peer-lost": Trap(
        "a slower or a failed request",
        "srv2's EXO dies in the first run and stands in the topology for a while yet",
        "the cluster is asked before and after every EXO run, and a complete topology is believed only while all "
        "our processes live",
        lambda layout, _: tell(layout, ("srv2",), "exo", dies_at_prompt=3),
    ),
    "cut-stream": Trap(
        "HTTP 200, a clean end of the stream",
        "half of the tokens are missing, and the finish_reason",
        "the script: a stream without `finish_reason` is a failed request; the check *errors*",
        lambda layout, _: tell(layout, ("srv1",), "exo", cut_stream_at=0.5),
    ),
    "stale-prompt-cache": Trap(
        "faster engines than there are",
        "every prompt but the first is answered from a cache (EXO 1.x's too), so its evaluation is not measured",
        "prompts differ from their first words; the check *no cache* reads what the server tells of its prompt "
        "evaluation",
        lambda layout, _: _cache_prompts(layout),
    ),
    "cold-load-in-run": Trap(
        "a slower Ollama than there is",
        "rog's Ollama drops the model after each answer, so every timed request loads it",
        "warm-ups are discarded; the check *warm* reads the load time that the server tells",
        lambda layout, _: tell(layout, ("rog",), "ollama", forgets_models=True),
    ),
    "constant-overhead": Trap(
        "a slower Ollama than there is, without a word why",
        "rog's Ollama (0.2x to 0.32.14) spends 97 to 345 ms in every request of a loaded model before it looks at the "
        "prompt, and tells them as `load_duration`",
        "no load and no INVALID: the check *warm* takes for a load what stands out or comes near the load at the run's "
        "start, unless the engine's process stayed the same; the report says how much of the ratio the overhead is",
        lambda layout, _: tell(layout, ("rog",), "ollama", warm_load_s=[0.06, 0.12], load_s=0.6),
    ),
    "two-names-one-file": Trap(
        "a freshly loaded Ollama in every run",
        "another client keeps the model loaded under another name of the same file: nothing is ever loaded afresh, and "
        "`/api/ps` shows that other name",
        "models in memory are known by digest: before anything is measured the server is named that does not let go, "
        "and the name that holds it",
        lambda layout, hosts: tell(
            layout, ("rog",), "ollama", others_use=["Notes:Latest"], aliases={"Notes:Latest": small_of(hosts)["ollama"]}
        ),
    ),
    "runner-killed": Trap(
        "HTTP 200, a clean end of the stream, half of the tokens",
        "the process that computes for rog's Ollama is killed in an answer; `/api/ps` goes on listing the model, and "
        "the next request loads it in silence",
        "the script reads the `error` line; the run is lost, stays in the data, and is measured again as a whole; the "
        "check *errors* tells it once",
        lambda layout, _: tell(layout, ("rog",), "ollama", runner_dies_at=4),
    ),
    "neighbour-comes": Trap(
        "a slower Ollama than there is, and so a faster EXO",
        "somebody loads a large model into rog's Ollama in the middle of a run, and leaves it there",
        "`/api/ps` of every Ollama is asked before and after each run, the measured one included; the check *no "
        "neighbour* names the run",
        lambda layout, _: tell(layout, ("rog",), "ollama", others_use=["qwen2.5-coder:32b"], others_come_after=4),
    ),
    "engine-left-behind": Trap(
        "a slower Ollama than there is",
        "rog's Ollama was killed and started again: the process that computed for it still runs, and no `/api/ps` "
        "lists it",
        "engines whose parent is no Ollama are looked for on the node before each run, and named with their PID",
        lambda layout, _: act.leave_engine(layout, "rog"),
    ),
    "cpu-under-a-gpu": Trap(
        "a slow best single node",
        "rog's Ollama loads its model on the CPU though the GPU is there (0.30 and later without OLLAMA_IGPU_ENABLE=1)",
        "`fab download-model` loads every Ollama's model once and reads back where it is, before the hours",
        lambda layout, _: tell(layout, ("rog",), "ollama", gpu=False),
    ),
    "neighbour-loaded": Trap(
        "a slower EXO than there is",
        "somebody else keeps a large model loaded in rog's Ollama",
        "every other arm is unloaded and `/api/ps` is asked before each run; the check *no neighbour*",
        lambda layout, _: tell(layout, ("rog",), "ollama", others_use=["qwen2.5-coder:32b"]),
    ),
    "busy-machine": Trap(
        "a slower EXO than there is",
        "a build farm's job keeps every core of srv2 busy, and nobody looks at the load",
        "the load average of every node is noted before each run; the check *no neighbour*",
        lambda layout, _: lay_load(layout, "srv2", 31.4),
    ),
    "unequal-length": Trap(
        "tokens per second as if the work were the same",
        "Ollama stops after 60 % of the tokens",
        "the length is fixed on every arm; the check *same work*",
        lambda layout, _: tell(layout, OLLAMAS, "ollama", length_share=0.6),
    ),
    "mixed-revisions": Trap(
        "exo 0.0.1 on all nodes",
        "srv2 has another revision, and every revision calls itself 0.0.1",
        "`fab install` compares commits, or digests of the installed files, over all nodes",
        lambda layout, _: act.other_revision(layout, "srv2"),
    ),
    "recycled-pid": Trap(
        "`kill $(cat pid)`: done",
        "srv2's EXO is long gone, and its PID belongs to somebody else's process, which the plan kills",
        "`fab cleanup` signals a process only if PID, start time, boot and command line are those noted at its start",
        springs=("stop-cluster", lambda layout: act.recycle_pid(layout, "srv2")),
    ),
    "killed-leader": Trap(
        "`kill $(cat pid)`: no such process; nothing runs",
        "srv2's EXO 1.x was killed, and its runner lives on with the model in its memory",
        "`fab cleanup`, profile `qwen-1x`: what an EXO of ours has started is found by a mark that it inherits, with "
        "its leader gone",
        springs=("stop-cluster", lambda layout: act.kill_leader(layout, "srv2")),
    ),
    "ollama-changed": Trap(
        "Ollama still answers with a number of models",
        "rog's Ollama is another version now and lacks a model",
        "the version is asked before each run, and one that changed ends `fab bench` at that moment; `fab cleanup` "
        "compares version and model digests with those before the first step; the check *Ollama unaffected*",
        lambda layout, _: tell(
            layout, ("rog",), "ollama", changes_after=4, new_version="0.5.14", lost_model="qwen2.5-coder:32b"
        ),
    ),
    "relayed-tailnet": Trap(
        "the nodes reach each other",
        "through a relay (DERP): each hop costs tens of milliseconds, per token",
        "`fab preflight` asks `tailscale status` on every node and measures round trips; the report's estimate "
        "counts the hops",
        lambda layout, _: act.relay(layout, "fra"),
    ),
}

HEAD = """\
# The trap gallery

Each of these made the plan report success on a broken or meaningless result.
`fab rehearse --trap NAME` reproduces one on the rehearsal's nodes.
`test_traps*.py` in `tests/flows` prove that the right step or check catches it by name.
This page is printed by `python -m rehearsal.traps`; `make docs` renews it.

| trap | what the plan would have reported | what really happens | what catches it |
|:--|:--|:--|:--|
"""


def page() -> str:
    """Return docs/traps.md: the gallery in the words of its own traps."""
    rows = (f"| `{name}` | {t.plan_would_say} | {t.really} | {t.caught_by} |\n" for name, t in TRAPS.items())
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
