"""The stand-in for EXO 1.0.71 against its recordings: command line, state, placing, chat, and how it fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from rehearsal import cluster
from rehearsal.layout import NODES, Layout
from rehearsal.processes import marked
from rehearsal.traps import tell
from tests.exo_standin import QUICK, Process, log_of, start, stop, to, wait_until
from tests.recorded import recorded
from tests.wire import DATA, Answer, ask, documents, recording, shape

TOPIC = "wire-exo-1.0.71"
MODEL = "mlx-community/Llama-3.2-1B-Instruct-4bit"
QWEN = "mlx-community/Qwen2.5-3B-Instruct-4bit"
HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello"}]}
CHAT, BENCH = "POST /v1/chat/completions", "POST /bench/chat/completions"
FAST = QUICK | {"load_s": 0.2, "edges_after_s": 0.3, "look_every_s": 0.1}
PLACING = {"model_id": MODEL, "sharding": "Pipeline", "instance_meta": "MlxRing", "min_nodes": 3}
ID = re.compile(r"12D3KooW\w+|[0-9a-f]{8}-[0-9a-f-]{27}")


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


def start_three(nodes: Layout, mlx: str) -> dict[str, Process]:
    """Start three nodes and wait until each one's state has all six edges."""
    packages = nodes.root / f"mlx-{mlx}"
    if not packages.exists():
        with zipfile.ZipFile(nodes.wheels / f"mlx-{mlx}-py3-none-any.whl") as wheel:
            wheel.extractall(packages)
    running = {}
    for key in NODES:
        others = ",".join(f"/ip4/{n.address}/tcp/{nodes.peer_port}" for n in nodes.nodes() if n.key != key)
        flags = ["--api-port", str(nodes.api_port), "--libp2p-port", str(nodes.peer_port), "--bootstrap-peers", others]
        running[key] = start(nodes, key, flags, PYTHONPATH=f"{nodes.source}:{packages}")
    for key in NODES:
        wait_until(lambda key=key: edges(nodes, key) == 6)  # type: ignore[misc]
    return running


def state(nodes: Layout, key: str = "srv1", path: str = "") -> Any:
    """Return the state that a node tells, or a part of it."""
    return documents(to(nodes, key, f"GET /state{path}").body)[0]


def edges(nodes: Layout, key: str) -> int:
    """Return how many edges a node knows; 0 while it does not answer."""
    try:
        return sum(len(sinks) for sinks in state(nodes, key, "/topology")["connections"].values())
    except OSError:
        return 0


def ready(nodes: Layout, model: str = MODEL) -> str:
    """Place a model over three nodes and wait for its runners; returns the instance."""
    to(nodes, "srv1", "POST /place_instance", PLACING | {"model_id": model})
    wait_until(lambda: [*state(nodes)["runners"].values()].count({"RunnerReady": {}}) == 3)
    found: str = next(iter(state(nodes)["instances"]))
    return found


def form(value: Any) -> Any:
    """Return the shape of a value, ids as keys counting as one key."""
    if isinstance(value, dict) and value and all(ID.fullmatch(key) for key in value):
        return {"an id": form(next(iter(value.values())))}
    if isinstance(value, dict):
        return [(key, form(inner)) for key, inner in value.items()]
    return [form(value[0])] if isinstance(value, list) and value else shape(value)


def body_of(name: str) -> Any:
    """Return a recorded body as JSON."""
    return json.loads((DATA / TOPIC / f"body_{name}.txt").read_text(encoding="utf-8"))


def test_command_lines(nodes1: Layout) -> None:
    """Help is the recorded one; `--version`, `run` and `download` exit 2: there are no subcommands."""
    assert start(nodes1, "srv1", ["--help"]).wait(20) == 0
    assert log_of(nodes1, "srv1").strip() == recorded("identity", "exo_1.0.71_help.txt").strip()
    for flags in (["--version"], ["run", "--node-id", "srv1"], ["download", "qwen2.5:3b"]):
        assert start(nodes1, "srv1", flags).wait(20) == 2
        assert f"EXO: error: unrecognized arguments: {' '.join(flags)}" in log_of(nodes1, "srv1")


