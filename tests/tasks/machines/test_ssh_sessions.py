"""SSH servers that let a login in and then give no session: one message, never a traceback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import msgspec
import pytest

from records.settings import NodeSpec
from tasks.errors import StepError, UnreachableError
from tasks.machines import ssh_login
from tasks.machines.remote import RemoteNode


class Refuses(asyncssh.SSHServer):
    """Says no to every session, as OpenSSH does beyond MaxSessions or for a user without a shell."""

    def session_requested(self) -> bool:
        """Refuse."""
        return False


class Leaves(asyncssh.SSHServer):
    """Ends the connection when a session is asked for, as a server does that is shut down."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection."""
        self.connection = conn

    def session_requested(self) -> bool:
        """Leave."""
        self.connection.abort()
        return False


class Open(asyncssh.SSHServer):
    """Lets in whoever comes, by the method `none`, as Tailscale SSH does."""

    def begin_auth(self, _username: str) -> bool:
        """Ask for no proof."""
        return False


class Holds(Open):
    """Says where to go and lets the login wait until somebody was there: Tailscale SSH's check mode."""

    visited = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection."""
        self.connection = conn

    async def begin_auth(self, _username: str) -> bool:  # type: ignore[override]
        """Speak, wait, ask for no proof."""
        self.connection.send_auth_banner("# To authenticate, visit:\n#   https://login.example/a/1\n")
        while not Holds.visited:
            await asyncio.sleep(0.02)
        return False


class TurnsAway(Holds):
    """Says why and leaves without naming any method, as Tailscale SSH does to whom the tailnet does not let in."""

    async def begin_auth(self, _username: str) -> bool:  # type: ignore[override]
        """Speak and leave."""
        self.connection.send_auth_banner('tailscale: tailnet policy does not permit you to SSH as user "owner"\n')
        raise asyncssh.PermissionDenied("")


@contextmanager
def serving(kind: type[asyncssh.SSHServer], folder: Path) -> Iterator[NodeSpec]:
    """Serve on a free loopback port, and yield the spec of a node there whose host key is known."""
    host_key, user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    user_key.write_private_key(folder / "id")
    user_key.write_public_key(folder / "id.pub")
    loop, ready = asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []

    async def listen() -> None:
        authorized = str(folder / "id.pub")
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=kind,
            server_host_keys=[host_key],
            authorized_client_keys=authorized,
            server_version="Tailscale",
        )
        ports.append(server.get_port())
        ready.set()

    def serve() -> None:
        task = loop.create_task(listen())
        loop.run_forever()
        task.result()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(10)
    public = host_key.export_public_key().decode().strip()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{ports[0]} {public}\n", encoding="utf-8")
    identity, known = str(folder / "id"), str(folder / "known_hosts")
    try:
        yield NodeSpec(host="127.0.0.1", port=ports[0], user="owner", identity_file=identity, known_hosts=known)
    finally:
        Holds.visited = True
        loop.call_soon_threadsafe(loop.call_later, 0.05, loop.stop)
        thread.join(10)


@pytest.mark.parametrize(("kind", "words"), [(Refuses, "rog: no session"), (Leaves, "rog: the link broke")])
def test_command_without_a_session_is_one_message(kind: type[asyncssh.SSHServer], words: str, tmp_path: Path) -> None:
    """Who, what was found, and what to type; the reason is never empty."""
    with serving(kind, tmp_path) as spec:
        node = RemoteNode("rog", spec)
        with pytest.raises(UnreachableError, match=words) as caught:
            node.run("true")
        node.close()
    assert not caught.value.problem.found.rstrip().endswith(":")
    assert "127.0.0.1 true" in caught.value.problem.do


def test_file_without_a_session_is_one_message(tmp_path: Path) -> None:
    """A copy fails likewise, naming the node."""
    with serving(Refuses, tmp_path) as spec:
        node = RemoteNode("rog", spec)
        with pytest.raises(StepError, match="rog"):
            node.put(b"x", "/tmp/never-there")
        node.close()


def test_a_login_without_proof_enters(tmp_path: Path) -> None:
    """Where the server wants no proof (method `none`), no key is needed."""
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "other")
    with serving(Open, tmp_path) as spec:
        node = RemoteNode("rog", msgspec.structs.replace(spec, identity_file=str(tmp_path / "other")))
        assert node.login.alive
        node.close()


def test_what_a_server_says_while_it_lets_wait_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page to visit is shown before anybody was there, and the login goes on as soon as somebody was."""
    monkeypatch.setattr(ssh_login, "TELL_AFTER_S", 0.1)
    Holds.visited = False
    with serving(Holds, tmp_path) as spec:
        node = RemoteNode("rog", spec)
        waiting = threading.Thread(target=node.open)
        waiting.start()
        shown = ""
        while "a/1\n" not in shown and waiting.is_alive():
            shown += capsys.readouterr().out
            time.sleep(0.01)
        assert "up to 5 min, and says: # To authenticate, visit: # https://login.example/a/1" in shown
        Holds.visited = True
        waiting.join(20)
        assert node.login.alive
        node.close()


def test_nobody_waits_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody does what the server says, the message says it once more."""
    monkeypatch.setattr(ssh_login, "HELD_S", 0.3)
    Holds.visited = False
    with serving(Holds, tmp_path) as spec, pytest.raises(UnreachableError, match=r"no word .*login\.example") as caught:
        RemoteNode("rog", spec).open()
    assert caught.value.problem.do.startswith("do what it says")


def test_a_server_that_turns_away_is_quoted(tmp_path: Path) -> None:
    """Its own words, and for Tailscale SSH where people are let in; no key is blamed."""
    with serving(TurnsAway, tmp_path) as spec, pytest.raises(UnreachableError, match='as user "owner"') as caught:
        RemoteNode("rog", spec).open()
    assert "access controls" in caught.value.problem.do
