"""One node: it asks its peers every now and then, and what it heard is its topology."""

import threading
import time

from .engine.settings import Settings
from .peers import Peer, UnavailableError
from .topology import Topology


class Node:
    """One node: its known peers, its view of the cluster, the downloads it was told of."""

    def __init__(self, node_id: str, capabilities: dict, discovery) -> None:
        self.id, self.capabilities, self._discovery = node_id, capabilities, discovery
        self.settings = Settings("exo")
        self.peers: dict[str, Peer] = {}
        self.lost_since: dict[str, float] = {}
        """Peers that no longer answer but still stand in the topology, since when."""
        self.topology = Topology()
        self.topology.nodes[node_id] = capabilities
        self.downloads: dict[str, dict] = {}

    def start(self) -> None:
        """Begin to look for peers and to ask them."""
        threading.Thread(target=self._keep_looking, daemon=True).start()

    def _keep_looking(self) -> None:
        time.sleep(self.settings.number("first_look_s", 0.3))
        while True:
            self._look()
            self._collect()
            time.sleep(self.settings.number("look_every_s", 0.8))

    def _look(self) -> None:
        """Ask every peer whether it is there; one that is lost is kept until it has been so for `stale_s`."""
        now, kept = time.monotonic(), {}
        for node_id, peer in self._discovery.peers().items():
            try:
                peer.ask({"ask": "health"})
                self.lost_since.pop(node_id, None)
                kept[node_id] = peer
            except UnavailableError:
                lost = self.lost_since.setdefault(node_id, now) if node_id in self.peers else 0.0
                if now - lost < self.settings.number("stale_s", 3.0):
                    kept[node_id] = peer
                else:
                    self.lost_since.pop(node_id, None)
        self.peers = kept

    def _collect(self) -> None:
        self.topology = self.collect(set(), 4)

    def collect(self, visited: set[str], depth: int) -> Topology:
        """Gather the topology as exo/orchestration/node.py of 0.0.15 does, peers telling of themselves."""
        peers = dict(self.peers)
        seen = Topology()
        seen.nodes[self.id] = self.capabilities
        now_visited = visited | {self.id} | set(peers)
        for peer in peers.values():
            seen.nodes[peer.id] = peer.capabilities
            seen.add_edge(self.id, peer.id, peer.description)
            if peer.id in visited or depth <= 0:
                continue
            if peer.id in self.lost_since:
                self._keep_stale(seen, peer.id)
                continue
            try:
                seen.merge(peer.id, peer.ask({"ask": "topology", "visited": sorted(now_visited), "depth": depth - 1}))
            except UnavailableError as error:
                print(f"Error collecting topology from {peer.id}: {error}")
                self._keep_stale(seen, peer.id)
        return seen

    def _keep_stale(self, seen: Topology, lost: str) -> None:
        """Repeat of a lost peer what was last known."""
        seen.merge(lost, self.topology.to_json())

    def tell_download(self, progress: dict | None) -> None:
        """Note this node's own download and tell every peer; None means that it is over."""
        self.note_download(self.id, progress)
        for peer in list(self.peers.values()):
            try:
                peer.ask({"ask": "status", "node_id": self.id, "progress": progress})
            except UnavailableError as error:
                print(f"Error sending opaque status to {peer.id}: {error}")

    def note_download(self, node_id: str, progress: dict | None) -> None:
        """Remember how far `node_id` is; None forgets it."""
        if progress is None:
            self.downloads.pop(node_id, None)
        else:
            self.downloads[node_id] = progress
