"""The stand-in for EXO 1.0.71 against its recordings: command line, state, placing, chat, and how it fails."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from rehearsal import cluster
from rehearsal.layout import NODES, Layout
from rehearsal.traps import tell
from tests import DATA
from tests.support.exo1_standin import (
    BENCH,
    CHAT,
    FAST,
    HELLO,
    MODEL,
    PLACING,
    QWEN,
    TOPIC,
    body_of,
    download_of,
    form,
    kinds_of,
    pids_of,
    ready,
    start_three,
    state,
)
from tests.support.exo_standin import log_of, start, stop, to, wait_until
from tests.support.recorded import recorded
from tests.support.wire import Answer, ask, documents, recording


@pytest.fixture(scope="module")
def nodes1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Lay out a rehearsal of generation 1; its SSH nodes are not needed here."""
    root = tmp_path_factory.mktemp("generation1")
    layout = cluster.lay_out(root, generation=1)
    tell(layout, NODES, "exo", **FAST)
    yield layout
    cluster.down(root)


@pytest.fixture(scope="module")
def cluster1(nodes1: Layout) -> Iterator[Layout]:
    """Have a cluster of three, its runners with an mlx that works."""
    running = start_three(nodes1, "0.31.2")
    yield nodes1
    stop(running)


def test_command_lines(nodes1: Layout) -> None:
    """Help is the recorded one; `--version`, `run` and `download` exit 2: there are no subcommands."""
    assert start(nodes1, "srv1", ["--help"]).wait(20) == 0
    assert log_of(nodes1, "srv1").strip() == recorded("identity", "exo_1.0.71_help.txt").strip()
    for flags in (["--version"], ["run", "--node-id", "srv1"], ["download", "qwen2.5:3b"]):
        assert start(nodes1, "srv1", flags).wait(20) == 2
        assert f"EXO: error: unrecognized arguments: {' '.join(flags)}" in log_of(nodes1, "srv1")


def test_answers_have_the_recorded_form(cluster1: Layout) -> None:
    """Status line, headers in order, keys in order and types are the recorded ones."""
    to(cluster1, "srv1", "POST /download/start", download_of(cluster1, "srv1"))
    wait_until(lambda: "DownloadCompleted" in str(state(cluster1, path="/downloads")))
    cases: dict[str, tuple[str, object]] = {
        "node_id": ("GET /node_id", ""),
        "state": ("GET /state", ""),
        "models": ("GET /v1/models", ""),
        "previews": (f"GET /instance/previews?model_id={quote(MODEL, safe='')}", ""),
        "no_instance": (CHAT, HELLO | {"model": "qwen2.5:3b"}),
        "previews_no_hub": ("GET /instance/previews?model_id=qwen2.5:3b", ""),
        "place_no_hub": ("POST /place_instance", {"model_id": "qwen2.5:3b"}),
        "add_no_hub": ("POST /models/add", {"model_id": "mlx-community/Nobody-Knows-4bit"}),
    }
    for name, (request, body) in cases.items():
        said, was = to(cluster1, "srv1", request, body), recording(TOPIC, name)
        assert said.frame() == was.frame(), name
        if name == "place_no_hub":
            assert said.body == was.body.strip()
        else:
            assert form(documents(said.body)[0]) == form(documents(was.body)[0]), name
    unknown = to(cluster1, "srv1", CHAT, HELLO | {"model": "qwen2.5:3b"})
    assert unknown.body == recording(TOPIC, "no_instance").body.strip()


def test_placing_chatting_deleting(cluster1: Layout) -> None:
    """The recorded flow: place, wait for three runners, chat in three ways, delete; each answer in its form."""
    key = ready(cluster1)
    assert form(documents(to(cluster1, "srv1", f"GET /instance/{key}").body)[0]) == form(body_of("instance"))
    bench = documents(to(cluster1, "srv1", BENCH, HELLO | {"max_tokens": 5, "use_prefix_cache": False}).body)[0]
    assert form(bench) == form(body_of("bench"))
    assert bench["usage"] is None
    whole = documents(to(cluster1, "srv2", CHAT, HELLO | {"max_tokens": 5}).body)[0]
    assert form(whole) == form(body_of("chat_whole"))
    assert whole["usage"]["completion_tokens"] == 5
    gone = to(cluster1, "rog", f"DELETE /instance/{key}")
    assert form(documents(gone.body)[0]) == form(body_of("delete"))
    again = to(cluster1, "rog", f"DELETE /instance/{key}")
    assert again.body == (DATA / TOPIC / "body_instance_gone.txt").read_text().strip()
    for node in NODES:
        wait_until(lambda node=node: state(cluster1, node, "/instances") == {})  # type: ignore[misc]


