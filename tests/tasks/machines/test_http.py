"""Control-plane HTTP loses nothing, over a plain socket and over OpenSSH's tunnel (tests/rehearsal has its own)."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from records.settings import NodeSpec
from tasks.exo.gen1_download import state_at
from tasks.machines.http import TRIES, call, drive
from tasks.machines.local import LocalNode
from tasks.machines.remote import RemoteNode
from tasks.machines.wire import CutAnswerError, Request, read_reply
from tests.support.slow_server import BODY, GET, all_answers_come_whole, serving
from tests.support.sshd import needs_sshd, sshd


def test_a_plain_socket_brings_the_whole_of_a_slow_answer() -> None:
    """400 kB after a pause, in pieces."""
    all_answers_come_whole(LocalNode("srv1", NodeSpec(host="localhost", local=True)))


@needs_sshd
def test_a_tunnel_of_openssh_brings_the_whole_of_a_slow_answer(tmp_path: Path) -> None:
    """29 of 30 such answers were cut once: the channel was closed when the head had come."""
    with sshd(tmp_path) as server, closing(RemoteNode("rog", server.spec)) as node:
        all_answers_come_whole(node)


def test_a_cut_answer_is_asked_again_and_never_taken_for_an_empty_one() -> None:
    """Twice cut, the third is whole; cut for good, the error has a name of its own and says how much came."""
    node = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    head = f"Content-Length: {len(BODY)}"
    with serving(head, cuts=TRIES - 1) as server:
        assert len(call(node, "127.0.0.1", server.port, GET).text) == len(BODY)
    with serving(head, cuts=99) as server:
        reply = call(node, "127.0.0.1", server.port, GET)
        assert (reply.status, reply.cut, server.asked) == (0, True, TRIES)
        assert reply.words == f"the answer was cut: 100000 of {len(BODY)} bytes came"
        with pytest.raises(CutAnswerError, match="srv1: EXO's state: the answer was cut"):
            drive(lambda _, request: call(node, "127.0.0.1", server.port, request), state_at("srv1"))


def test_a_cut_answer_to_what_changes_something_is_not_asked_again() -> None:
    """A chat sent twice would be two chats."""
    node = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    with serving(f"Content-Length: {len(BODY)}", cuts=99) as server:
        reply = call(node, "127.0.0.1", server.port, Request("POST", "/v1/chat/completions", {}, timeout_s=5))
        assert (reply.cut, server.asked) == (True, 1)
        with pytest.raises(CutAnswerError):
            read_reply(reply, dict, "the chat")


def test_an_answer_that_never_ends_is_given_up_in_time() -> None:
    """A byte now and then is no answer: the time-out of a request is that of all of it."""
    node = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    with serving("Server: old", dribbles=True) as server:
        begin = time.monotonic()
        reply = call(node, "127.0.0.1", server.port, Request("POST", "/quit", {}, timeout_s=0.5))
        assert time.monotonic() - begin < 3
        assert (reply.cut, reply.words.endswith("bytes came and no end within 0.5 s")) == (True, True)
