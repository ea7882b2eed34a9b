"""Group `start`, steps 5 to 8: EXO as a daemon on every node, and one cluster of them, not three islands."""

from __future__ import annotations

import re
import shlex
import time

from records.facts import Cluster, Started
from records.plan import command_for, node_step
from tasks import console
from tasks.errors import StepError
from tasks.exo.cluster import POLL_S, ExoCluster
from tasks.exo.logtext import likely_cause
from tasks.exo.node import ExoNode
from tasks.machines.daemon import Daemon, Launch
from tasks.machines.lab import Lab
from tasks.steps import Step, StepNotes, run_side_by_side, step

LOGOUT_S = 0.5
"""logind ends what a session leaves as soon as the session is closed."""
_PORT_TAKEN = re.compile(r"address already in use|Failed to bind to address", re.IGNORECASE)
ENDS_WITHIN_POLLS = 5
"""A process that has written why it fails may take a second to end by itself."""


@step
def start_srv1(lab: Lab, notes: StepNotes) -> Started:
    """Start EXO on ndnlinuxsrv1 and wait until this very process serves."""
    return start_on(ExoCluster(lab).nodes["srv1"], notes)


@step
def start_srv2(lab: Lab, notes: StepNotes) -> Started:
    """Start EXO on ndnlinuxsrv2 and wait until this very process serves."""
    return start_on(ExoCluster(lab).nodes["srv2"], notes)


@step
def start_rog(lab: Lab, notes: StepNotes) -> Started:
    """Start EXO on rog-flow-z13 and say which device it really computes on."""
    return start_on(ExoCluster(lab).nodes["rog"], notes)


@step
def verify_cluster(lab: Lab, notes: StepNotes) -> Cluster:
    """Prove the cluster: every node's own topology shows all nodes."""
    notes.deviation(
        "look at the dashboard, grep the log for peers, list /v1/models",
        "every node's own topology was polled until it held all nodes and all N(N-1) edges",
        "an island has a dashboard and lists 73 models as ready, and a healthy log holds no line that the grep finds",
    )
    cluster = ExoCluster(lab).wait_until_complete(lab.profile.exo.cluster_timeout_s)
    notes.summary = f"{len(cluster.nodes)} nodes see all of {', '.join(cluster.expected_nodes)}"
    return cluster


def start_step(key: str) -> Step[Started]:
    """Return the step that starts EXO on a node which the plan does not know."""
    return Step(lambda lab, notes: start_on(ExoCluster(lab).nodes[key], notes), node_step("start", key))


def start_group(lab: Lab, only: list[str] | None = None) -> None:
    """Run steps 5 to 8: the nodes side by side, then the cluster; with `only` some nodes, and not yet the cluster."""
    planned = {"srv1": start_srv1, "srv2": start_srv2, "rog": start_rog}
    run_side_by_side(lab, {key: planned.get(key) or start_step(key) for key in lab.nodes}, only)
    if not only:
        verify_cluster(lab)


def start_on(exo: ExoNode, notes: StepNotes) -> Started:
    """Start EXO on one node, or find it already running as hosts.yaml says. Raises StepError; leaves no half start."""
    launch = exo.launch()
    notes.deviation(
        f"nohup exo run --node-id {exo.key} --broadcast-port 52415 --chatgpt-api-port 52416 &",
        shlex.join(["exo", *launch.argv[1:]]),
        "`exo run` is a one-shot that exits 0 and serves nothing, and broadcasts do not cross Tailscale",
    )
    for text in launch.unwanted:
        notes.warn(text)
    _refuse_another_install(exo)
    process = exo.process()
    differs = exo.differences(process, launch) if process else []
    if process and not differs and exo.topology():
        notes.already()
        started = _wait_until_it_serves(exo, process)
    else:
        if differs:
            console.note(exo.key, f"runs with another {', '.join(differs)} than hosts.yaml asks for: is started again")
        started = _start(exo, launch)
    device = started.device or "an unknown device"
    notes.summary = f"PID {started.pid} serves port {started.api_port} after {started.ready_s:.1f} s on {device}"
    if differs:
        notes.summary += f" (started again: another {', '.join(differs)})"
    if started.gpu_expected and started.device_kind != "gpu":
        notes.warn(f"{exo.key}: EXO was told to use the GPU and says it computes on: {device}")
    return started


