"""Load, unload and watch the arms of a benchmark, so that only the one that runs is in memory, and that is known.

Ollama: through its own API, verified with /api/ps. EXO 0.0.x keeps a model until it is restarted, so it is restarted;
EXO 1.x deletes the instance.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from records.samples import SCHEMA_VERSION, Conditions, LoadedModel
from records.settings import ModelPair
from tasks.exo.cluster import ExoCluster
from tasks.machines.lab import Lab
from tasks.ollama.servers import OllamaServer, servers_of

T = TypeVar("T")
CONDITIONS = r"""
echo "load $(cut -d' ' -f1 "${EXO_PHASE1_SYSROOT:-}/proc/loadavg")"; echo "cpus $(nproc)"
sed -n 's/^MemAvailable: *\([0-9]*\).*/memory \1/p' /proc/meminfo
cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null | sort -n | tail -n 1 | sed 's/^/temperature /'
cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq 2>/dev/null | sort -n | tail -n 1 | sed 's/^/clock /'
"""


class ExoArm:
    """The EXO cluster as an arm that can be loaded afresh; remembers whether it is fresh already."""

    def __init__(self, lab: Lab, pair: ModelPair) -> None:
        self.cluster = ExoCluster(lab)
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
            self.cluster.unload(self.pair)
        else:
            self.cluster.restart()
            if self.cluster.generation.CAN_RELOAD:
                self.cluster.make_ready(self.pair)  # a restarted 1.x has no instance to answer from
        self.fresh = True
        return time.monotonic() - begin

    def load(self) -> None:
        """Bring the model where a run needs it; on 0.0.x the first (warm-up) request does that."""
        if self.reload == "reload":
            self.cluster.make_ready(self.pair)
        self.fresh = False


def alone(lab: Lab, arm: str, exo: ExoArm | None, ollama_model: str) -> tuple[list[str], float]:
    """Take every arm but `arm` out of memory; return what of EXO is still there and the seconds spent.

    Raises StepError where an Ollama cannot be made to let go, with the name that holds the model.
    """
    begin = time.monotonic()
    for server in neighbours_of(lab, arm).values():
        server.unload(ollama_model)
    still = []
    if exo is not None and arm != "exo":
        exo.refresh()
        if not exo.fresh:
            still.append(f"exo: {exo.pair.exo}")
    return still, time.monotonic() - begin


def neighbours_of(lab: Lab, arm: str) -> dict[str, OllamaServer]:
    """Return the Ollamas that `arm` is not; a control is one server under two names, neither of them a neighbour."""
    servers = servers_of(lab)
    own = servers[arm].url if arm in servers else ""
    return {other: server for other, server in servers.items() if server.url != own}


def memory_of(lab: Lab, arm: str) -> dict[str, list[LoadedModel]]:
    """Return what every Ollama holds, that of `arm` included. Raises StepError where one does not answer."""
    servers = servers_of(lab)
    asked = neighbours_of(lab, arm) | ({arm: servers[arm]} if arm in servers else {})
    return {key: asked[key].memory() for key in sorted(asked)}


def conditions_before(lab: Lab, arm: str, run: int, reload: str, reload_s: float, still: list[str]) -> Conditions:
    """Return the conditions under which a run begins, asked of all nodes at once."""
    facts = lab.each(lambda node: _conditions(node.run(CONDITIONS, check=False).stdout))
    return Conditions(
        schema=SCHEMA_VERSION,
        arm=arm,
        run=run,
        noted_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        reload=reload,
        reload_s=round(reload_s, 3),
        neighbours_loaded=still,
        load_1m=_column(facts, "load", float),
        cpu_count=_column(facts, "cpus", int),
        memory_available_bytes=_column(facts, "memory", lambda kib: int(kib) * 1024),
        temperature_c=_column(facts, "temperature", lambda thousandths: float(thousandths) / 1000),
        clock_mhz=_column(facts, "clock", lambda khz: float(khz) / 1000),
        topology_complete=ExoCluster(lab).complete_now() if arm == "exo" else {},
    )


def _conditions(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(load|cpus|memory|temperature|clock) ([\d.]+)$", text, re.MULTILINE))


def _column(told: dict[str, dict[str, str]], name: str, read: Callable[[str], T]) -> dict[str, T]:
    return {key: read(facts[name]) for key, facts in told.items() if name in facts}
