"""Load, unload and watch the arms of a benchmark, so that only the one that runs is in memory, and that is known.

Ollama: through its own API, verified with /api/ps. EXO 0.0.x keeps a model until it is restarted, so it is restarted;
EXO 1.x deletes the instance, and no instance is placed before EXO's own run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from records.samples import SCHEMA_VERSION, Conditions, ExoSeen, LoadedModel
from records.settings import ModelPair
from tasks import console
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.exo.first_answer import first_answer
from tasks.exo.node import ExoNode
from tasks.exo.serving import POLL_S, serve
from tasks.machines.daemon import Member, family_command, read_family
from tasks.machines.lab import Lab
from tasks.ollama.servers import OllamaServer, servers_of

T = TypeVar("T")
PROOF_S = 180.0
"""For the chat that proves a ring before a run; the slowest stage seen took 1.4 s a token."""
RUNNERS_END_S = 20.0
CONDITIONS = r"""
echo "load $(cut -d' ' -f1 "${EXO_PHASE1_SYSROOT:-}/proc/loadavg")"; echo "cpus $(nproc)"
sed -n 's/^MemAvailable: *\([0-9]*\).*/memory \1/p' /proc/meminfo
cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null | sort -n | tail -n 1 | sed 's/^/temperature /'
cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq 2>/dev/null | sort -n | tail -n 1 | sed 's/^/clock /'
"""
ENGINES = r"""
for s in "${EXO_PHASE1_SYSROOT:-}"/proc/[0-9]*/stat; do
  { read -r line <"$s"; } 2>/dev/null || continue
  case $line in
    *") Z "*) continue ;;
    *"(llama-server)"*) ;;
    *"(ollama)"*) { tr '\0' ' ' <"${s%stat}cmdline" | grep -q ' runner '; } 2>/dev/null || continue ;;
    *) continue ;;
  esac
  set -- ${line##*) }; name=; { read -r name <"${EXO_PHASE1_SYSROOT:-}/proc/$2/comm"; } 2>/dev/null
  kind=orphan; [ "$name" = ollama ] && kind=engine
  echo "$kind ${line%% *} ${20}"
done
"""
"""Names the processes that compute for an Ollama (`llama-server` since 0.30, `ollama runner` before) with their starts,
and those whose Ollama is gone, which no /api/ps shows."""


class ExoArm:
    """The EXO cluster as an arm that can be loaded afresh; remembers whether it is fresh already.

    On 1.x a model lives in runner processes of its own, which end with its instance: loading it afresh is placing it
    again, and the cluster need not form anew. On 0.0.x EXO keeps a model until it is restarted.
    """

    def __init__(self, lab: Lab, pair: ModelPair) -> None:
        self.cluster = ExoCluster(lab)
        self.pair = pair
        self.fresh = False
        """Restarted (or unloaded) since its last request, so no model is in its memory."""
        wanted = lab.inventory.bench.exo_reload
        self.reload = "reload" if wanted == "restart" and self.cluster.generation.CAN_RELOAD else wanted

    def refresh(self) -> float:
        """Take the model out of memory as `bench.exo_reload` says, unless it is out; returns the seconds it took."""
        begin = time.monotonic()
        if self.fresh or self.reload == "keep":
            return 0.0
        if self.reload == "reload":
            self.cluster.unload(self.pair)
            self._wait_for_runners()
        else:
            self.cluster.restart()
        self.fresh = True
        return time.monotonic() - begin

    def clear(self) -> None:
        """Take the model out of memory for another arm's run; an EXO that cannot be made to let go is stopped."""
        try:
            self.refresh()
        except StepError as error:
            console.note("exo", f"{error}; is stopped on every node, so that nothing of it is in memory")
            self.cluster.each(lambda exo: exo.stop())
            self.fresh = True

    def load(self) -> float | None:
        """Bring the model where a run needs it, and prove by a chat that it answers; return the seconds it took.

        A lost ring is brought back. On 0.0.x the first (warm-up) request loads it: None. Raises StepError.
        """
        self.fresh = False
        if not self.cluster.generation.CAN_RELOAD:
            return None
        begin = time.monotonic()
        try:
            self._place_and_prove()
        except StepError as error:
            console.note("exo", f"{error}; the cluster is looked at and the model placed again")
            self.recover()
            self.fresh = False
            self._place_and_prove()
        return time.monotonic() - begin

    def recover(self) -> None:
        """Bring the cluster back after a loss, starting again what does not run or come together. Raises StepError."""
        for key in self.cluster.gone():
            console.note(key, "its EXO is not running: is started again")
            serve(self.cluster.nodes[key])
        try:
            self.cluster.stand(self.cluster.exo.cluster_timeout_s)
            self.cluster.unload(self.pair)
        except StepError as error:
            console.note("exo", f"{error}; the whole cluster is started again")
            self.cluster.restart()
        self.fresh = True

    def _place_and_prove(self) -> None:
        logs = self.cluster.each(lambda exo: exo.log_size())
        self.cluster.make_ready(self.pair)
        first_answer(self.cluster, self.pair, PROOF_S, logs)

    def _wait_for_runners(self) -> None:
        """Wait until no runner is left: it gives its memory back some time after its instance is gone."""
        deadline = time.monotonic() + RUNNERS_END_S
        while time.monotonic() < deadline and any(seen.runners for seen in seen_of(self.cluster).values()):
            time.sleep(POLL_S)


def seen_of(cluster: ExoCluster) -> dict[str, ExoSeen]:
    """Return what of EXO is in the memory of every node now."""
    return cluster.each(lambda exo: _seen(exo, exo.family()))


def _seen(exo: ExoNode, family: Sequence[Member]) -> ExoSeen:
    runners = [one for one in family if exo.generation.holds_model(one.command)]
    return ExoSeen(len(family), sum(one.memory_bytes for one in family), len(runners))


def alone(lab: Lab, arm: str, exo: ExoArm, ollama_model: str) -> tuple[list[str], float]:
    """Take every arm but `arm` out of memory; return what of EXO is still there and the seconds spent.

    Raises StepError where an Ollama cannot be made to let go, with the name that holds the model.
    """
    begin = time.monotonic()
    for server in neighbours_of(lab, arm).values():
        server.unload(ollama_model)
    still = []
    if arm != "exo" and not exo.fresh and any(seen.processes for seen in seen_of(exo.cluster).values()):
        exo.clear()
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


def engines_of(lab: Lab, arm: str) -> list[str]:
    """Return the processes that compute for Ollamas on the node of `arm`, by PID and start; [] where it tells none."""
    node = lab.nodes.get(lab.inventory.ollama[arm].node) if arm in lab.inventory.ollama else None
    told = node.run(ENGINES, check=False).stdout if node else ""
    return sorted(re.findall(r"^engine (\d+ \d+)$", told, re.MULTILINE))


def conditions_before(lab: Lab, arm: str, run: int, reload: str, reload_s: float, still: list[str]) -> Conditions:
    """Return the conditions under which a run begins, asked of all nodes at once, each by one command."""
    cluster = ExoCluster(lab)

    def ask(exo: ExoNode) -> str:
        family = family_command(exo.run_folder) if arm != "exo" else ""
        return exo.node.run(CONDITIONS + ENGINES + family, check=False).stdout

    told = cluster.each(ask)
    facts = {key: _conditions(text) for key, text in told.items()}
    on = lab.inventory.ollama[arm].node if arm in lab.inventory.ollama else None
    still = still + [orphan for key, text in told.items() if on in (None, key) for orphan in orphans(key, text)]
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
        topology_complete=cluster.complete_now() if arm == "exo" else {},
        exo_seen={} if arm == "exo" else {k: _seen(cluster.nodes[k], read_family(text)) for k, text in told.items()},
    )


def orphans(node: str, text: str) -> list[str]:
    """Name the engines on a node that no Ollama has: they compute, or hold memory, and no /api/ps tells of them."""
    return [
        f"{node}: an engine whose Ollama is gone (end it: kill {pid})"
        for pid in re.findall(r"^orphan (\d+) ", text, re.M)
    ]


def _conditions(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(load|cpus|memory|temperature|clock) ([\d.]+)$", text, re.MULTILINE))


def _column(told: dict[str, dict[str, str]], name: str, read: Callable[[str], T]) -> dict[str, T]:
    return {key: read(facts[name]) for key, facts in told.items() if name in facts}
