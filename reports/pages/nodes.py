"""Records -> what the report says about the machines: cluster formation and environment."""

from __future__ import annotations

import msgspec

from records import facts, plan
from records.campaign import Campaign
from reports.pages.engines import calibration_said, gpu_table, model_table, ollama_table
from reports.text import format as fmt
from reports.text.table import Code, Table, clip, without_empty, without_empty_columns


class ClusterView(msgspec.Struct, frozen=True):
    """Whether the cluster formed, and who saw whom."""

    outcome: str
    """`success`, `fail`, `not run` or `not known`."""
    said: str
    table: Table | None


class EnvironmentView(msgspec.Struct, frozen=True):
    """What everything ran on."""

    nodes: Table | None
    commands: list[tuple[str, str]]
    """Node and its start command."""
    ollama: Table | None
    models: Table | None
    gpu: Table | None
    calibration: Table | None
    instrument: str


def cluster_view(campaign: Campaign) -> ClusterView:
    """Return whether step 8 succeeded and what every node sees; later topologies where the benchmark noted them."""
    record, cluster, unread = campaign.records.get(8), campaign.cluster, campaign.unreadable_step(8)
    if unread:
        return ClusterView("not known", f"The record of step 8 cannot be read: {clip(unread.words, cap=400)}", None)
    if record is None:
        return ClusterView("not run", "Step 8 (verify-cluster) has not run.", None)
    if cluster is None:
        outcome = "not run" if record.status == "skipped" else "fail"
        return ClusterView(outcome, clip(record.trouble, plan.step_numbered(8).record_name), None)
    seen = len([view for view in cluster.nodes.values() if view.complete])
    summary = (
        f"{seen} of {len(cluster.expected_nodes)} nodes report the whole cluster in their own topology "
        f"({len(cluster.expected_nodes)} nodes, {cluster.expected_edges} directed links)."
    )
    benchmark = _last_benchmark(campaign)
    head = ["Node", "Sees", "Links", "Complete", "After", "Says it computes on"]
    if benchmark:
        head.append("At the benchmark's start / end")
    rows = []
    for name in [*cluster.expected_nodes, *(extra for extra in cluster.nodes if extra not in cluster.expected_nodes)]:
        view = cluster.nodes.get(name)
        row = [
            name,
            fmt.listed([clip(other, cap=40) for other in view.sees]) or "nobody" if view else "did not answer",
            f"{view.edges} of {cluster.expected_edges}" if view else "",
            fmt.yes_no(view.complete) if view else "no",
            fmt.duration(view.formed_s) if view and view.formed_s is not None else "",
            clip(view.devices.get(name, ""), cap=80) if view else "",
        ]
        if benchmark:
            row.append(" / ".join(_whole(b.get(name)) for b in (benchmark.topology_start, benchmark.topology_end)))
        rows.append(row)
    outcome = "success" if cluster.complete and campaign.done(8) else "fail"
    return ClusterView(outcome, summary, without_empty_columns(Table(head, rows, [2])))


def environment_view(campaign: Campaign) -> EnvironmentView:
    """Collect hardware, software and models from the records of steps 1 to 13."""
    calibration, instrument = calibration_said(campaign)
    return EnvironmentView(
        nodes=_nodes(campaign),
        commands=[(node, clip(exo.command, cap=900)) for node, exo in campaign.started.items()],
        ollama=ollama_table(campaign),
        models=model_table(campaign.models),
        gpu=gpu_table([exo.gpu for exo in campaign.installed.values() if exo.gpu]),
        calibration=calibration,
        instrument=instrument,
    )


def _whole(complete: bool | None) -> str:
    return {True: "whole", False: "not whole", None: "not noted"}[complete]


def _last_benchmark(campaign: Campaign) -> facts.Benchmark | None:
    benchmark = campaign.benchmark(12)
    return benchmark if benchmark and (benchmark.topology_start or benchmark.topology_end) else None


NODE_LABELS = [
    "Host", "Calls itself", "OS", "Kernel", "CPU", "CPUs", "Memory", "GPU's memory", "Free disk",
    "Round trip from the bench node", "Network", "Python", "Layers it gets", "EXO", "Revision", "Source",
    "EXO's Python", "Packages", "Compute probe", "Node id", "Says it computes on", "Ready after",
]  # fmt: skip


def _nodes(campaign: Campaign) -> Table | None:
    preflight, installed, started = campaign.preflight, campaign.installed, campaign.started
    names = list(preflight.nodes) if preflight else []
    names += [node for node in {**installed, **started} if node not in names]
    if not names:
        return None
    network = preflight.network if preflight else {}
    layers = preflight.layers(campaign.profile) if preflight else {}
    columns = [
        [
            *_machine(preflight.nodes.get(name) if preflight else None, network.get(name, "")),
            f"{layers[name]} of {sum(layers.values())}" if name in layers else "",
            *_software(installed.get(name), started.get(name)),
        ]
        for name in names
    ]
    return without_empty(["", *names], columns, NODE_LABELS)


def _machine(node: facts.NodePython | None, network: str) -> list[str]:
    if node is None:
        return [*[""] * 10, clip(network, cap=80), ""]
    return [
        clip(node.host, cap=80),
        clip(node.hostname, cap=80),
        clip(node.os, cap=80),
        clip(node.kernel, cap=80),
        clip(node.cpu, cap=80),
        str(node.cpu_count),
        fmt.size(node.memory_bytes),
        f"{fmt.size(node.amd.vram_bytes)} + {fmt.size(node.amd.gtt_bytes)} of the RAM (GTT)" if node.amd else "",
        fmt.size(node.disk_free_bytes),
        fmt.duration(node.round_trip_s) if node.round_trip_s is not None else "",
        clip(network, cap=80),
        clip(f"{node.python_version} ({node.python})", cap=120),
    ]


def _software(exo: facts.Installed | None, process: facts.Started | None) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in exo.packages.items()) if exo else ""
    return [
        clip(f"{exo.release} (generation {exo.generation})", cap=80) if exo else "",
        Code(clip(exo.revision, cap=64)) if exo and exo.revision else "",
        Code(clip(exo.source, cap=120)) if exo and exo.source else "",
        clip(exo.python_version, cap=40) if exo else "",
        clip(packages, cap=200),
        clip(exo.probe.words, cap=300) if exo and exo.probe else "",
        Code(clip(process.node_id, cap=64)) if process else "",
        clip(f"{process.device} ({process.device_kind})", cap=120) if process else "",
        fmt.duration(process.ready_s) if process else "",
    ]
