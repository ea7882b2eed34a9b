"""GET /state: the whole cluster as one JSON, keys in the order of EXO 1.0.71."""

import datetime
import os
import shutil
import time
from pathlib import Path

from .cluster import Cluster

IDENTITY = {
    "modelId": "Unknown Model",
    "chipId": "Unknown Chip",
    "friendlyName": "",
    "osVersion": "Linux",
    "osBuildVersion": "Unknown",
}


def state(cluster: Cluster) -> dict:
    """Return the state as this node knows it."""
    nodes, parts = cluster.alive(), dict(cluster.parts)
    memory, disk = _memory(), shutil.disk_usage(Path.home())
    addresses = {cluster.id: cluster.address} | {node: part["address"] for node, part in parts.items()}
    edges = {cluster.id: dict(cluster.edges)} | {node: part["edges"] for node, part in parts.items()}
    downloads = {cluster.id: list(cluster.downloads.known.values())}
    downloads |= {node: part["downloads"] for node, part in parts.items()}
    now = time.time()
    return {
        "instances": dict(cluster.instances),
        "runners": cluster.runner_states(),
        "downloads": {node: _with_pending(cluster, node, entries) for node, entries in downloads.items()},
        "tasks": {},
        "lastSeen": {node: _stamp(now) for node in nodes},
        "topology": {"nodes": nodes, "connections": {node: found for node, found in edges.items() if found}},
        "lastEventAppliedIdx": int((time.monotonic() - cluster.began) * 20),
        "nodeIdentities": {node: IDENTITY | {"friendlyName": os.environ.get("HOSTNAME", "vm")} for node in nodes},
        "nodeMemory": dict.fromkeys(nodes, memory),
        "nodeDisk": {node: {"total": {"inBytes": disk.total}, "available": {"inBytes": disk.free}} for node in nodes},
        "nodeSystem": {},
        "nodeNetwork": {node: {"interfaces": _interfaces(addresses[node])} for node in nodes if node in addresses},
        "nodeThunderbolt": {},
        "nodeThunderboltBridge": {},
        "nodeRdmaCtl": {},
        "thunderboltBridgeCycles": [],
    }


def _with_pending(cluster: Cluster, node: str, entries: list[dict]) -> list[dict]:
    """Return a node's downloads, the many that nobody asked for included."""
    told = {next(iter(next(iter(e.values()))["shardMetadata"].values()))["modelCard"]["modelId"] for e in entries}
    static = (card for card in list(cluster.cards.values()) if not card["isCustom"] and card["modelId"] not in told)
    return [*entries, *(cluster.downloads.pending(node, card) for card in static)]


def _interfaces(address: str) -> list[dict]:
    names = (("lo", "127.0.0.1"), ("lo", "::1"), ("tailscale0", address))
    return [{"name": name, "ipAddress": ip, "interfaceType": "unknown"} for name, ip in names]


def _memory() -> dict:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    told = {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines if len(fields) > 1}
    names = {"ramTotal": "MemTotal", "ramAvailable": "MemAvailable", "swapTotal": "SwapTotal"}
    return {key: {"inBytes": told.get(name, 0)} for key, name in (names | {"swapAvailable": "SwapFree"}).items()}


def _stamp(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).isoformat().replace("+00:00", "Z")
