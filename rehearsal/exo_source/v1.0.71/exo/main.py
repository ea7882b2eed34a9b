"""Start as EXO 1.0.71 does: no subcommands, peers by multiaddr, an API on the same port of every node."""

import os
import socket
import sys
import time
import traceback
from pathlib import Path

from .api import Api
from .chat import Chat
from .cluster import Cluster
from .engine.ending import noted_signals, wait_for
from .engine.lines import serve as serve_peers
from .engine.wire import listen, serve_aside
from .flags import addresses, parse

ADDRESS = os.environ.get("EXO_PHASE1_NODE_ADDRESS", "0.0.0.0")
"""The real one binds 0.0.0.0; three nodes on one machine each need an address of their own."""


def main() -> None:
    """Be `exo`."""
    flags = parse(sys.argv[1:])
    noted = noted_signals()
    peers = _peers(flags.libp2p_port)
    cluster = Cluster(ADDRESS, flags.api_port, peers.getsockname()[1], addresses(flags.bootstrap_peers), log)
    log(f"Starting node {cluster.id}")
    _look_for_models()
    time.sleep(cluster.settings.number("start_s", 0.1))
    serve_peers(peers, cluster.answer)
    api = Api(cluster, Chat(cluster))
    try:
        serve_aside(listen(ADDRESS, flags.api_port), api.answer, api.broken)
    except OSError as error:
        log(f"API failed: {error}", "ERROR")
        raise SystemExit(1) from error
    log(f"Running on http://{ADDRESS}:{flags.api_port} (CTRL + C to quit)")
    cluster.start()
    wait_for(noted)
    log("Shutting down")
    cluster.runners.stop_all()
    time.sleep(cluster.settings.number("stop_s", 0.5))
    sys.stdout.flush()
    os._exit(0)


run = main
"""Both generations of stand-in can be started by one name."""


def log(text: str, level: str = "INFO") -> None:
    """Print a line as loguru does."""
    print(f"[ {time.strftime('%I:%M:%S')}.0000{time.strftime('%p')} | {level:<8}] {text}")


def _look_for_models() -> None:
    """Warn with a traceback on a fresh machine, as the real one does: its folder of models is not there yet."""
    try:
        os.listdir(Path.home() / ".local" / "share" / "exo" / "models")
    except FileNotFoundError:
        log(f"Failed to look for models\n{traceback.format_exc()}", "WARNING")


def _peers(port: int) -> socket.socket:
    try:
        return listen(ADDRESS, port)
    except OSError as error:
        log(f"libp2p cannot listen on {ADDRESS}:{port}: {error}", "ERROR")
        raise SystemExit(1) from error
