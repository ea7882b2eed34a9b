"""Where a model goes: instances over 1, 2, 3 nodes, split by layers. A placement that cannot be is told to nobody."""

import random
import uuid

from .cards import shard
from .cluster import Cluster


def all_edges(cluster: Cluster, nodes: list[str]) -> bool:
    """Tell whether every node of `nodes` reaches every other one."""
    edges = {cluster.id: set(cluster.edges)} | {n: set(part["edges"]) for n, part in cluster.parts.items()}
    return all(set(nodes) - {node} <= edges.get(node, set()) for node in nodes)


def instance_over(cluster: Cluster, card: dict, nodes: list[str]) -> tuple[str, dict]:
    """Return a new instance's id and JSON, the layers split evenly over `nodes`."""
    key, world = str(uuid.uuid4()), len(nodes)
    runners = {node: str(uuid.uuid4()) for node in nodes}
    port = random.randint(49153, 65535)
    addresses = {node: cluster.address_of(node)[0] for node in nodes}
    inner = {
        "instanceId": key,
        "shardAssignments": {
            "modelId": card["modelId"],
            "runnerToShard": {runners[node]: shard(card, rank, world) for rank, node in enumerate(nodes)},
            "nodeToRunner": runners,
        },
        "hostsByNode": {
            node: [{"ip": "0.0.0.0" if other == node else addresses[other], "port": port} for other in nodes]
            for node in nodes
        },
        "ephemeralPort": port,
    }
    return key, {"MlxRingInstance": inner}


def place(cluster: Cluster, card: dict, min_nodes: int) -> None:
    """Place a model, or print why not: the client that asked has its HTTP 200 already."""
    nodes = cluster.alive()
    if len(nodes) < min_nodes or not all_edges(cluster, nodes[:min_nodes]):
        print("WARNING Error in command processor\nValueError: No cycles found with sufficient memory")
        return
    key, instance = instance_over(cluster, card, nodes[: max(1, min_nodes)])
    cluster.tell_all({"ask": "place", "id": key, "instance": instance})


def previews(cluster: Cluster, card: dict) -> list[dict]:
    """Return the placements that EXO would make, as GET /instance/previews lists them."""
    found, nodes = [], cluster.alive()
    for sharding in ("Pipeline", "Tensor"):
        for meta in ("MlxRing", "MlxJaccl"):
            for world in range(1, len(nodes) + 1):
                error = _why_not(card, sharding, meta, world)
                if error is None and world > 1 and not all_edges(cluster, nodes[:world]):
                    continue
                found.append(_preview(cluster, card, sharding, meta, nodes[:world], error))
                if error:
                    break
    return found


def _why_not(card: dict, sharding: str, meta: str, world: int) -> str | None:
    if meta == "MlxJaccl" and world > 1:
        return "Requested RDMA (MlxJaccl) but no RDMA-connected cycles available"
    heads = card["numKeyValueHeads"] or 1
    if sharding == "Tensor" and (card["hiddenSize"] % world or heads % world):
        told = f"hidden_size={card['hiddenSize']}, num_key_value_heads={card['numKeyValueHeads']}"
        return f"No tensor sharding found for model with {told} across candidate cycles"
    return None


def _preview(cluster: Cluster, card: dict, sharding: str, meta: str, nodes: list[str], error: str | None) -> dict:
    shares = {node: card["storageSize"]["inBytes"] // len(nodes) for node in nodes}
    return {
        "model_id": card["modelId"],
        "sharding": sharding,
        "instance_meta": meta,
        "instance": None if error else instance_over(cluster, card, nodes)[1],
        "memory_delta_by_node": None if error else shares,
        "error": error,
    }
