"""A link that dies in silence while somebody logs in is given up in time, and is not told as a refusal."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from tasks.errors import UnreachableError
from tasks.machines import ssh
from tasks.machines.remote import RemoteNode
from tests.support.sshd import Server, needs_sshd, sshd


@contextmanager
def silent_after(server: Server, count: int) -> Iterator[int]:
    """Stand before a server and pass on all that it hears, but of what it says `count` bytes alone; give the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def relay() -> None:
        client, _ = listener.accept()
        upstream = socket.create_connection(("127.0.0.1", server.port))
        threading.Thread(target=pass_on, args=(client, upstream), daemon=True).start()
        left = count
        with contextlib.suppress(OSError):
            while left and (data := upstream.recv(left)):
                client.sendall(data)
                left -= len(data)

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                target.sendall(data)

    threading.Thread(target=relay, daemon=True).start()
    with listener:
        yield int(listener.getsockname()[1])


@needs_sshd
def test_silence_at_any_moment_of_a_login_is_told_as_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the banner, in the exchange of keys (where paramiko waits for good), before the answer to a key."""
    monkeypatch.setattr(ssh, "BANNER_TIMEOUT_S", 1)
    monkeypatch.setattr(ssh, "AUTH_TIMEOUT_S", 1)
    told = {}
    with sshd(tmp_path) as server:
        spec = server.spec
        known = Path(spec.known_hosts or "")
        for count in (50, 400, 1200, 1500, 1700):
            with silent_after(server, count) as port:
                known.write_text(f"[127.0.0.1]:{port} {server.host_key}\n", encoding="utf-8")
                node = RemoteNode("rog", msgspec.structs.replace(spec, port=port))
                with closing(node), pytest.raises(UnreachableError) as raised:
                    node.run("true")
                told[count] = raised.value.problem.found
    assert all("fell silent" in words for words in told.values()), told
