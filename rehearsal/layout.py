"""Where everything of one rehearsal lies, and which addresses and ports it has.

Each rehearsal has a loopback network of its own, 127.x.y.0/24, so that any number of them run side by side and none
meets a real Ollama or EXO. The layout is kept in `rehearsal.json` of the root folder.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rehearsal.processes import MARK

NODES = ("srv1", "srv2", "rog")
HOSTNAMES = {"srv1": "ndnlinuxsrv1", "srv2": "ndnlinuxsrv2", "rog": "rog-flow-z13"}
USER = "rehearsal"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PORTS = (20_000, 32_000)
"""Below Linux's ephemeral ports, so that no outgoing connection takes one by chance."""


@dataclass(frozen=True)
class NodeLayout:
    """One node."""

    key: str
    folder: Path
    address: str
    ssh_port: int

    @property
    def home(self) -> Path:
        """HOME of its user."""
        return self.folder / "home"

    @property
    def bin(self) -> Path:
        """First on its PATH."""
        return self.folder / "bin"

    @property
    def sysroot(self) -> Path:
        """What EXO_PHASE1_SYSROOT is there: its /proc, /sys and /dev as far as they matter."""
        return self.folder / "sysroot"

    @property
    def settings(self) -> Path:
        """What its stand-ins read while they run."""
        return self.home / ".rehearsal.json"

    @property
    def log(self) -> Path:
        """What its SSH server says."""
        return self.folder / "sshd.log"


@dataclass(frozen=True)
class Layout:
    """One rehearsal. `trap` is the name of the trap that was laid, if any."""

    root: Path
    generation: int
    speedup: float
    noise: float
    seed: int
    trap: str | None
    network: str
    """The first three numbers, `127.81.12`."""
    ssh_port: int
    rog_ssh_port: int
    ollama_port: int
    api_port: int
    peer_port: int
    drift: float = 0.0
    """Relative change of both engines' rate, from `drift_from_s` (Unix time) on, over `drift_over_s`."""
    drift_from_s: float = 0.0
    drift_over_s: float = 240.0

    @property
    def hosts_file(self) -> Path:
        """The hosts.yaml of this rehearsal."""
        return self.root / "hosts.yaml"

    @property
    def wheels(self) -> Path:
        """Where the nodes' pip looks instead of an index."""
        return self.root / "wheels"

    @property
    def source(self) -> Path:
        """The source tree that the nodes install EXO from."""
        return self.root / "source" / ("exo-0.0.15" if self.generation == 0 else "exo-1.0.71")

    def node(self, key: str) -> NodeLayout:
        """Return where one node is."""
        port = self.rog_ssh_port if key == "rog" else self.ssh_port
        return NodeLayout(key, self.root / "nodes" / key, f"{self.network}.{NODES.index(key) + 1}", port)

    def nodes(self) -> list[NodeLayout]:
        """Return all three nodes."""
        return [self.node(key) for key in NODES]

    def ollama_url(self, key: str) -> str:
        """Return where the Ollama stand-in of a node answers."""
        return f"http://{self.node(key).address}:{self.ollama_port}"

    def write(self) -> None:
        """Keep this in rehearsal.json."""
        (self.root / "rehearsal.json").write_text(json.dumps(asdict(self) | {"root": str(self.root)}, indent=2) + "\n")


def environment(layout: Layout, node: NodeLayout) -> dict[str, str]:
    """Return what a command on `node` finds in its environment; pip there sees the rehearsal's wheels alone."""
    return {
        "HOME": str(node.home),
        "USER": USER,
        "LOGNAME": USER,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "PATH": f"{node.bin}:{SYSTEM_PATH}",
        "HOSTNAME": HOSTNAMES[node.key],
        "TMPDIR": str(node.folder / "tmp"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(layout.wheels),
        "EXO_PHASE1_SYSROOT": str(node.sysroot),
        "EXO_PHASE1_NODE_ADDRESS": node.address,
        MARK: str(layout.root),
    }


def read_layout(root: Path) -> Layout:
    """Return the layout of the rehearsal in `root`; FileNotFoundError where there is none."""
    kept = json.loads((root / "rehearsal.json").read_text())
    return Layout(**(kept | {"root": Path(kept["root"])}))


def new_layout(
    root: Path, generation: int, speedup: float, noise: float, seed: int, trap: str | None, drift: float
) -> Layout:
    """Choose a network and ports that nothing uses now."""
    dice = random.SystemRandom()
    taken = _networks_in_use()
    while (network := f"127.{dice.randint(1, 254)}.{dice.randint(1, 254)}") in taken:
        pass
    ports = _free_ports(dice, network, 5)
    return Layout(root, generation, speedup, noise, seed, trap, network, *ports, drift=drift, drift_from_s=time.time())


def _networks_in_use() -> set[str]:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    addresses = (bytes.fromhex(line.split()[1].partition(":")[0])[::-1] for line in lines)
    return {".".join(map(str, address[:3])) for address in addresses}


def _free_ports(dice: random.SystemRandom, network: str, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = dice.randint(*PORTS)
        if port not in found and all(_bindable(f"{network}.{host}", port) for host in (1, 2, 3)):
            found.append(port)
    return found


def _bindable(address: str, port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((address, port))
        except OSError:
            return False
    return True
