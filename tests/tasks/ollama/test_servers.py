"""Loading and unloading at a server whose names others change: the stand-in, asked over HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from records.settings import Baseline
from rehearsal.engine.gpu import Gpu
from rehearsal.engine.settings import NAME, Settings
from rehearsal.engine.wire import listen, serve_aside
from rehearsal.ollama.api import Api
from tasks.machines.node import Node
from tasks.machines.wire import Reply, Request
from tasks.ollama import api as ollama
from tasks.ollama.servers import OllamaError, OllamaServer

MODEL, NOTES = "qwen2.5:3b", "Notes:Latest"


class Standin(OllamaServer):
    """A stand-in in this process, asked from this process; it is told its settings, as a trap does."""

    def __init__(self, home: Path) -> None:
        self.told = home / NAME
        self.tell(aliases={NOTES: MODEL})
        api = Api(Settings("ollama", home), Gpu(Settings("gpu", home)))
        self.listener = listen("127.0.0.1", 0)
        serve_aside(self.listener, api.answer, api.broken)
        url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        super().__init__("rog", Baseline("rog", url), cast("Node", None))

    def tell(self, **settings: Any) -> None:
        """Set these and no others."""
        self.told.write_text(json.dumps({"ollama": settings | {"load_s": 0.01}, "gpu": {}}))

    def ask(self, request: Request) -> Reply:
        """Send `request` from here."""
        connection = http.client.HTTPConnection("127.0.0.1", self.listener.getsockname()[1], timeout=5)
        connection.request(request.method, request.path, json.dumps(request.body) if request.body else None)
        answer = connection.getresponse()
        return Reply(answer.status, answer.read().decode())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Standin]:
    """Give a stand-in of a home of its own."""
    made = Standin(tmp_path)
    yield made
    made.listener.close()


def test_a_file_goes_under_our_name_where_its_own_was_removed(server: Standin) -> None:
    """Another name of the file loaded it and was removed: it is listed on, 404 to unload, and goes under ours."""
    server.load_afresh(NOTES, 4096, 5)
    server.tell(aliases={NOTES: MODEL}, lost_model=NOTES, changes_after=0)
    assert [model.name for model in server.memory()] == [NOTES]
    server.unload(MODEL)
    assert server.memory() == []


def test_a_model_that_was_removed_is_told_as_that(server: Standin) -> None:
    """Removed while it is in memory, and later: both are told with `ollama pull`, and with nothing about a client."""
    server.load_afresh(MODEL, 4096, 5)
    server.tell(lost_model=MODEL, changes_after=0)
    with pytest.raises(OllamaError) as held:
        server.unload(MODEL)
    server.tell()
    server.unload(MODEL)
    server.tell(lost_model=MODEL, changes_after=0)
    with pytest.raises(OllamaError) as gone:
        server.load_afresh(MODEL, 4096, 5)
    assert "has no qwen2.5:3b any more, and still holds it" in held.value.problem.found
    assert "model 'qwen2.5:3b' not found" in gone.value.problem.found
    assert all(f"ollama pull {MODEL}" in error.value.problem.do for error in (held, gone))


class Contended(Standin):
    """Another client loads our file under its own name as soon as we have loaded it."""

    def ask(self, request: Request) -> Reply:
        """Send `request`, and what the other client sends after a load of ours."""
        reply = super().ask(request)
        if request.body and request.body["model"] == MODEL and "options" in request.body:
            super().ask(ollama.unload_request(MODEL))
            super().ask(ollama.load_request(NOTES, 2048, 60, 5))
        return reply


def test_whoever_loads_our_file_after_us_is_named(tmp_path: Path) -> None:
    """A client that takes the file's place under another name is named, and so is what to do about it."""
    server = Contended(tmp_path)
    with pytest.raises(OllamaError) as caught:
        server.load_afresh(MODEL, 4096, 5)
    server.listener.close()
    assert f"holds {MODEL} as {NOTES} just after it was told to load it" in caught.value.problem.found
    assert f"end what uses {NOTES} there" in caught.value.problem.do
