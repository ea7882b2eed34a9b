"""Connections between nodes as EXO 1.0.71 makes them, and the elections they start.

Every bootstrap address is dialled again every few seconds, connected or not. Each new connection, and each that ends,
starts a campaign on both sides, during which no command is taken. Given each other's addresses, nodes so campaign for
ever, complete all the while; a connection that is refused starts nothing.
"""

import threading
import time

from .engine.lines import dial


class Links:
    """The connections of one node."""

    def __init__(self, cluster, bootstrap, log) -> None:
        self._cluster, self._log = cluster, log
        self._bootstrap = bootstrap
        self._open_again = 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to dial."""
        for address, port in self._bootstrap:
            threading.Thread(target=self._keep_dialling, args=(address, port), daemon=True).start()

    def paused(self) -> float:
        """Return the seconds for which no command is taken yet."""
        return max(0.0, self._open_again - time.monotonic())

    def campaign(self) -> None:
        """Hold an election; one that is going on is cancelled and begun anew."""
        with self._lock:
            if self.paused():
                self._log("Cancelling other campaign")
            self._log("Waiting for other campaign to finish")
            self._open_again = time.monotonic() + self._cluster.settings.number("election_s", 0.3)

    def _keep_dialling(self, address: str, port: int) -> None:
        while True:
            threading.Thread(target=self._dial, args=(address, port), daemon=True).start()
            time.sleep(self._cluster.settings.number("redial_s", 0.3))

    def _dial(self, address: str, port: int) -> None:
        try:
            line = dial(address, port, 2.0)
            line.say({"ask": "join", "address": self._cluster.address, "port": self._cluster.peer_port})
            peer = line.hear()
            self._cluster.known.add((peer["address"], peer["port"]))
            self.campaign()
            line.hear()
        except (OSError, ValueError, KeyError):
            return