def test_answers_have_the_recorded_form(cluster1: Layout) -> None:
    """Status line, headers in order, keys in order and types are the recorded ones."""
    to(cluster1, "srv1", "POST /download/start", _download(cluster1, "srv1"))
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
    assert _kinds(said.body) == [*_kinds(was)[:3], *["data"] * 9, *_kinds(was)[-2:]]
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
    to(cluster1, "srv1", "POST /download/start", _download(cluster1, "rog", QWEN))
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
    pids = _pids(nodes1, "srv2")
    for pid in pids:
        subprocess.run(["kill", "-9", str(pid)], check=False)
    wait_until(lambda: len(state(cluster1, "srv1", "/topology")["nodes"]) == 2)
    assert state(cluster1, "srv1", "/instances") == {}
    assert to(cluster1, "srv1", CHAT, HELLO).status.startswith("HTTP/1.1 404")


def test_uv_stand_in_installs_it(nodes1: Layout, tmp_path: Path) -> None:
    """`uv sync` needs the dashboard and makes a venv with `exo` and the locked mlx, which an override replaces."""
    project = tmp_path / "src"
    subprocess.run(["cp", "-r", str(nodes1.source), str(project)], check=True)
    uv = [str(nodes1.node("srv1").bin / "uv")]
    own = {"PATH": "/usr/bin:/bin", "PIP_FIND_LINKS": str(nodes1.wheels), "UV_PROJECT_ENVIRONMENT": str(tmp_path / "v")}
    sync = [*uv, "sync", "--frozen", "--no-dev", "--python", sys.executable, "--extra", "cpu"]

    def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, cwd=project, env=own, capture_output=True, text=True)

    assert "dashboard/build is missing" in run(sync).stderr
    npm = str(nodes1.node("srv1").bin / "npm")
    assert subprocess.run([npm, "run", "build"], cwd=project / "dashboard", env=own).returncode == 0
    assert run(sync).returncode == 0
    python = str(tmp_path / "v/bin/python")
    asks = "from importlib.metadata import version as v; print(v('mlx'), v('exo'))"
    assert run([python, "-c", asks]).stdout == "0.31.1 0.3.70\n"
    overrides = tmp_path / "overrides.txt"
    overrides.write_text("mlx==0.31.2\n")
    assert run([*uv, "pip", "install", "--python", python, "--override", str(overrides), "mlx==0.31.2"]).returncode == 0
    assert run([python, "-c", asks]).stdout == "0.31.2 0.3.70\n"
    assert "--libp2p-port" in run([str(tmp_path / "v/bin/exo"), "--help"]).stdout
    refused = run([*sync, "--extra", "amd"])
    assert (refused.returncode, "Extra `amd` is not defined" in refused.stderr) == (2, True)


def _download(nodes: Layout, key: str, model: str = MODEL) -> dict[str, Any]:
    target = documents(to(nodes, key, "GET /node_id").body)[0]
    previews = documents(to(nodes, "srv1", f"GET /instance/previews?model_id={quote(model, safe='')}").body)[0]
    placed = next(iter(previews["previews"][0]["instance"].values()))
    return {"targetNodeId": target, "shardMetadata": next(iter(placed["shardAssignments"]["runnerToShard"].values()))}


def _kinds(body: str) -> list[str]:
    """Return what each line of an SSE body is: a comment's name, `data`, or `done`."""
    lines = [line for line in body.splitlines() if line.strip()]
    plain = {"data: [DONE]": "done"}
    return [line.split()[1] if line.startswith(":") else plain.get(line, "data") for line in lines]


def _pids(nodes: Layout, key: str) -> list[int]:
    address = nodes.node(key).address
    found = []
    for pid, command in marked(nodes.root).items():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        if f"EXO_PHASE1_NODE_ADDRESS={address}\0".encode() in environment and "--libp2p-port" in command:
            found.append(pid)
    return found
