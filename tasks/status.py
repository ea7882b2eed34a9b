"""`fab status` and `fab logs`: what runs now and how far the campaign is, asked of all at once; changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from records import plan
from records.campaign import Campaign, load_campaign
from records.facts import OllamaState
from records.record import Status
from records.samples import Sample
from records.settings import ports_of
from reports.text.format import about, alike
from tasks import closing, console
from tasks.benchmark.job import planned_runs
from tasks.errors import StepError
from tasks.exo.cluster import ExoCluster
from tasks.exo.interface import Topology
from tasks.exo.node import ExoNode
from tasks.machines import network
from tasks.machines.http import call
from tasks.machines.lab import Lab
from tasks.machines.lock import Holder, holder_on
from tasks.machines.threads import run_all
from tasks.machines.wire import Reply
from tasks.ollama.servers import servers_of

PATIENCE_S = 8.0
"""A node that has not answered by then is shown as silent; a sleeping laptop must not hold up the others."""
FOLLOW_EVERY_S = 1.0


class NodeStatus(msgspec.Struct, frozen=True):
    """One node as it is now."""

    node: str
    host: str
    reachable: bool
    trouble: str = ""
    """Why it cannot be told, for people."""
    installed: str | None = None
    """Revision of EXO that the last proven install noted on the node; None where there is none."""
    pid: int | None = None
    """Of our EXO; None where it does not run."""
    api_port: int | None = None
    api_answers: bool = False
    sees: list[str] = []
    """Nodes in its own topology."""
    complete: bool = False
    """Its topology has every node of hosts.yaml and every edge."""
    device: str = ""
    """What EXO says it computes on."""
    in_use_by: str = ""
    """Who holds its lock, for people; empty where nobody does."""


class StepStatus(msgspec.Struct, frozen=True):
    """One step as its record tells it."""

    step: int
    name: str
    status: Status | None = None
    """None where it has not run."""


class Measuring(msgspec.Struct, frozen=True):
    """How far a schedule of requests is."""

    step: int
    requests_done: int
    requests_planned: int | None
    last_request_utc: str
    left_s: float | None
    """By the pace so far; None where it is complete or not known."""


class LabStatus(msgspec.Struct, frozen=True):
    """What `fab status --json` prints."""

    profile: str
    release: str
    nodes: dict[str, NodeStatus]
    ollama: dict[str, OllamaState]
    steps: list[StepStatus]
    measuring: list[Measuring]
    next: str
    """What to type now."""
    elapsed_s: float


class _Seen(msgspec.Struct, frozen=True):
    address: str | None
    installed: str | None
    pid: int | None
    reply: Reply | None
    holder: Holder | None


def status(lab: Lab, keys: Iterable[str] | None = None) -> LabStatus:
    """Ask the nodes and the Ollama servers, all at once, and read how far the campaign is."""
    begin, cluster = time.monotonic(), ExoCluster(lab)
    asked = [key for key in cluster.nodes if keys is None or key in keys]
    jobs: dict[str, Callable[[], _Seen | OllamaState]] = {
        f"node {key}": partial(_look, cluster.nodes[key]) for key in asked
    }
    jobs |= {f"ollama {arm}": server.state for arm, server in servers_of(lab).items()}
    outcomes = run_all(jobs, within_s=PATIENCE_S)
    seen = {key: outcomes[f"node {key}"] for key in asked}
    looked = {key: outcome.result for key, outcome in seen.items() if isinstance(outcome.result, _Seen)}
    addresses = {key: found.address for key, found in looked.items() if found.address}
    nodes = {key: _status_of(cluster, cluster.nodes[key], looked.get(key), seen[key].error, addresses) for key in asked}
    servers = {}
    for arm, server in servers_of(lab).items():
        outcome = outcomes[f"ollama {arm}"]
        silent = OllamaState(arm, server.url, None, {}, error=str(outcome.error or _silent()))
        servers[arm] = outcome.result if isinstance(outcome.result, OllamaState) else silent
    campaign = load_campaign(lab.logs)
    return LabStatus(
        profile=lab.inventory.profile,
        release=lab.profile.exo.release,
        nodes=nodes,
        ollama=servers,
        steps=[
            StepStatus(s.number, s.name, r.status if (r := campaign.record_of(s)) else None) for s in campaign.steps
        ],
        measuring=[_measuring(lab, step, samples) for step, samples in campaign.samples.items()],
        next=_next(campaign, nodes),
        elapsed_s=round(time.monotonic() - begin, 3),
    )


def _look(exo: ExoNode) -> _Seen:
    """Ask one node all there is to ask, without needing any other node to be there."""
    process, note = exo.process(), exo.install_note()
    address = exo.node.spec.address or network.parse_address(
        exo.node.run(network.address_command(), check=False).stdout
    )
    reply = None
    if process and address:
        reply = call(exo.node, address, exo.ports.api, exo.generation.topology_request())
    return _Seen(address, note.revision if note else None, process.pid if process else None, reply, holder_on(exo.node))


def _status_of(
    cluster: ExoCluster, exo: ExoNode, seen: _Seen | None, error: BaseException | None, addresses: dict[str, str]
) -> NodeStatus:
    host = exo.node.spec.host
    if error is not None and not isinstance(error, StepError):
        raise error
    if seen is None:
        return NodeStatus(exo.key, host, reachable=False, trouble=str(error or _silent()))
    topology: Topology | None = None
    trouble = seen.reply.words if seen.reply and seen.reply.status != 200 else ""
    if seen.reply and seen.reply.status == 200:
        try:
            topology = exo.generation.parse_topology(seen.reply.text, addresses)
        except StepError as unreadable:
            trouble = str(unreadable)
    return NodeStatus(
        node=exo.key,
        host=host,
        reachable=True,
        trouble=trouble,
        installed=seen.installed,
        pid=seen.pid,
        api_port=ports_of(cluster.exo, exo.key).api,
        api_answers=topology is not None,
        sees=sorted(topology.nodes) if topology else [],
        complete=cluster.is_complete(topology),
        device=topology.nodes.get(exo.key, "") if topology else "",
        in_use_by=seen.holder.words if seen.holder else "",
    )


def _silent() -> StepError:
    return StepError(f"no answer within {PATIENCE_S:g} s", "an answer", "is it up?")


def _measuring(lab: Lab, step: int, samples: list[Sample]) -> Measuring:
    """Return how far a step's schedule is, its planned length taken from the label of its own samples."""
    bench, newest = lab.inventory.bench, samples[-1]
    mine = [sample for sample in samples if sample.campaign == newest.campaign]
    runs, arms = planned_runs(newest.campaign), (1 if step != 11 else 0) + len(lab.inventory.ollama)
    planned = runs * arms * (bench.requests + bench.warmups) if runs else None
    left_s = None
    if planned and len(mine) < planned and mine[0].start_monotonic_s and newest.start_monotonic_s:
        span_s = newest.start_monotonic_s - mine[0].start_monotonic_s  # reloads between runs included
        left_s = span_s / max(len(mine) - 1, 1) * (planned - len(mine)) if span_s > 0 else None
    return Measuring(step, len(mine), planned, newest.start_utc, left_s and round(left_s, 1))


