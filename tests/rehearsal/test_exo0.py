"""The stand-in for EXO 0.0.15 against its recordings: command line, cluster, API, and the ways it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rehearsal.layout import NODES, Layout
from rehearsal.traps import tell
from tests.support.exo_standin import QUICK, edges_seen_by, log_of, start, start_all, stop, to, wait_until
from tests.support.recorded import recorded
from tests.support.wire import Answer, documents, recording, shape

TOPIC = "wire-exo-0.0.15"
MODEL = "llama-3.2-3b"
CHAT, DOWNLOAD = "POST /v1/chat/completions", "POST /download"
HELLO = {"messages": [{"role": "user", "content": "Say hello"}]}


@pytest.fixture(scope="module")
def cluster3(nodes: Layout) -> Iterator[Layout]:
    """Have a formed cluster of three while the tests of this file run that need one."""
    tell(nodes, NODES, "exo", **QUICK)
    running = start_all(nodes)
    yield nodes
    stop(running)


def same_form(said: Answer, name: str) -> None:
    """Compare with a recording: status, headers in order, keys in order, types."""
    was = recording(TOPIC, name)
    was = Answer(was.status, was.headers, was.body.replace("srv3", "rog"))
    assert (
        Answer(said.status, [h for h in said.headers if h != ("Connection", "close")], "").frame()
        == Answer(was.status, [h for h in was.headers if h != ("Connection", "close")], "").frame()
    )
    if was.body.startswith(("{", "data")):
        assert shape(documents(said.body)[0]) == shape(documents(was.body)[0])
        assert shape(documents(said.body)[-1]) == shape(documents(was.body)[-1])


def exo(nodes: Layout, key: str, *flags: str, **more: str) -> tuple[int, str]:
    """Run `exo FLAGS` to its end; returns exit code and output."""
    code = start(nodes, key, list(flags), **more).wait(20)
    return code, log_of(nodes, key)


def test_pip_installs_it_without_a_network(nodes: Layout, tmp_path: Path) -> None:
    """Pip builds the source with its own backend alone: the wheel is exo 0.0.1 with the real extras."""
    pip = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*pip, str(nodes.source)], check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"})
    metadata = (tmp_path / "exo-0.0.1.dist-info" / "METADATA").read_text()
    assert "Provides-Extra: amd-gpu" in metadata
    assert "Provides-Extra: amd\n" not in metadata
    ran = subprocess.run(
        [tmp_path / "bin" / "exo", "--help"], capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)}
    )
    text = recorded("identity", "exo_0.0.15_help.txt")
    assert ran.stdout.strip() == text[text.index("usage:") :].strip()


@pytest.mark.parametrize("flags", [["--version"], ["download", "qwen2.5:3b"], ["download"], ["--no-such-flag"]])
def test_wrong_command_lines_exit_2(nodes: Layout, flags: list[str]) -> None:
    """`--version` and `download` do not exist: usage on the terminal, exit code 2."""
    code, said = exo(nodes, "srv1", *flags)
    assert code == 2
    assert "usage: exo [-h] [--default-model DEFAULT_MODEL]" in said
    assert "exo: error: " in said


def test_run_is_a_one_shot(nodes: Layout) -> None:
    """`exo run` says that the chat interface started, never listens, and exits 0."""
    code, said = exo(nodes, "srv1", "run", "--node-id", "srv1", "--chatgpt-api-port", str(nodes.api_port))
    assert code == 0
    assert said.index("Chat interface started") < said.index("Error: Model name is required when using 'run'")


def test_amd_without_pyrsmi_crashes(nodes: Layout) -> None:
    """AMD=1 without the extra amd-gpu ends at the start with ModuleNotFoundError."""
    code, said = exo(nodes, "rog", "--node-id", "rog", AMD="1")
    assert code == 1
    assert said.rstrip().endswith("ModuleNotFoundError: No module named 'pyrsmi'")


def test_answers_have_the_recorded_form(cluster3: Layout) -> None:
    """Status line, headers in order, keys in order and types are the recorded ones."""
    cases: dict[str, tuple[str, object]] = {
        "healthcheck": ("GET /healthcheck", ""),
        "topology": ("GET /v1/topology", ""),
        "models": ("GET /v1/models", ""),
        "download_progress_idle": ("GET /v1/download/progress", ""),
        "not_found": ("GET /api/tags", ""),
        "download_unknown": (DOWNLOAD, {"model": "qwen2.5:3b"}),
        "download_no_model": (DOWNLOAD, {}),
        "chat_not_json": (CHAT, "not json"),
        "chat_no_messages": (CHAT, {"model": MODEL}),
        "chat_whole": (CHAT, HELLO | {"model": MODEL, "stream": False}),
        "chat_stream": (CHAT, HELLO | {"model": MODEL, "stream": True}),
    }
    for name, (request, body) in cases.items():
        same_form(to(cluster3, "srv1", request, body), name)


def test_words_are_the_recorded_ones(cluster3: Layout) -> None:
    """Lists of models and refusals are the same text."""
    for name, request, body in (
        ("models", "GET /v1/models", ""),
        ("download_unknown", DOWNLOAD, {"model": "qwen2.5:3b"}),
        ("download_mlx_only", DOWNLOAD, {"model": "qwen-2.5-3b"}),
    ):
        assert to(cluster3, "srv1", request, body).body == recording(TOPIC, name).body.strip()
    refused = to(cluster3, "srv1", CHAT, HELLO | {"model": "qwen-2.5-3b"})
    assert refused.status == "HTTP/1.1 400 Bad Request"
    assert refused.body == recorded("exo-0.0.x", "chat_unsupported_tinygrad.json").strip()


def test_every_node_sees_the_whole_cluster(cluster3: Layout) -> None:
    """Each node's own topology has three nodes and six edges, and says which device it computes on."""
    for key in NODES:
        assert edges_seen_by(cluster3, key) == 6
        devices = documents(to(cluster3, key, "GET /v1/topology").body)[0]["nodes"]
        assert {found["model"] for found in devices.values()} == {"Linux Box (Device: CPU)"}


