"""Who is there: each node asks every other one for its part of the state, and tells all of them what is to be done."""

import random
import threading
import time
import urllib.request

from .cards import keep, kept, static
from .downloads import Downloads
from .engine.lines import Line, ask, dial
from .engine.settings import Settings
from .links import Links
from .runners import Runners

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class Cluster:
    """One node and what it knows of the others; ids are random at each start."""

    def __init__(self, address: str, api_port: int, peer_port: int, bootstrap: list[tuple[str, int]], log) -> None:
        self.id = "12D3KooW" + "".join(random.SystemRandom().choices(ALPHABET, k=44))
        self.address, self.api_port, self.peer_port = address, api_port, peer_port
        self.settings = Settings("exo")
        self.began = time.monotonic()
        self.links = Links(self, bootstrap, log)
        self.known: set[tuple[str, int]] = set()
        self.parts: dict[str, dict] = {}
        """Other node's id -> its part of the state."""
        self.seen: dict[str, float] = {}
        self.lines: dict[tuple[str, int], Line] = {}
        self.edges: dict[str, list[dict]] = {}
        self.cards = static() | kept()
        self.instances: dict[str, dict] = {}
        self.deleted: set[str] = set()
        self.downloads = Downloads(self.id)
        self.runners = Runners()

    def start(self) -> None:
        """Begin to ask."""
        self.downloads.look(self.cards)
        self.links.start()
        threading.Thread(target=self._keep_asking, daemon=True).start()

    def alive(self) -> list[str]:
        """Return the ids of all nodes, this one first."""
        return [self.id, *sorted(self.parts)]

    def address_of(self, node_id: str) -> tuple[str, int]:
        """Return where a node listens for its peers."""
        if node_id == self.id:
            return self.address, self.peer_port
        part = self.parts[node_id]
        return part["address"], part["port"]

    def part(self) -> dict:
        """Return this node's part of the state."""
        return {
            "id": self.id,
            "address": self.address,
            "port": self.peer_port,
            "known": [(part["address"], part["port"]) for part in list(self.parts.values())],
            "edges": self.edges,
            "downloads": list(self.downloads.known.values()),
            "runners": dict(self.runners.states),
            "instances": dict(self.instances),
            "deleted": sorted(self.deleted),
            "custom": [card for card in self.cards.values() if card["isCustom"]],
        }

    def tell_all(self, message: dict) -> None:
        """Do something here and on every other node."""
        self.obey(message)
        for node_id in list(self.parts):
            try:
                ask(*self.address_of(node_id), message)
            except (OSError, ValueError, KeyError):
                continue  # it hears of it by asking, or is lost

    def obey(self, message: dict) -> None:
        """Do what a message says: add a card, fetch, place or delete."""
        what = message["ask"]
        if what == "card":
            self._add_card(message["card"])
        elif what == "fetch" and message["node"] == self.id:
            self.downloads.start(message["shard"])
        elif what == "place":
            self._take_instance(message["id"], message["instance"])
        elif what == "delete":
            self._drop_instance(message["id"])

    def answer(self, message: dict) -> dict | None:
        """Answer another node."""
        if message["ask"] == "part":
            self.known.add((message["address"], message["port"]))
            return self.part()
        if message["ask"] == "join":
            self.known.add((message["address"], message["port"]))
            self.links.campaign()
            return {"address": self.address, "port": self.peer_port}
        if message["ask"] == "prompt":
            return {}
        if message["ask"] in ("token", "end"):
            return None
        self.obey(message)
        return {}

    def _keep_asking(self) -> None:
        while True:
            time.sleep(self.settings.number("look_every_s", 0.3))
            for address, port in sorted(self.known):
                if (address, port) != (self.address, self.peer_port):
                    self._ask(address, port)
            self._forget_lost()
            if time.monotonic() - self.began > self.settings.number("edges_after_s", 1.0):
                self._probe_edges()
            self._delete_broken()

    def _ask(self, address: str, port: int) -> None:
        try:
            part = self._hear_part(address, port)
        except (OSError, ValueError):
            if all((p["address"], p["port"]) != (address, port) for p in list(self.parts.values())):
                self.known.discard((address, port))  # lost: it comes back by a link of its own
            return
        self.known |= {(one, at) for one, at in part["known"]}
        for node_id in [n for n, p in self.parts.items() if (p["address"], p["port"]) == (address, port)]:
            if node_id != part["id"]:
                self._forget(node_id)  # restarted: it has another id now
        self.parts[part["id"]], self.seen[part["id"]] = part, time.monotonic()
        for card in part["custom"]:
            if card["modelId"] not in self.cards:
                self._add_card(card)
        for key, instance in part["instances"].items():
            if key not in part["deleted"]:
                self._take_instance(key, instance)

    def _hear_part(self, address: str, port: int) -> dict:
        """Ask another node over a connection that is kept, as libp2p's are."""
        line = self.lines.pop((address, port), None) or dial(address, port, 1.0)
        line.say({"ask": "part", "address": self.address, "port": self.peer_port})
        part = line.hear()
        self.lines[address, port] = line
        return part

    def _forget_lost(self) -> None:
        for node_id, at in list(self.seen.items()):
            if time.monotonic() - at > self.settings.number("stale_s", 2.0):
                self._forget(node_id)

    def _forget(self, node_id: str) -> None:
        for known in (self.parts, self.seen, self.edges):
            known.pop(node_id, None)
        for key, instance in list(self.instances.items()):
            if node_id in _runners_of(instance):
                self._drop_instance(key)

    def _probe_edges(self) -> None:
        """Note each node whose API answers with its id under its address and our own port."""
        for node_id, part in list(self.parts.items()):
            url = f"http://{part['address']}:{self.api_port}/node_id"
            try:
                with urllib.request.urlopen(url, timeout=1) as answer:
                    found = answer.read().decode().strip('"') == node_id
            except OSError:
                found = False
            if found:
                self.edges[node_id] = [{"sinkMultiaddr": multiaddr(part["address"], self.api_port)}]
            else:
                self.edges.pop(node_id, None)

    def _add_card(self, card: dict) -> None:
        self.cards[card["modelId"]] = card
        keep(card)
        self.downloads.look({card["modelId"]: card})

    def _take_instance(self, key: str, instance: dict) -> None:
        if key in self.instances or key in self.deleted:
            return
        self.instances[key] = instance
        runner = _runners_of(instance).get(self.id)
        if runner:
            self.runners.start(runner, layers_of(instance, runner))

    def _drop_instance(self, key: str) -> None:
        self.deleted.add(key)
        instance = self.instances.pop(key, None)
        if instance and (runner := _runners_of(instance).get(self.id)):
            self.runners.stop(runner)

    def _delete_broken(self) -> None:
        """Delete an instance of which a runner failed, as the master does."""
        states = self.runner_states()
        for key, instance in list(self.instances.items()):
            if any("RunnerFailed" in states.get(runner, {}) for runner in _runners_of(instance).values()):
                self.tell_all({"ask": "delete", "id": key})

    def runner_states(self) -> dict[str, dict]:
        """Return the state of every runner anywhere."""
        states = dict(self.runners.states)
        for part in list(self.parts.values()):
            states |= part["runners"]
        return states

    def ready_instance(self, model: str) -> dict | None:
        """Return an instance of `model` all of whose runners are ready."""
        states = self.runner_states()
        for instance in list(self.instances.values()):
            inner = next(iter(instance.values()))
            if inner["shardAssignments"]["modelId"] == model and all(
                "RunnerReady" in states.get(runner, {}) for runner in _runners_of(instance).values()
            ):
                return instance
        return None


def multiaddr(address: str, port: int) -> dict:
    """Return an address as EXO writes it."""
    text = f"/ip4/{address}/tcp/{port}"
    return {"address": text, "address_type": "ip4", "ip_address": address, "port": port}


def _runners_of(instance: dict) -> dict[str, str]:
    """Return node id -> runner of an instance."""
    return next(iter(instance.values()))["shardAssignments"]["nodeToRunner"]


def nodes_of(instance: dict) -> list[str]:
    """Return the nodes of an instance."""
    return list(_runners_of(instance))


def layers_of(instance: dict, runner: str) -> int:
    """Return how many layers a runner has."""
    shard = next(iter(next(iter(instance.values()))["shardAssignments"]["runnerToShard"][runner].values()))
    return shard["endLayer"] - shard["startLayer"]
