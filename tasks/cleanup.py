"""Group `cleanup`, step 15: nothing of ours runs, the ports are free, Ollama is as it was."""

from __future__ import annotations

import shlex

import msgspec

from records.facts import Cleaned, OllamaState, Stopped
from tasks.decode import decode
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.exo.node import PORTS_FREE_WITHIN_S, ExoNode
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.paths import ollama_before_path
from tasks.ollama import api as ollama
from tasks.ollama.servers import ask_servers, refuse_silent
from tasks.steps import StepNotes, step


@step
def stop_cluster(lab: Lab, notes: StepNotes) -> Cleaned:
    """Stop what we started, prove the ports free and Ollama unchanged."""
    notes.deviation(
        "kill $(cat /tmp/exo-NODE.pid) on every node",
        "TERM, then KILL, to the group of the process that was noted at its start (PID, start time, boot, command)",
        "a PID file says nothing about who has that PID today, and a killed EXO 1.x leaves its runner children behind",
    )
    stopped = ExoCluster(lab).each(stop_on)
    before, after = ollama_before(lab.bench_node, lab.inventory.profile), ask_servers(lab)
    changes = [change for arm in after if arm in before for change in ollama.changes(before[arm], after[arm])]
    for change in changes:
        notes.warn(f"Ollama changed: {change}")
    if not before:
        notes.warn("what Ollama was like before is not known: `fab preflight` was not run")
    ended = {key: stop for key, stop in stopped.items() if stop.was_running}
    if not ended:
        notes.already()
    at = ", ".join(f"{key} ({stop.how}, {stop.stopped_s:.1f} s)" for key, stop in ended.items())
    servers = "CHANGED" if changes else ("unchanged" if before else "answers, its earlier state is not known")
    notes.summary = f"stopped EXO on {at}" if ended else "nothing of ours was running"
    notes.summary += f"; ports free; Ollama {servers}"
    refuse_silent(
        after.values(),
        "every Ollama healthy after cleanup",
        "look at it there: systemctl status ollama (this program never stops or starts it)",
    )
    return Cleaned(stopped, before, after, bool(before) and not changes, changes)


def stop_on(exo: ExoNode) -> Stopped:
    """End our EXO on one node and prove that its ports are free. Raises StepError where they are not."""
    ending = exo.stop()
    taken = exo.ports_taken(PORTS_FREE_WITHIN_S if ending.was_running else 0)
    if taken and ending.was_running:
        raise StepError(
            "after our EXO ended, " + ", ".join(f"port {port} is held by {owner}" for port, owner in taken.items()),
            "free ports",
            f"look on {exo.node.spec.host}: ss -ltnp | grep -E ':({'|'.join(map(str, taken))}) '",
            who=exo.key,
        )
    return Stopped(
        node=exo.key,
        was_running=ending.was_running,
        how=ending.how,
        stopped_s=ending.seconds,
        ports_free={str(port): port not in taken for port in (exo.ports.api, exo.ports.peer)},
        left=_left(exo),
    )


def ollama_before(bench_node: Node, profile: str) -> dict[str, OllamaState]:
    """Return the Ollama servers as the last preflight without a running EXO found them; {} where that is not known.

    It is kept after a cleanup, so that typing `fab cleanup` twice does not forget what the first one proved.
    """
    ran = bench_node.run(before_command(bench_node, profile), check=False)
    try:
        return decode(ran.stdout, dict[str, OllamaState])
    except msgspec.DecodeError:
        return {}


def before_command(bench_node: Node, profile: str) -> str:
    """Return the command that prints the servers' earlier state."""
    return f"cat {shlex.quote(ollama_before_path(bench_node, profile))} 2>/dev/null"


def size_command(exo: ExoNode) -> str:
    """Return the command that prints how much stays on a node."""
    return f"du -sh {shlex.join([exo.folder, f'{exo.node.home()}/.cache/exo'])} 2>/dev/null"


def _left(exo: ExoNode) -> list[str]:
    """Return what stays on the node on purpose, with its size: the next campaign need not download it again."""
    ran = exo.node.run(size_command(exo), check=False, timeout_s=60)
    return [f"{path} ({size})" for size, _, path in (line.partition("\t") for line in ran.stdout.splitlines())]
