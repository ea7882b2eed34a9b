"""Who is in the cluster as this node sees it, in the JSON of GET /v1/topology."""


class Topology:
    """Nodes and directed edges; merging follows exo/topology/topology.py of 0.0.15."""

    def __init__(self):
        self.nodes = {}
        self.peer_graph = {}

    def add_edge(self, source: str, target: str, description: str) -> None:
        """Note that `source` reaches `target`, once."""
        edges = self.peer_graph.setdefault(source, {})
        edges.setdefault(target, description)

    def merge(self, peer: str, other: dict) -> None:
        """Take from the JSON of `peer` what it says of itself."""
        if peer in other["nodes"]:
            self.nodes[peer] = other["nodes"][peer]
        for edge in other["peer_graph"].get(peer, []):
            self.add_edge(peer, edge["to_id"], edge["description"])

    def to_json(self) -> dict:
        """Return the answer of GET /v1/topology."""
        return {
            "nodes": dict(self.nodes),
            "peer_graph": {
                source: [{"from_id": source, "to_id": to, "description": text} for to, text in edges.items()]
                for source, edges in self.peer_graph.items()
            },
            "active_node_id": None,
        }
