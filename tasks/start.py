"""Group `start`, steps 5 to 8: EXO as a daemon on every node, and one cluster of them, not three islands."""

from __future__ import annotations

import shlex
import time

from records.facts import Cluster, Started
from records.plan import command_for, node_step
from reports.text.format import few
from tasks import console
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.exo.node import ExoNode
from tasks.exo.serving import serve, wait_until_it_serves
from tasks.machines.daemon import Daemon
from tasks.machines.lab import Lab
from tasks.steps import Step, StepNotes, run_side_by_side, step

LOGOUT_S = 0.2
"""logind ends what a session leaves as soon as the session is closed; where it says that it will, ENDING_S hold."""
ENDING_S = 30.0
"""For EXO to end then: 0.0.15 took up to 12 s after SIGTERM."""
LOGIND = (
    "busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager"
    ' KillUserProcesses 2>/dev/null; loginctl show-user "$(id -un)" --property=Linger 2>/dev/null'
)
"""Asks logind whether it ends what a login leaves, and whether this user's processes are spared."""


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
        "every node's own topology was polled until all held all nodes and all N(N-1) edges, together and for a time",
        "an island has a dashboard and lists 73 models as ready, and a healthy log holds no line that the grep finds",
    )
    cluster = ExoCluster(lab).stand(lab.profile.exo.cluster_timeout_s)
    notes.summary = f"{len(cluster.nodes)} nodes see all of {few(cluster.expected_nodes)}"
    notes.summary += f", together for {cluster.stood_s:g} s"
    if cluster.joined_by:
        ways = "; ".join(f"{key} by {how}" for key, how in cluster.joined_by.items())
        notes.summary += f" ({ways}; {max(cluster.elections.values(), default=0)} elections)"
    for key, starts in cluster.joins.items():
        if starts > 1:
            notes.warn(f"{key}: joined at its {starts}. start: EXO 1.x may end at a node's change of master")
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
    differs = few(exo.differences(launch)) if process else ""
    if process and not differs and exo.topology():
        notes.already()
        serving = wait_until_it_serves(exo, process)
    else:
        if differs:
            console.note(exo.key, f"runs with another {differs} than hosts.yaml asks for: is started again")
        serving = serve(exo, launch)
        _outlives_login(exo, serving.process, notes)
    device = serving.device or "an unknown device"
    notes.summary = f"PID {serving.process.pid} serves port {exo.ports.api} after {serving.ready_s:.1f} s on {device}"
    if differs:
        notes.summary += f" (started again: another {differs})"
    kind = exo.generation.device_kind(serving.device)
    if exo.claims_gpu and kind != "gpu":
        notes.warn(f"{exo.key}: EXO was told to use the GPU and says it computes on: {device}")
    return Started(
        node=exo.key,
        node_id=exo.key,
        pid=serving.process.pid,
        start_ticks=serving.process.start_ticks,
        command=serving.process.command,
        api_port=exo.ports.api,
        log=exo.log_path,
        ready_s=serving.ready_s,
        device=serving.device,
        device_kind=kind,
        gpu_expected=exo.claims_gpu,
    )


def _refuse_another_install(exo: ExoNode) -> None:
    note = exo.install_note()
    if note and (departs := note.departs(exo.wish())):
        raise StepError(
            f"what is installed is not what hosts.yaml asks for; changed since: {few(departs)}",
            "an install as hosts.yaml has it",
            f"{command_for('install', exo.key)} {command_for('start', exo.key).removeprefix('fab ')}",
            who=exo.key,
        )


def ends_with_login(told: str) -> bool:
    """Read what `LOGIND` printed; a machine without logind tells nothing and ends nothing."""
    return "b true" in told and "Linger=yes" not in told


def _outlives_login(exo: ExoNode, process: Daemon, notes: StepNotes) -> None:
    """See that EXO lives on when the connection that started it has ended. Raises StepError.

    The login at this machine goes on, so here only logind can tell what its end will do. Elsewhere it tells how long to
    watch: EXO takes its time to end when it is asked to.
    """
    kills = ends_with_login(exo.node.run(LOGIND, check=False).stdout)
    if exo.node.spec.local and kills:
        notes.warn(
            f"{exo.key}: EXO ends when you log out here (logind's KillUserProcesses); loginctl enable-linger keeps it"
        )
    exo.node.close()
    deadline = time.monotonic() + (ENDING_S if kills and not exo.node.spec.local else 0)
    time.sleep(LOGOUT_S)
    while not (ended := exo.has_ended(process)) and time.monotonic() < deadline:
        time.sleep(LOGOUT_S)
    if ended:
        raise StepError(
            "EXO was ended together with the SSH connection that started it (logind's KillUserProcesses)",
            "a process that outlives the login",
            f"on {exo.node.spec.host}: loginctl enable-linger (sudo where it is refused),"
            f" then: {command_for('start', exo.key)}",
            who=exo.key,
        )
