"""The cluster as its nodes see it: one topology a node, all of them complete, or an error that says what each sees."""

from __future__ import annotations

import time
from collections.abc import Callable

from records.facts import Cluster, NodeView
from records.settings import ports_of
from tasks import console
from tasks.errors import StepError, one_each
from tasks.exo.catalogue import generation_of
from tasks.exo.interface import Topology
from tasks.machines import daemon
from tasks.machines.http import call
from tasks.machines.lab import Lab
from tasks.machines.node import Node
from tasks.machines.paths import run_folder

POLL_S = 0.3


def wait_for_cluster(lab: Lab, timeout_s: float, tell: Callable[[str, str], None] = console.note) -> Cluster:
    """Poll every node's own topology, side by side, until all are complete; returns what each sees.

    Complete topologies are believed only while all our processes live: after a loss they stay stale for 9 to 12 s.
    Raises StepError with what each node sees once `timeout_s` has passed.
    """
    keys = list(lab.nodes)
    begin = time.monotonic()
    views = lab.each(lambda node: _watch(lab, node, keys, begin, timeout_s, tell))
    dead = [
        key
        for key, alive in lab.each(lambda node: daemon.find(node, run_folder(lab, node)) is not None).items()
        if not alive
    ]
    cluster = Cluster(
        views, keys, len(keys) * (len(keys) - 1), all(view.complete for view in views.values()) and not dead
    )
    if not cluster.complete:
        raise _not_formed(lab, cluster, dead, timeout_s)
    return cluster


def cluster_now(lab: Lab) -> dict[str, bool]:
    """Return, for every node, whether its own topology is complete at this moment and its process lives."""
    keys = list(lab.nodes)

    def complete(node: Node) -> bool:
        topology = topology_of(lab, node.key)
        return _is_complete(topology, keys) and daemon.find(node, run_folder(lab, node)) is not None

    return lab.each(complete)


def _watch(
    lab: Lab, node: Node, keys: list[str], begin: float, timeout_s: float, tell: Callable[[str, str], None]
) -> NodeView:
    seen = ""
    while True:
        topology = topology_of(lab, node.key)
        elapsed_s = time.monotonic() - begin
        complete = _is_complete(topology, keys)
        nodes = topology.nodes if topology else {}
        if complete or elapsed_s > timeout_s:
            edges = len(topology.edges) if topology else 0
            return NodeView(node.key, sorted(nodes), edges, complete, round(elapsed_s, 2) if complete else None, nodes)
        if elapsed_s > 2 and (now := ", ".join(sorted(nodes)) or "nothing") != seen:
            tell(node.key, f"sees {now}")
            seen = now
        time.sleep(POLL_S)


def _is_complete(topology: Topology | None, keys: list[str]) -> bool:
    if topology is None:
        return False
    wanted = {(a, b) for a in keys for b in keys if a != b}
    return set(topology.nodes) == set(keys) and wanted <= topology.edges


def topology_of(lab: Lab, key: str) -> Topology | None:
    """Return the cluster as node `key` tells it now; None where its API does not answer sensibly."""
    generation = generation_of(lab.profile.exo.release)
    peers = lab.addresses()
    reply = call(lab.nodes[key], peers[key], ports_of(lab.profile.exo, key).api, generation.topology_request())
    if reply.status != 200:
        return None
    try:
        return generation.parse_topology(reply.text, peers)
    except StepError:
        return None


def _not_formed(lab: Lab, cluster: Cluster, dead: list[str], timeout_s: float) -> StepError:
    bad = {key: view for key, view in cluster.nodes.items() if not view.complete or key in dead}
    said = {
        key: "its EXO is not running"
        if key in dead
        else f"sees {', '.join(view.sees) or 'nothing'} ({view.edges} edges)"
        for key, view in bad.items()
    }
    exo, first = lab.profile.exo, next(iter(bad))
    try_it = f"nc -vz {lab.addresses()[first]} {ports_of(exo, first).peer}"
    return one_each(
        said,
        f"all of {', '.join(cluster.expected_nodes)} and {cluster.expected_edges} edges in every node's own topology"
        f" within {timeout_s:g} s",
        f"fab start; are the peer ports open between the nodes? from another node: {try_it}",
    )
