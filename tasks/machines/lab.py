"""Lab: the nodes of one inventory, and where this campaign's files lie.

One connection a node is kept for the whole chain of tasks. Nodes are worked side by side; what is wrong on any of them
is collected and raised once, so that a person hears of every offending host in one message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from records.record import Record
from records.settings import Inventory, Profile
from tasks.errors import StepError, all_of
from tasks.inventory import active
from tasks.machines import network
from tasks.machines.local import LocalNode
from tasks.machines.lock import ClusterLock
from tasks.machines.node import Node
from tasks.machines.remote import RemoteNode
from tasks.machines.threads import run_all

T = TypeVar("T")


class Lab:
    """The nodes of one inventory and where this campaign's files lie."""

    def __init__(self, inventory: Inventory, path: Path) -> None:
        self.inventory = inventory
        self.path = path
        self.nodes: dict[str, Node] = {
            key: LocalNode(key, spec) if spec.local else RemoteNode(key, spec) for key, spec in inventory.nodes.items()
        }
        self._addresses: dict[str, str] | None = None
        self.finished: list[Record] = []
        """What the steps of this `fab` call left, in the order of their ends."""
        self._lock: ClusterLock | None = None

    @property
    def profile(self) -> Profile:
        """The profile in force."""
        return active(self.inventory)

    @property
    def all_logs(self) -> Path:
        """`logs/` beside the hosts file: one folder a profile."""
        return self.path.parent / "logs"

    @property
    def logs(self) -> Path:
        """Where this campaign's records and samples go."""
        return self.all_logs / self.inventory.profile

    @property
    def docs(self) -> Path:
        """`docs/` beside the hosts file: where the report lands."""
        return self.path.parent / "docs"

    @property
    def bench_node(self) -> Node:
        """The node on which the benchmark script runs."""
        return self.nodes[self.inventory.bench.node]

    def each(self, work: Callable[[Node], T], keys: Iterable[str] | None = None) -> dict[str, T]:
        """Do `work` on the nodes side by side, one thread a node, and return the results by node key.

        All nodes are visited; StepErrors are raised as one at the end. Anything else is a bug and raised as it is.
        """
        return side_by_side({key: partial(work, self.nodes[key]) for key in keys or self.nodes})

    def addresses(self) -> dict[str, str]:
        """Return the IPv4 address of each node for the others; asked from Tailscale where not given."""
        if self._addresses is None:
            self._addresses = self.each(_address)
        return self._addresses

    def know_addresses(self, addresses: dict[str, str]) -> None:
        """Take the nodes' addresses as given instead of asking for them."""
        self._addresses = addresses

    def lock(self, *, wait: bool = False, hidden: Iterable[str] = ()) -> None:
        """Keep other operators out until `close`; see ClusterLock.take. Raises LockedError, OSError."""
        if self._lock is None:
            lock = ClusterLock(self.all_logs, self.nodes, self.bench_node.key, hidden)
            lock.take(wait=wait)
            self._lock = lock

    def close(self) -> None:
        """Give the lock back and end every connection."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        for node in self.nodes.values():
            node.close()


def side_by_side(jobs: dict[str, Callable[[], T]]) -> dict[str, T]:
    """Run `jobs` in one thread each, all to their end; raise their StepErrors as one that names every key."""
    results: dict[str, T] = {}
    errors: list[StepError] = []
    for key, outcome in run_all(jobs).items():
        try:
            results[key] = outcome.value()
        except StepError as error:
            errors.append(error.about(key))
    if errors:
        raise all_of(errors)
    return results


def _address(node: Node) -> str:
    if node.spec.address:
        return node.spec.address
    ran = node.run(network.address_command(), check=False)
    address = network.parse_address(ran.stdout)
    if address is None:
        answer = (ran.stderr or ran.stdout).strip()[:200]
        raise StepError(
            f"has no address in hosts.yaml and `tailscale ip -4` says: {answer}",
            "the IPv4 address by which the other nodes reach it",
            f"set nodes.{node.key}.address in hosts.yaml",
            who=node.key,
        )
    return address
