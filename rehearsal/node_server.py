"""One SSH node: `python -m rehearsal.node_server NODE.json`. Real SSH, SFTP and tunnels; needs no root.

Commands run as under sshd: a non-login bash whose environment comes from the server alone. What they leave running
survives the connection. When the rehearsal's folder is gone, so are the server and every process it marked.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from rehearsal.engine.settings import Settings
from rehearsal.processes import marked, stop_marked
from rehearsal.session import serve_session

FOLDER_POLL_S = 2.0
LINGER = "var/lib/systemd/linger"


@dataclass(frozen=True)
class NodeConfig:
    """What the server is told; written by rehearsal.cluster."""

    root: str
    address: str
    port: int
    home: str
    host_key: str
    authorized_keys: str
    environment: dict[str, str]


class HomeFiles(asyncssh.SFTPServer):
    """Files as the user sees them: absolute paths as they are, others from the home folder."""

    home = b"/"

    def map_path(self, path: bytes) -> bytes:
        """Return the real path of what the client named."""
        return os.path.normpath(path if path.startswith(b"/") else self.home + b"/" + path)

    def reverse_map_path(self, path: bytes) -> bytes:
        """Return what the client is told of a real path."""
        return path


class Door(asyncssh.SSHServer):
    """One connection. A tunnel to `localhost` ends at the node's own address, which is its localhost."""

    address = ""
    open_connections = 0
    log_out: Callable[[], None]

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection, which makes the tunnels."""
        self._conn = conn
        Door.open_connections += 1

    def connection_lost(self, _exc: Exception | None) -> None:
        """Log the user out with the last connection."""
        Door.open_connections -= 1
        if not Door.open_connections:
            Door.log_out()

    def connection_requested(self, dest_host: str, dest_port: int, _orig_host: str, _orig_port: int) -> Any:
        """Allow a tunnel to `dest_host:dest_port`."""
        own = dest_host in ("localhost", "127.0.0.1")
        return self._conn.forward_connection(self.address if own else dest_host, dest_port)


def log_out(config: NodeConfig) -> None:
    """End what the user's session leaves running where the settings say so, unless lingering is enabled; as logind."""
    settings = Settings("login", Path(config.home))
    lingers = Path(config.environment["EXO_PHASE1_SYSROOT"], LINGER, config.environment["USER"]).exists()
    if settings.get("kills_user_processes", False) and not lingers:
        for pid, command in marked(Path(config.root)).items():
            if f"{config.home}/" in command and "/venv/bin/exo" in command:
                os.kill(pid, signal.SIGTERM)


async def serve(config: NodeConfig) -> None:
    """Serve until SIGTERM, or until the rehearsal's folder is gone."""
    HomeFiles.home, Door.address = config.home.encode(), config.address
    Door.log_out = staticmethod(lambda: log_out(config))
    await asyncssh.listen(
        config.address,
        config.port,
        server_factory=Door,
        server_host_keys=[config.host_key],
        authorized_client_keys=config.authorized_keys,
        process_factory=lambda process: serve_session(process, config.environment, config.home),
        sftp_factory=HomeFiles,
        encoding=None,
        allow_scp=True,
        compression_algs=None,
    )
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    here = Path(config.root) / "rehearsal.json"
    while not done.is_set():
        if not here.exists():
            await asyncio.to_thread(stop_marked, Path(config.root), __spec__.name)
            return
        try:
            await asyncio.wait_for(done.wait(), FOLDER_POLL_S)
        except TimeoutError:
            continue


def main() -> None:
    """Run one node."""
    config = NodeConfig(**json.loads(Path(sys.argv[1]).read_text()))
    asyncio.run(serve(config))


if __name__ == "__main__":
    main()
