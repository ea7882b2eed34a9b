"""Load, unload and watch the sides of a benchmark, so that only the one that runs is in memory, and that is known.

Ollama: through its own API, verified with /api/ps. EXO 0.0.x keeps a model until it is restarted, so it is restarted;
EXO 1.x deletes the instance.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from records.facts import OllamaModel
from records.samples import SCHEMA_VERSION, Conditions
from records.settings import ModelPair, ports_of
from tasks import console
from tasks.errors import StepError
from tasks.exo.catalogue import generation_of
from tasks.exo.cluster import cluster_now, wait_for_cluster
from tasks.machines.http import call_url, drive
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.ollama import api as ollama
from tasks.ollama.servers import ask_server
from tasks.start import launch_of, restart_on

UNLOAD_TIMEOUT_S = 60
_CONDITIONS = r"""
echo "load $(cut -d' ' -f1 "${EXO_PHASE1_SYSROOT:-}/proc/loadavg")"; echo "cpus $(nproc)"
sed -n 's/^MemAvailable: *\([0-9]*\).*/memory \1/p' /proc/meminfo
cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null | sort -n | tail -n 1 | sed 's/^/temperature /'
cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq 2>/dev/null | sort -n | tail -n 1 | sed 's/^/clock /'
"""


class ExoSide:
    """The EXO cluster as a side that can be loaded afresh; remembers whether it is fresh already."""

    def __init__(self, lab: Lab, pair: ModelPair) -> None:
        self.lab = lab
        self.pair = pair
        self.fresh = False
        """Restarted (or unloaded) since its last request, so no model is in its memory."""
        self.reload = lab.inventory.bench.exo_reload

    def refresh(self) -> float:
        """Take the model out of memory as `bench.exo_reload` says, unless it is out; returns the seconds it took."""
        begin = time.monotonic()
        if self.fresh or self.reload == "keep":
            return 0.0
        if self.reload == "reload":
            self._flow("unload")
        else:
            self._restart()
        self.fresh = True
        return time.monotonic() - begin

    def load(self) -> None:
        """Bring the model where a run needs it; on 0.0.x the first (warm-up) request does that."""
        if self.reload == "reload":
            self._flow("make_ready")
        self.fresh = False

    def _restart(self) -> None:
        lab = self.lab
        lab.each(lambda node: restart_on(lab, node.key, launch_of(lab, node.key)))
        wait_for_cluster(lab, lab.profile.exo.start_timeout_s + lab.profile.exo.cluster_timeout_s)
        if generation_of(lab.profile.exo.release).CAN_RELOAD:
            self._flow("make_ready")  # a restarted 1.x has no instance to answer from

    def _flow(self, name: str) -> None:
        lab, exo = self.lab, self.lab.profile.exo
        flow = getattr(generation_of(exo.release), name)
        turns = flow(self.pair, list(lab.nodes), lab.bench_node.key, exo.download_timeout_s)
        drive(exo_targets(lab), turns, lambda text: console.note("exo", text))


def exo_targets(lab: Lab) -> dict[str, tuple[Node, str, int]]:
    """Return where each node's EXO API is: node key -> node, address, port."""
    addresses = lab.addresses()
    return {key: (node, addresses[key], ports_of(lab.profile.exo, key).api) for key, node in lab.nodes.items()}


def unload_ollama(lab: Lab, arm: str, model: str) -> None:
    """Take `model` out of a baseline's memory and see that it is gone. Raises StepError."""
    url = lab.inventory.ollama[arm].url
    if not any(ollama.same_name(model, name) for name in _loaded(lab, arm)):
        return
    call_url(lab.bench_node, url, ollama.unload_request(model))
    for _ in range(int(UNLOAD_TIMEOUT_S / 0.2)):
        if not any(ollama.same_name(model, name) for name in _loaded(lab, arm)):
            return
        time.sleep(0.2)
    raise StepError(
        f"Ollama at {url} still holds {model} {UNLOAD_TIMEOUT_S} s after it was told to unload it",
        "a side that is not measured out of memory",
        f"curl {url}/api/ps; who else uses that model?",
        who=arm,
    )


def ollama_in_memory(lab: Lab, arm: str, model: str) -> OllamaModel | None:
    """Return what /api/ps says of `model` at a baseline, its share on the GPU included; None if not loaded."""
    return ollama.parse_loaded(arm, model, call_url(lab.bench_node, lab.inventory.ollama[arm].url, ollama.ps_request()))


def alone(lab: Lab, arm: str, exo: ExoSide | None, ollama_model: str) -> tuple[list[str], float]:
    """Unload every side but `arm`; return what is still in memory elsewhere (`arm: model`) and the seconds spent."""
    begin = time.monotonic()
    still = []
    for other in lab.inventory.ollama:
        if other == arm:
            continue
        if _same_server(lab, other, arm):
            continue  # a control: one server under two names; the script reloads it
        unload_ollama(lab, other, ollama_model)
        still += [f"{other}: {model}" for model in _loaded(lab, other)]
    if exo is not None and arm != "exo":
        exo.refresh()
        if not exo.fresh:
            still.append(f"exo: {exo.pair.exo}")
    return still, time.monotonic() - begin


def conditions(lab: Lab, arm: str, run: int, reload: str, reload_s: float, still: list[str]) -> Conditions:
    """Note what surrounds a run, on all nodes at once."""
    said = lab.each(lambda node: _conditions(node.run(_CONDITIONS, check=False).stdout))
    return Conditions(
        schema=SCHEMA_VERSION,
        arm=arm,
        run=run,
        noted_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        reload=reload,
        reload_s=round(reload_s, 3),
        neighbours_loaded=still,
        load_1m=_column(said, "load", float),
        cpu_count={key: int(value) for key, value in _column(said, "cpus", float).items()},
        memory_available_bytes={key: int(v) * 1024 for key, v in _column(said, "memory", float).items()},
        temperature_c=_column(said, "temperature", lambda text: float(text) / 1000),
        clock_mhz=_column(said, "clock", lambda text: float(text) / 1000),
        topology_complete=cluster_now(lab) if arm == "exo" else {},
    )


def _loaded(lab: Lab, arm: str) -> list[str]:
    state = ask_server(lab, arm)
    if state.error:
        raise StepError(f"Ollama at {state.url}: {state.error}", "an answer", "is it still running?", who=arm)
    return state.loaded


def _same_server(lab: Lab, one: str, other: str) -> bool:
    baselines = lab.inventory.ollama
    return other in baselines and baselines[one].url == baselines[other].url


def _conditions(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(load|cpus|memory|temperature|clock) ([\d.]+)$", text, re.MULTILINE))


def _column(said: dict[str, dict[str, str]], name: str, read: Callable[[str], float]) -> dict[str, float]:
    return {key: read(facts[name]) for key, facts in said.items() if name in facts}