def _next(campaign: Campaign, nodes: dict[str, NodeStatus]) -> str:
    """Return what to type now: what the nodes lack first, then what the campaign lacks."""
    if not all(node.reachable for node in nodes.values()):
        return "fab preflight"
    for group, there in (("preflight", 1), ("install", 0), ("start", 0), ("bench", 12), ("report", 14)):
        steps = [step.number for step in plan.STEPS if step.group == group]
        lacks = {
            "install": any(node.installed is None for node in nodes.values()),
            "start": any(not node.complete for node in nodes.values()),
        }.get(group, not campaign.done(there) if there else not all(map(campaign.done, steps)))
        if group in ("install", "start") and campaign.done(12):
            continue  # measured already: a cluster that was stopped since is as it should be
        if lacks:
            return f"fab {group}"
    return "fab cleanup" if any(node.pid for node in nodes.values()) else closing.AFTER["cleanup"]


def show(found: LabStatus) -> None:
    """Print a status for people: a line a node, a line a server, a line for the campaign."""
    console.text(f"profile {found.profile}: EXO {found.release}")
    wide = max(map(len, [*found.nodes, *found.ollama]), default=0)
    for key, node in found.nodes.items():
        console.text(f"{key:<{wide}}  {_node_words(node, len(found.nodes))}")
    if in_use := {key: node.in_use_by for key, node in found.nodes.items() if node.in_use_by}:
        console.text(f"in use by {alike(in_use)}")
    for arm, server in found.ollama.items():
        memory = f"in memory: {', '.join(server.loaded) or 'nothing'}"
        words = server.error or f"{server.version}, {len(server.models)} models, {memory}"
        console.text(f"{arm:<{wide}}  Ollama at {server.url}: {words}")
    done = [step for step in found.steps if step.status in ("ok", "already", "skipped")]
    wrong = [f"{s.step} {s.name} {s.status}" for s in found.steps if s.status not in (None, "ok", "already", "skipped")]
    console.text(f"campaign: {len(done)} of {len(found.steps)} steps done" + "".join(f"; {words}" for words in wrong))
    for now in found.measuring:
        if now.requests_planned and now.requests_done < now.requests_planned:
            left = f", {about(now.left_s)} left at the pace so far" if now.left_s else ""
            console.text(
                f"  step {now.step}: {now.requests_done} of {now.requests_planned} requests{left};"
                f" the last began at {now.last_request_utc}"
            )
    console.next_is(found.next)