class PortTakenError(StepError):
    """EXO found a port taken that was free a moment before."""


def _refuse_another_install(exo: ExoNode) -> None:
    note = exo.install_note()
    if note and note.wish != exo.wish():
        raise StepError(
            "what is installed is not what hosts.yaml asks for: source, extras, overrides or Python were changed since",
            "an install as hosts.yaml has it",
            f"{command_for('install', exo.key)} {command_for('start', exo.key).removeprefix('fab ')}",
            who=exo.key,
        )


def _start(exo: ExoNode, launch: Launch) -> Started:
    """Start EXO, once more where a port was taken from it, and see that it outlives the login. Raises StepError."""
    process = exo.restart(launch)
    try:
        started = _wait_until_it_serves(exo, process)
    except PortTakenError as error:
        console.note(exo.key, f"{error}; is started once more")
        process = exo.restart(launch)
        started = _wait_until_it_serves(exo, process)
    exo.node.close()
    time.sleep(LOGOUT_S)
    if exo.has_ended(process):
        raise StepError(
            "EXO was ended together with the SSH connection that started it (logind's KillUserProcesses)",
            "a process that outlives the login",
            f"on {exo.node.spec.host}: loginctl enable-linger (sudo where it is refused),"
            f" then: {command_for('start', exo.key)}",
            who=exo.key,
        )
    return started


def _wait_until_it_serves(exo: ExoNode, process: Daemon) -> Started:
    begin = time.monotonic()
    console.doing(exo.key, f"waits for EXO's API on port {exo.ports.api}")
    while True:
        topology = exo.topology()
        elapsed_s = time.monotonic() - begin
        if topology and exo.serves(process):
            break
        failed = exo.has_ended(process) or bool(exo.generation.log_problems(exo.log_tail()))
        if failed or elapsed_s > exo.exo.start_timeout_s:
            raise _no_start(exo, process, elapsed_s)
        time.sleep(POLL_S)
    device = topology.nodes.get(exo.key, "")
    return Started(
        node=exo.key,
        node_id=exo.key,
        pid=process.pid,
        start_ticks=process.start_ticks,
        command=process.command,
        api_port=exo.ports.api,
        log=exo.log_path,
        ready_s=round(elapsed_s, 2),
        device=device,
        device_kind=exo.generation.device_kind(device),
        gpu_expected=exo.claims_gpu,
    )


def _no_start(exo: ExoNode, process: Daemon, elapsed_s: float) -> StepError:
    for _ in range(ENDS_WITHIN_POLLS):
        if ended := exo.has_ended(process):
            break
        time.sleep(POLL_S)
    log = exo.log_tail()  # only now, with everything that it wrote at its end
    exo.stop()
    cause = "; ".join(exo.generation.log_problems(log)[:3]) or likely_cause(log)
    if _PORT_TAKEN.search(log):
        return PortTakenError(
            f"EXO {'ended by itself' if ended else 'does not serve'} after {elapsed_s:.0f} s: {cause}",
            f"ports {exo.ports.api} and {exo.ports.peer} for EXO alone; Linux lends those from 32768 on to any outgoing"
            " connection",
            f"set ports below 32768 in profiles.{exo.profile}.exo.ports, then: fab start",
            who=exo.key,
        )
    return StepError(
        f"EXO {'ended by itself' if ended else 'does not serve'} after {elapsed_s:.0f} s: {cause}",
        f"a process of ours that answers on port {exo.ports.api} within {exo.exo.start_timeout_s:g} s",
        f"read {exo.log_path} on {exo.node.spec.host} (EXO was stopped again), then: {command_for('start', exo.key)}",
        who=exo.key,
    )