def test_unknown_model_is_answered_by_the_default(cluster3: Layout) -> None:
    """qwen2.5:3b gets HTTP 200 from llama-3.2-1b; only `model` in the answer tells."""
    said = documents(to(cluster3, "srv1", CHAT, HELLO | {"model": "qwen2.5:3b"}).body)[0]
    assert said["model"] == "llama-3.2-1b"


def test_length_is_the_start_flags(cluster3: Layout) -> None:
    """`max_tokens` is ignored: as many tokens come as --max-generate-tokens says, one a frame, then EOF, no [DONE]."""
    said = to(cluster3, "srv2", CHAT, HELLO | {"model": MODEL, "stream": True, "max_tokens": 2})
    frames = documents(said.body)
    assert len(frames) == 6
    assert [f["choices"][0]["finish_reason"] for f in frames] == [None] * 5 + ["length"]
    assert "[DONE]" not in said.body
    text = "".join(f["choices"][0]["delta"]["content"] for f in frames)
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    counted = documents(to(cluster3, "srv2", "POST /v1/chat/token/encode", body).body)[0]["num_tokens"]
    empty = {"model": MODEL, "messages": [{"role": "user", "content": ""}]}
    frame = documents(to(cluster3, "srv2", "POST /v1/chat/token/encode", empty).body)[0]["num_tokens"]
    assert counted - frame == 6


@pytest.mark.parametrize(("at_once", "texts_right", "slower"), [(2, True, 1.8), (3, False, 23.7), (4, False, 38.6)])
def test_chats_at_once_are_slow_and_from_three_on_wrong(
    cluster3: Layout, at_once: int, texts_right: bool, slower: float
) -> None:
    """Two share the time; three and four take 24 and 39 times as long and all say one nonsense, with HTTP 200."""
    tell(cluster3, NODES, "exo", first_token_s=0.1, tokens_per_s=100.0)
    body = HELLO | {"model": MODEL, "stream": False}
    try:
        alone = documents(to(cluster3, "srv1", CHAT, body).body)[0]["choices"][0]["message"]["content"]
        begin = time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            said = list(pool.map(lambda _: to(cluster3, "srv1", CHAT, body), range(at_once)))
        spent_s = time.monotonic() - begin
    finally:
        tell(cluster3, NODES, "exo", **QUICK)
    assert {one.status for one in said} == {"HTTP/1.1 200 OK"}
    texts = {documents(one.body)[0]["choices"][0]["message"]["content"] for one in said}
    assert texts == {alone} if texts_right else len(texts) == 1 and texts != {alone}
    assert spent_s >= 0.15 * slower


def test_download_is_told_to_every_node(cluster3: Layout) -> None:
    """A download shows in every node's progress while it runs, leaves files on its own node, then is forgotten."""
    tell(cluster3, ("rog",), "exo", download_s=1.5)
    to(cluster3, "rog", DOWNLOAD, {"model": "llama-3.1-8b"})
    for key in NODES:
        wait_until(lambda key=key: "rog" in to(cluster3, key, "GET /v1/download/progress").body)  # type: ignore[misc]
    told = documents(to(cluster3, "srv1", "GET /v1/download/progress").body)[0]
    recorded_form = json.loads(recorded("exo-0.0.x", "progress_1s.json"))
    if told:  # it may be over by now
        assert list(told["rog"]) == list(next(iter(recorded_form.values())))
    wait_until(lambda: to(cluster3, "srv1", "GET /v1/download/progress").body == "{}")
    files = sorted(f.name for f in (cluster3.node("rog").home / ".cache/exo/downloads").glob("mlabonne--*/*"))
    assert len(files) == 9


def test_second_start_lives_without_an_api(cluster3: Layout) -> None:
    """A second exo on a used API port stays alive; its log has the OSError, and SIGTERM ends it with exit code 1."""
    flags = ["--node-id", "second", "--chatgpt-api-port", str(cluster3.api_port), "--disable-tui"]
    second = start(cluster3, "srv1", flags)
    wait_until(lambda: "address already in use" in log_of(cluster3, "srv1"))
    assert second.poll() is None
    second.send_signal(signal.SIGTERM)
    assert second.wait(10) == 1
    assert "Received exit signal SIGTERM..." in log_of(cluster3, "srv1")
