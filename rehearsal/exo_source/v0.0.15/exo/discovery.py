"""Finding peers: `manual` reads a file in silence, `udp` needs equal ports, `tailscale` needs a key nobody has here."""

import json
import os
import socket
import threading
import time
from pathlib import Path

from .engine.settings import Settings
from .peers import Peer

DEVICE_KEYS = {"model", "chip", "memory", "flops"}
SILENT = int(os.environ.get("DEBUG_DISCOVERY", "0")) < 2


class Manual:
    """Peers from a JSON file, read again when it changes; whatever is wrong with it is an island without a word."""

    def __init__(self, path: str | None, node_id: str) -> None:
        if not path:
            raise ValueError(
                "--discovery-config-path is required when using manual discovery."
                " Please provide a path to a config json file."
            )
        self._path, self._id = Path(path), node_id
        self._read_at_ns, self._peers = -1, {}

    def peers(self) -> dict[str, Peer]:
        """Return the peers that the file names, itself left out."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._read_at_ns:
                self._peers = self._read()
                self._read_at_ns = changed_ns
        except Exception as error:
            if not SILENT:
                print(
                    f"Error when loading network config file from {self._path}. Please update the config file in"
                    f" order to successfully discover peers. Exception: {error}"
                )
        return self._peers

    def _read(self) -> dict[str, Peer]:
        if Settings("exo").get("discovery_fails", False):
            raise PermissionError(f"[Errno 13] Permission denied: '{self._path}'")
        found = {}
        for node_id, config in json.loads(self._path.read_text())["peers"].items():
            if not set(config["device_capabilities"]) >= DEVICE_KEYS:
                raise ValueError("device_capabilities: field required")
            found[node_id] = Peer(
                node_id, str(config["address"]), int(config["port"]), "MAN", config["device_capabilities"]
            )
        if self._id not in found:
            raise ValueError(f"Node ID {self._id} not found in network config file {self._path}.")
        return {node_id: peer for node_id, peer in found.items() if node_id != self._id}


class Udp:
    """Each node calls out to the broadcast port and listens on the listen port: unequal ports make islands."""

    def __init__(self, node_id: str, address: str, node_port: int, listen_port: int, broadcast_port: int) -> None:
        self._id, self._found = node_id, {}
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._sock.bind((address, listen_port))
        except OSError:
            return  # silent, as the real one
        neighbours = [f"{address.rpartition('.')[0]}.{host}" for host in (1, 2, 3)]
        hello = json.dumps({"type": "discovery", "node_id": node_id, "address": address, "port": node_port}).encode()
        threading.Thread(target=self._call, args=(hello, neighbours, broadcast_port), daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()

    def peers(self) -> dict[str, Peer]:
        """Return who was heard."""
        return dict(self._found)

    def _call(self, hello: bytes, neighbours: list[str], port: int) -> None:
        while True:
            for neighbour in neighbours:
                self._sock.sendto(hello, (neighbour, port))
            time.sleep(0.5)

    def _listen(self) -> None:
        device = {"model": "Linux Box", "chip": "Unknown Chip", "memory": 8192, "flops": {}}
        while True:
            try:
                hello = json.loads(self._sock.recv(65536))
            except (OSError, ValueError):
                continue  # a port that refuses says so here
            if hello["node_id"] != self._id:
                peer = Peer(hello["node_id"], hello["address"], hello["port"], "Ethernet (eth0)", device)
                self._found.setdefault(peer.id, peer)


class Nobody:
    """Tailscale discovery without a valid API key."""

    def peers(self) -> dict[str, Peer]:
        """Return nobody."""
        return {}