def test_streams_have_comments_usage_and_an_end(cluster1: Layout) -> None:
    """Comments first, one frame empty and one of two tokens, usage in the last chunk, statistics, [DONE]."""
    key = ready(cluster1)
    said = to(cluster1, "srv1", CHAT, HELLO | {"max_tokens": 9, "stream": True})
    was = (DATA / TOPIC / "body_chat_stream.txt").read_text(encoding="utf-8")
    assert kinds_of(said.body) == [*kinds_of(was)[:3], *["data"] * 9, *kinds_of(was)[-2:]]
    chunks, theirs = documents(said.body), documents(was)
    assert form(chunks[0]) == form(theirs[0])
    assert form(chunks[-1]) == form(theirs[-1])
    texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert [index for index, text in enumerate(texts) if text == ""] == [5]
    assert chunks[-1]["usage"]["completion_tokens"] == 9
    assert ("content-type", "text/event-stream; charset=utf-8") in said.headers
    again = to(cluster1, "srv1", CHAT, HELLO | {"max_tokens": 9, "stream": True})
    assert '"prefix_cache_hit":"exact"' in again.body
    to(cluster1, "srv1", f"DELETE /instance/{key}")


def test_200_is_not_a_placement(cluster1: Layout) -> None:
    """A placement over more nodes than there are is answered 200, and no instance ever appears."""
    said = to(cluster1, "srv1", "POST /place_instance", PLACING | {"min_nodes": 4})
    assert said.status.startswith("HTTP/1.1 200")
    assert form(documents(said.body)[0]) == form(body_of("place"))
    assert state(cluster1, path="/instances") == {}
    assert "Error in command processor" in log_of(cluster1, "srv1")


def test_added_card_downloads_per_node(cluster1: Layout) -> None:
    """A model of the hub gets a card everywhere; each download goes from ongoing to completed on its own node."""
    assert form(documents(to(cluster1, "srv1", "POST /models/add", {"model_id": QWEN}).body)[0])[0] == ("id", "str")
    wait_until(lambda: QWEN in to(cluster1, "rog", "GET /v1/models").body)
    tell(cluster1, NODES, "exo", download_s=1.0)
    to(cluster1, "srv1", "POST /download/start", download_of(cluster1, "rog", QWEN))
    rog = documents(to(cluster1, "rog", "GET /node_id").body)[0]

    def at_rog() -> str:
        entries = state(cluster1, path="/downloads")[rog]
        return next((next(iter(entry)) for entry in entries if QWEN in json.dumps(entry)), "")

    wait_until(lambda: at_rog() == "DownloadOngoing")
    wait_until(lambda: at_rog() == "DownloadCompleted")
    files = cluster1.node("rog").home / ".local/share/exo/models" / QWEN.replace("/", "--")
    assert (files / "model.safetensors").exists()
    assert not (cluster1.node("srv1").home / ".local/share/exo/models" / QWEN.replace("/", "--")).exists()


def test_locked_mlx_fails_every_runner(nodes1: Layout, cluster1: Layout) -> None:
    """With the mlx that 1.0.71 locks, every runner fails with the recorded words and the instance is deleted."""
    del cluster1  # it has the ports; this test needs one node of its own
    layout = nodes1
    packages = layout.root / "mlx-0.31.1"
    with zipfile.ZipFile(layout.wheels / "mlx-0.31.1-py3-none-any.whl") as wheel:
        wheel.extractall(packages)
    flags = ["--api-port", str(layout.ssh_port), "--libp2p-port", str(layout.rog_ssh_port)]
    alone = start(layout, "srv1", flags, PYTHONPATH=f"{layout.source}:{packages}")
    try:
        _locked_mlx(layout)
    finally:
        stop({"srv1": alone})


def _locked_mlx(layout: Layout) -> None:
    def said(request: str, body: object = "") -> Answer:
        return ask(layout.node("srv1").address, layout.ssh_port, request, json.dumps(body) if body else "")

    def answers() -> bool:
        try:
            return said("GET /node_id").status.startswith("HTTP/1.1 200")
        except OSError:
            return False

    wait_until(answers)
    said("POST /place_instance", PLACING | {"min_nodes": 1})
    wait_until(lambda: "new_thread_local_stream" in said("GET /state/runners").body)
    wait_until(lambda: said("GET /state/instances").body == "{}")


def test_ids_are_random(cluster1: Layout) -> None:
    """Every start has a random id of the form of a libp2p peer id."""
    ids = {key: to(cluster1, key, "GET /node_id").body for key in NODES}
    assert len(set(ids.values())) == 3
    assert all(re.fullmatch(r'"12D3KooW[A-Z2-7]{44}"', found) for found in ids.values())


def test_a_lost_node_takes_its_instance_along(nodes1: Layout, cluster1: Layout) -> None:
    """SIGKILL of one node: a little later the others have two nodes and no instance."""
    ready(cluster1)
    pids = pids_of(nodes1, "srv2")
    for pid in pids:
        subprocess.run(["kill", "-9", str(pid)], check=False)
    wait_until(lambda: len(state(cluster1, "srv1", "/topology")["nodes"]) == 2)
    assert state(cluster1, "srv1", "/instances") == {}
    assert to(cluster1, "srv1", CHAT, HELLO).status.startswith("HTTP/1.1 404")
