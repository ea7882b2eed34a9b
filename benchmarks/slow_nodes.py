"""Three OpenSSH nodes on loopback, as far away as one likes: for measuring what waits for a network.

Each node is an sshd of its own behind a proxy that holds every byte back for half a round trip. They share this
machine's processors and home folder; a home below the folder that is given is put in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import yaml

from benchmarks.metronome import PROJECT

KEYS = ("srv1", "srv2", "rog")


class SlowNodes(msgspec.Struct, frozen=True):
    """What is needed to reach them."""

    folder: Path
    ports: dict[str, int]

    @property
    def hosts(self) -> Path:
        """Return the hosts file."""
        return self.folder / "hosts.yaml"

    def ssh(self, key: str) -> list[str]:
        """Return a call of ssh that runs what it reads on a node."""
        options = [
            "-F",
            "none",
            "-i",
            str(self.folder / "id"),
            "-o",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
        ]
        return ["ssh", *options, "-p", str(self.ports[key]), "127.0.0.1", "bash -s"]


def lacking() -> str:
    """Return which program this needs and does not find, "" where all are there."""
    missing = [name for name in ("ssh", "ssh-keygen", "sshd") if not shutil.which(name, path=_PATH)]
    return ", ".join(missing)


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


@contextlib.contextmanager
def slow_nodes(folder: Path, round_trip_s: float) -> Iterator[SlowNodes]:
    """Bring three nodes up in `folder`, `round_trip_s` away, with an Ollama of no models each."""
    for name in ("id", "host"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(key, check=True, stdin=subprocess.DEVNULL)
    (folder / "home").mkdir()
    (folder / "authorized_keys").write_text((folder / "id.pub").read_text())
    for private in ("id", "host", "authorized_keys"):
        (folder / private).chmod(0o600)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_no_models())
        real = {key: stack.enter_context(_sshd(folder, key)) for key in KEYS}
        near = stack.enter_context(_delays(list(real.values()), round_trip_s / 2))
        nodes = SlowNodes(folder, dict(zip(KEYS, near, strict=True)))
        public = (folder / "host.pub").read_text().split()[:2]
        lines = [f"[127.0.0.1]:{port} {' '.join(public)}\n" for port in nodes.ports.values()]
        (folder / "known_hosts").write_text("".join(lines))
        nodes.hosts.write_text(yaml.safe_dump(_hosts(nodes, server)))
        yield nodes


def _hosts(nodes: SlowNodes, ollama_port: int) -> dict[str, object]:
    hosts = yaml.safe_load((PROJECT / "hosts.yaml").read_text(encoding="utf-8"))
    login = {"identity_file": str(nodes.folder / "id"), "known_hosts": str(nodes.folder / "known_hosts")}
    hosts["nodes"] = {
        key: {"host": "127.0.0.1", "port": port, "address": "127.0.0.1", **login} for key, port in nodes.ports.items()
    }
    hosts["ollama"] = {key: {"node": key, "url": f"http://127.0.0.1:{ollama_port}"} for key in ("srv1", "rog")}
    exo = hosts["profiles"][hosts["profile"]]["exo"]
    exo["python"] = ">=3.8"
    del exo["nodes"]
    return dict(hosts)


@contextlib.contextmanager
def _sshd(folder: Path, key: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / f"{key}.conf"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPasswordAuthentication no\nSetEnv HOME={folder / 'home'}\n"
        "MaxStartups 100\nLogLevel ERROR\n"
    )
    sshd = shutil.which("sshd", path=_PATH) or "sshd"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # it separates its privileges there
    with subprocess.Popen([sshd, "-D", "-f", str(config)], stdin=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"no sshd on port {port}")


@contextlib.contextmanager
def _delays(ports: list[int], one_way_s: float) -> Iterator[list[int]]:
    """Give a port before each of `ports` whose bytes take `one_way_s` longer, either way."""
    loop, near = asyncio.new_event_loop(), list[int]()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def late() -> None:
            while True:
                due_s, data = await queue.get()
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                if not data:
                    writer.close()
                    return
                writer.write(data)

        sending = loop.create_task(late())
        while True:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            queue.put_nowait((loop.time() + one_way_s, data))
            if not data:
                break
        await sending

    async def serve(port: int) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(2 * one_way_s)  # TCP's own hand-shake
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        near.append(server.sockets[0].getsockname()[1])

    for port in ports:
        loop.run_until_complete(serve(port))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield near
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextlib.contextmanager
def _no_models() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"version": "0.13.5", "models": []}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
