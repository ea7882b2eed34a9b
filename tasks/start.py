"""Group `start`, steps 5 to 8: EXO as a daemon on every node, and one cluster of them, not three islands."""

from __future__ import annotations

import shlex
import time
from typing import Literal, cast

from records.facts import Cluster, Started
from records.settings import exo_on, ports_of
from tasks import console
from tasks.errors import StepError
from tasks.exo.catalogue import generation_of
from tasks.exo.cluster import POLL_S, topology_of, wait_for_cluster
from tasks.install import executable_of
from tasks.machines import daemon
from tasks.machines.daemon import Launch
from tasks.machines.lab import Lab
from tasks.machines.paths import run_folder
from tasks.machines.ports import listens, ports_taken
from tasks.steps import StepNotes, run_side_by_side, step

_GPU_SWITCHES = ("AMD", "HIP", "CUDA", "NV", "GPU")
"""tinygrad's environment variables that choose a GPU; one of them set is the claim that EXO computes on it."""


@step
def start_srv1(lab: Lab, notes: StepNotes) -> Started:
    """Start EXO on ndnlinuxsrv1 and wait until this very process serves."""
    return start_on(lab, notes, "srv1")


@step
def start_srv2(lab: Lab, notes: StepNotes) -> Started:
    """Start EXO on ndnlinuxsrv2 and wait until this very process serves."""
    return start_on(lab, notes, "srv2")


@step
def start_rog(lab: Lab, notes: StepNotes) -> Started:
    """Start EXO on rog-flow-z13 and say which device it really computes on."""
    return start_on(lab, notes, "rog")


@step
def verify_cluster(lab: Lab, notes: StepNotes) -> Cluster:
    """Prove the cluster: every node's own topology shows all nodes."""
    notes.deviation(
        "look at the dashboard, grep the log for peers, list /v1/models",
        "every node's own topology was polled until it held all nodes and all N(N-1) edges",
        "an island has a dashboard and lists 73 models as ready, and a healthy log holds no line that the grep finds",
    )
    cluster = wait_for_cluster(lab, lab.profile.exo.cluster_timeout_s)
    notes.summary = f"{len(cluster.nodes)} nodes see all of {', '.join(cluster.expected_nodes)}"
    return cluster


def start_group(lab: Lab) -> None:
    """Run steps 5 to 8: the nodes side by side, then the cluster."""
    run_side_by_side(lab, {"srv1": start_srv1, "srv2": start_srv2, "rog": start_rog})
    verify_cluster(lab)


def start_on(lab: Lab, notes: StepNotes, key: str) -> Started:
    """Start EXO on one node, or find it already running as hosts.yaml says. Raises StepError; leaves no half start."""
    node, folder = lab.nodes[key], run_folder(lab, lab.nodes[key])
    launch = launch_of(lab, key)
    notes.deviation(
        f"nohup exo run --node-id {key} --broadcast-port 52415 --chatgpt-api-port 52416 &",
        shlex.join(["exo", *launch.argv[1:]]),
        "`exo run` is a one-shot that exits 0 and serves nothing, and broadcasts do not cross Tailscale",
    )
    for text in launch.unwanted:
        notes.warn(text)
    process = daemon.find(node, folder)
    if process and process.command == shlex.join(launch.argv) and topology_of(lab, key):
        notes.already()
    else:
        process = restart_on(lab, key, launch)
    started = _wait_until_it_serves(lab, key, process)
    where = started.device or "an unknown device"
    notes.summary = f"PID {started.pid} serves port {started.api_port} after {started.ready_s:.1f} s on {where}"
    if started.gpu_expected and started.device_kind != "gpu":
        notes.warn(f"{key}: EXO was told to use the GPU and says it computes on: {where}")
    return started


def restart_on(lab: Lab, key: str, launch: Launch | None = None) -> daemon.Daemon:
    """Stop our EXO on a node if it runs, make sure its ports are free, and start it; returns at once."""
    node, folder = lab.nodes[key], run_folder(lab, lab.nodes[key])
    launch = launch or launch_of(lab, key)
    daemon.stop(node, folder)
    taken = ports_taken(node, lab.addresses()[key], launch.ports)
    if taken:
        said = ", ".join(f"port {port} is taken by {owner}" for port, owner in taken.items())
        raise StepError(
            said,
            "free ports: a second EXO on a used port stays alive without an API",
            f"stop it on {node.spec.host}, or set other ports in profiles.{lab.inventory.profile}.exo.ports",
            who=key,
        )
    return daemon.start(node, folder, launch)


def launch_of(lab: Lab, key: str) -> Launch:
    """Return how this profile starts a node. Raises StepError where it is not installed or cannot form a cluster."""
    exo = lab.profile.exo
    node = lab.nodes[key]
    try:
        return generation_of(exo.release).launch(
            exo, key, lab.addresses(), executable_of(lab, node), run_folder(lab, node), lab.inventory.bench.max_tokens
        )
    except StepError as error:
        raise error.about(key) from None


def gpu_claimed(lab: Lab, key: str) -> bool:
    """Tell whether hosts.yaml has EXO compute on this node's GPU: there is one, and the environment chooses it."""
    environment = exo_on(lab.profile.exo, key).environment
    return lab.nodes[key].spec.gpu is not None and any(environment.get(s, "0") not in ("", "0") for s in _GPU_SWITCHES)


def _wait_until_it_serves(lab: Lab, key: str, process: daemon.Daemon) -> Started:
    node, folder = lab.nodes[key], run_folder(lab, lab.nodes[key])
    exo, begin = lab.profile.exo, time.monotonic()
    generation = generation_of(exo.release)
    address, port = lab.addresses()[key], ports_of(exo, key).api
    told_s = 2.0
    while True:
        topology = topology_of(lab, key)
        elapsed_s = time.monotonic() - begin
        if topology and listens(node, process, address, port):
            break
        log = daemon.log_tail(node, folder)
        problems = generation.log_problems(log)
        ended = daemon.state(node, process) != "alive"
        if ended or problems or elapsed_s > exo.start_timeout_s:
            raise _no_start(lab, key, ended, problems, log, elapsed_s)
        if elapsed_s > told_s:
            console.note(key, f"waits for EXO's API on port {port} ({elapsed_s:.0f} s)")
            told_s += 5
        time.sleep(POLL_S)
    device = topology.nodes.get(key, "")
    kind = cast('Literal["gpu", "cpu", "unknown"]', generation.device_kind(device))
    return Started(
        node=key,
        node_id=key,
        pid=process.pid,
        start_ticks=process.start_ticks,
        command=process.command,
        api_port=port,
        log=daemon.log_path(folder),
        ready_s=round(elapsed_s, 2),
        device=device,
        device_kind=kind,
        gpu_expected=gpu_claimed(lab, key),
    )


def _no_start(lab: Lab, key: str, ended: bool, problems: list[str], log: str, elapsed_s: float) -> StepError:
    node, folder, exo = lab.nodes[key], run_folder(lab, lab.nodes[key]), lab.profile.exo
    daemon.stop(node, folder)
    how = "ended by itself" if ended else "does not serve"
    last = [line for line in log.splitlines() if line.strip()][-1:]
    said = "; ".join(problems[:3]) or (f"last line of its log: {last[0][:200]}" if last else "its log is empty")
    return StepError(
        f"EXO {how} after {elapsed_s:.0f} s: {said}",
        f"a process of ours that answers on port {ports_of(exo, key).api} within {exo.start_timeout_s:g} s",
        f"read {daemon.log_path(folder)} on {node.spec.host} (EXO was stopped again), then: fab start-{key}",
        who=key,
    )
