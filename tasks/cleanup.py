"""Group `cleanup`, step 15: nothing of ours runs, the ports are free, Ollama is as it was."""

from __future__ import annotations

import shlex

import msgspec

from records.facts import Cleaned, OllamaState, Stopped
from records.settings import ports_of
from tasks.errors import StepError, one_each
from tasks.machines import daemon
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.paths import ollama_before_path, run_folder, state_folder
from tasks.machines.ports import ports_taken
from tasks.ollama import api as ollama
from tasks.ollama.servers import ask_servers
from tasks.steps import StepNotes, step


@step
def stop_cluster(lab: Lab, notes: StepNotes) -> Cleaned:
    """Stop what we started, prove the ports free and Ollama unchanged."""
    notes.deviation(
        "kill $(cat /tmp/exo-NODE.pid) on every node",
        "TERM, then KILL, to the group of the process that was noted at its start (PID, start time, boot, command)",
        "a PID file says nothing about who has that PID today, and a killed EXO 1.x leaves its runner children behind",
    )
    stopped = lab.each(lambda node: stop_on(lab, node))
    before, after = ollama_before(lab), ask_servers(lab)
    changes = [change for arm in after if arm in before for change in ollama.changes(before[arm], after[arm])]
    for change in changes:
        notes.warn(f"Ollama changed: {change}")
    if not before:
        notes.warn("what Ollama was like before is not known: `fab preflight` was not run")
    running = [key for key, one in stopped.items() if one.was_running]
    if not running:
        notes.already()
    at = ", ".join(f"{key} ({stopped[key].how}, {stopped[key].stopped_s:.1f} s)" for key in running)
    said = "CHANGED" if changes else ("unchanged" if before else "answers, its earlier state is not known")
    notes.summary = f"stopped EXO on {at}" if running else "nothing of ours was running"
    notes.summary += f"; ports free; Ollama {said}"
    result = Cleaned(stopped, before, after, bool(before) and not changes, changes)
    silent = {arm: state for arm, state in after.items() if state.error}
    if silent:
        raise one_each(
            {f"Ollama '{arm}'": f"{state.url}: {state.error}" for arm, state in silent.items()},
            "every Ollama healthy after cleanup",
            "look at it there: systemctl status ollama (this program never stops or starts it)",
        )
    return result


def stop_on(lab: Lab, node: Node) -> Stopped:
    """End our EXO on one node and prove that its ports are free. Raises StepError where they are not."""
    exo, folder = lab.profile.exo, run_folder(lab, node)
    ending = daemon.stop(node, folder)
    ports = (ports_of(exo, node.key).api, ports_of(exo, node.key).peer)
    taken = ports_taken(node, lab.addresses()[node.key], ports)
    if taken and ending.how != "not running":
        raise StepError(
            "after our EXO ended, " + ", ".join(f"port {p} is held by {who}" for p, who in taken.items()),
            "free ports",
            f"look on {node.spec.host}: ss -ltnp | grep -E ':({'|'.join(map(str, taken))}) '",
            who=node.key,
        )
    return Stopped(
        node=node.key,
        was_running=ending.how != "not running",
        how=ending.how,
        stopped_s=ending.seconds,
        ports_free={str(port): port not in taken for port in ports},
        left=_left(lab, node),
    )


def ollama_before(lab: Lab) -> dict[str, OllamaState]:
    """Return the Ollama servers as the last preflight without a running EXO found them; {} where that is not known.

    It is kept after a cleanup, so that typing `fab cleanup` twice does not forget what the first one proved.
    """
    ran = lab.bench_node.run(f"cat {shlex.quote(ollama_before_path(lab))} 2>/dev/null", check=False)
    try:
        return msgspec.json.decode(ran.stdout, type=dict[str, OllamaState])
    except msgspec.DecodeError:
        return {}


def _left(lab: Lab, node: Node) -> list[str]:
    """Say what stays on the node on purpose, with its size: a second campaign need not install and download again."""
    folders = [state_folder(lab, node), f"{node.home()}/.cache/exo"]
    ran = node.run(f"du -sh {shlex.join(folders)} 2>/dev/null", check=False, timeout_s=60)
    return [f"{path} ({size})" for size, _, path in (line.partition("\t") for line in ran.stdout.splitlines())]