def _node_words(node: NodeStatus, count: int) -> str:
    if not node.reachable:
        return f"{node.host}: {node.trouble}"
    installed = f"EXO {node.installed[:12]}" if node.installed else "EXO is not installed"
    if node.pid is None:
        return f"{node.host}: {installed}" + (", does not run" if node.installed else "")
    if not node.api_answers:
        return f"{node.host}: {installed}, PID {node.pid}, API on {node.api_port}: {node.trouble or 'no answer'}"
    whole = "whole" if node.complete else f"NOT whole, sees {', '.join(node.sees) or 'nothing'}"
    return (
        f"{node.host}: {installed}, PID {node.pid}, API on {node.api_port},"
        f" topology {whole} ({len(node.sees)} of {count}), {node.device or 'device not told'}"
    )


def show_logs(lab: Lab, node: str = "", lines: int = 40, *, follow: bool = False) -> None:
    """Print the end of EXO's log of one node or of all, and with `follow` what comes, until Ctrl-C.

    Raises StepError where a node is unknown or cannot be reached.
    """
    cluster = ExoCluster(lab)
    if node and node not in cluster.nodes:
        raise StepError("is not one of nodes", f"one of {', '.join(cluster.nodes)}", "fab logs NODE", who=node)
    keys = [node] if node else list(cluster.nodes)
    sizes = cluster.each(lambda exo: exo.log_size(), keys)
    for key, text in cluster.each(lambda exo: exo.log_tail(), keys).items():
        shown = text.splitlines()[-lines:]
        for line in shown or [f"no log at {cluster.nodes[key].log_path}"]:
            console.note(key, line.expandtabs())
    while follow:
        time.sleep(FOLLOW_EVERY_S)
        sizes |= cluster.each(partial(_follow, sizes), keys)


def _follow(sizes: dict[str, int], exo: ExoNode) -> int:
    """Print what a node's log has gained beyond the bytes shown, all of it where it was begun anew; return its size."""
    size = exo.log_size()
    since = sizes[exo.key] if size >= sizes[exo.key] else 0
    if size == since:
        return size
    text = exo.log_since(since)
    for line in text.splitlines():
        console.note(exo.key, line.expandtabs())
    return since + len(text.encode())
