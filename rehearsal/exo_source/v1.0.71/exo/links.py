"""Connections between nodes as EXO 1.0.71 makes them, and the elections they start.

Every bootstrap address is dialled again every few seconds, connected or not. Each new connection, and each that ends,
starts a campaign on both sides, during which no command is taken. Given each other's addresses, nodes so campaign for
ever, complete all the while; a connection that is refused starts nothing.
"""

import os
import threading
import time
from pathlib import Path

from .engine.lines import dial

FALL = """[ 12:00:20.9482PM | CRITICAL] EXO terminated due to unhandled exception
  + Exception Group Traceback (most recent call last):
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "exo/worker/main.py", line 126, in _forward_info
    | anyio.BrokenResourceError
    +------------------------------------"""


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
            self._fall()
            line.sock.settimeout(None)
            line.hear()
        except (OSError, ValueError, KeyError):
            return

    def _fall(self) -> None:
        """End at the change of master, as often as the settings say: a race of the real one's own."""
        falls, book = int(self._cluster.settings.number("falls_at_join", 0)), Path.home() / ".rehearsal-falls"
        fallen = int(book.read_text()) if book.exists() else 0
        if fallen < falls:
            book.write_text(str(fallen + 1))
            print(FALL, flush=True)
            self._cluster.runners.stop_all()
            os._exit(1)
