"""Whatever a user or a machine can cause is one message: who, what was found, what was needed, what to type."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from records.record import read_record
from rehearsal import cluster
from rehearsal.layout import Layout
from tests.support.fab import fab, marked

LOGS = Path("logs/llama-0015")


@pytest.fixture
def hosts(nodes: Layout) -> Iterator[Path]:
    """Give the rehearsal's hosts file, put back as it was afterwards."""
    path = Path(nodes.root) / "hosts.yaml"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def edit(hosts: Path, *keys: str, value: Any) -> None:
    """Set one value in the rehearsal's hosts file."""
    head, _, body = hosts.read_text(encoding="utf-8").partition("\n")
    content = json.loads(body)
    at = content
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    hosts.write_text(f"{head}\n{json.dumps(content)}\n", encoding="utf-8")


def told(stderr: str, *words: str) -> None:
    """Check that a message has all its parts, these words, and no traceback."""
    assert "Traceback" not in stderr
    for word in ("found:", "needed:", "do:", *words):
        assert word in stderr, stderr


def one_block_each(stderr: str, *names: str) -> dict[str, dict[str, str]]:
    """Return the blocks of a message, who -> found, needed and do; these and no others, each once, no name doubled."""
    blocks: dict[str, dict[str, str]] = {}
    name = ""
    for line in stderr.strip().splitlines():
        if line.startswith("  "):
            part, _, words = line.strip().partition(":")
            blocks[name][part] = words.strip()
            assert not words.strip().startswith(f"{name}:"), line
        else:
            name = line.removesuffix(": could not go on.")
            assert name not in blocks, stderr
            blocks[name] = {}
    assert sorted(blocks) == sorted(names), stderr
    return blocks


def test_hosts_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing hosts file is one line with its name."""
    done = fab("preflight", hosts=tmp_path / "none.yaml")
    assert done.returncode == 1
    assert done.stderr.strip() == f"hosts file: {tmp_path / 'none.yaml'}: there is no such file"


def test_mistake_in_the_hosts_file(hosts: Path) -> None:
    """A wrong key is named before any connection is made, and no record pretends that a step ran."""
    edit(hosts, "nodes", "rog", "prot", value=1)
    done = fab("verify-python", hosts=hosts)
    assert done.returncode == 1
    assert "nodes.rog.prot: there is no such key; did you mean port?" in done.stderr
    assert not (hosts.parent / LOGS / "01-verify-python.json").exists()


def test_unreachable_nodes_are_all_named(hosts: Path) -> None:
    """Two dead nodes: one message with both, exit 1, and a record that says so."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        edit(hosts, "nodes", "srv2", "port", value=closed.getsockname()[1])
    edit(hosts, "nodes", "rog", "host", value="no-such-host.invalid")
    done = fab("preflight", hosts=hosts)
    assert done.returncode == 1
    told(done.stderr, "srv2: could not go on", "refuses the connection", "rog: could not go on", "no-such-host.invalid")
    record = read_record(hosts.parent / LOGS / "01-verify-python.json")
    assert record.status == "failed"
    assert [problem.what for problem in record.errors] == ["srv2", "rog"]


def test_missing_python_is_named_on_every_node(hosts: Path) -> None:
    """Where no node has the Python that the release needs, one message names all three and what each has."""
    edit(hosts, "profiles", "llama-0015", "exo", "python", value=">=3.99")
    done = fab("preflight", hosts=hosts)
    assert done.returncode == 1
    for problem in one_block_each(done.stderr, "srv1", "srv2", "rog").values():
        assert problem["found"].startswith("has 3.")
        assert problem["needed"] == "a Python >=3.99 with venv"


def test_dead_ollama_is_named(nodes: Layout, hosts: Path) -> None:
    """An Ollama that does not answer fails preflight with its address."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    edit(hosts, "ollama", "rog", "url", value=url)
    done = fab("preflight", hosts=hosts)
    assert done.returncode == 1
    told(done.stderr, "Ollama 'rog'", url)


def test_option_that_is_no_number(hosts: Path) -> None:
    """`--runs abc` is one line and exit 2, before anything is measured; no record of an earlier run is touched."""
    records = sorted((hosts.parent / LOGS).glob("*.json"))
    before = {path: path.read_bytes() for path in records}
    for words in (
        ("bench", "--runs", "abc"),
        ("bench-baseline", "--runs", "0"),
        ("bench", "--concurrency", "many"),
        ("bench", "--runs", "5", "--until-decided"),
        ("bench", "--control", "--concurrency", "1,2"),
        ("bench-comparison", "--runs", "5", "--until-decided"),
    ):
        done = fab(*words, hosts=hosts)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in sorted((hosts.parent / LOGS).glob("*.json"))} == before


def test_start_before_install(hosts: Path) -> None:
    """A start without an install names all three nodes and what to type."""
    done = fab("start", hosts=hosts)
    assert done.returncode == 1
    problems = one_block_each(done.stderr, "srv1", "srv2", "rog")
    assert {node: problem["do"] for node, problem in problems.items()} == {
        node: f"fab install-{node}" for node in problems
    }
    assert done.stdout.count("needed:") == 0  # the summary lines say where, the blocks below say what


def test_an_install_that_fails_everywhere_is_one_block_a_node(hosts: Path) -> None:
    """Three installs side by side leave three failed records, and each node's trouble stands on the terminal once."""
    edit(hosts, "profiles", "llama-0015", "exo", "source", value="/no/such/folder")
    done = fab("install", hosts=hosts)
    assert done.returncode == 1
    for node, problem in one_block_each(done.stderr, "srv1", "srv2", "rog").items():
        assert problem["found"].count("there is no folder /no/such/folder") == 1
        assert f"fab install-{node}" in problem["do"]
    statuses = {read_record(path).status for path in (hosts.parent / LOGS).glob("0[234]-install-*.json")}
    assert statuses == {"failed"}


def test_two_dead_ollamas_are_two_blocks(hosts: Path) -> None:
    """Two baselines that do not answer at the benchmark are told one by one, each with its address once."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    arms = ("srv1", "rog")
    for arm in arms:
        edit(hosts, "ollama", arm, "url", value=url)
    done = fab("download-model", hosts=hosts)
    assert done.returncode == 1
    problems = one_block_each(done.stderr, *(f"Ollama '{arm}'" for arm in arms))
    assert all(problem["found"].startswith(f"{url}: Ollama's version: no answer") for problem in problems.values())


def test_wrong_source_is_named_and_leaves_nothing_unnamed(hosts: Path) -> None:
    """A source that does not exist fails the install with pip's last word and says where the half of it lies."""
    edit(hosts, "profiles", "llama-0015", "exo", "source", value="/no/such/exo-0.0.15.tar.gz")
    done = fab("install-srv1", hosts=hosts)
    assert done.returncode == 1
    told(done.stderr, "srv1", "exo-0.0.15.tar.gz", ".exo-phase1", "fab install-srv1")


def test_full_disk_is_named(hosts: Path) -> None:
    """Where the record cannot be written, the message says so and what to look at; the old record stays."""
    logs = hosts.parent / LOGS
    logs.parent.mkdir(exist_ok=True)
    aside = logs.with_name("aside")
    if logs.exists():
        logs.rename(aside)
    logs.write_text("a file where the folder should be", encoding="utf-8")
    try:
        done = fab("stop-cluster", hosts=hosts)
    finally:
        logs.unlink()
        if aside.exists():
            aside.rename(logs)
    assert done.returncode == 1
    told(done.stderr, "this machine", str(logs), "a file is in the way")


def test_port_in_use_is_named(nodes: Layout, hosts: Path) -> None:
    """A taken API port is named with the process that holds it before EXO is started, and EXO is not started."""
    assert fab("install-srv2", hosts=hosts).returncode == 0
    address = nodes.node("srv2").address
    with socket.create_server((address, nodes.api_port)):
        done = fab("start-srv2", hosts=hosts)
    assert done.returncode == 1
    told(done.stderr, f"port {nodes.api_port} is taken by", "free ports")
    assert [line for line in marked(Path(nodes.root)) if "/venv/bin/exo" in line] == []


def test_ollama_that_dies_is_named_by_cleanup(tmp_path: Path) -> None:
    """An Ollama that is gone at cleanup is an error, though nothing of ours can have stopped it."""
    cluster.up(tmp_path)
    try:
        hosts = tmp_path / "hosts.yaml"
        assert fab("preflight", hosts=hosts).returncode == 0
        pid = next(int(line.split()[0]) for line in marked(tmp_path) if "rehearsal.ollama" in line)
        os.kill(pid, signal.SIGKILL)
        done = fab("cleanup", hosts=hosts)
        assert done.returncode == 1
        told(done.stderr, "Ollama 'srv1': could not go on", "never stops or starts it")
    finally:
        cluster.down(tmp_path)


def test_secrets_never_reach_a_record(hosts: Path) -> None:
    """A token in an environment of hosts.yaml is in no record and on no screen."""
    edit(hosts, "profiles", "llama-0015", "exo", "environment", value={"HF_TOKEN": "hf_verysecret"})
    done = fab("install-srv2", "start-srv2", "stop-cluster", hosts=hosts)
    assert "hf_verysecret" not in done.stdout + done.stderr
    records = list((hosts.parent / LOGS).glob("*.json"))
    assert records
    assert all(b"hf_verysecret" not in path.read_bytes() for path in records)
    started = read_record(hosts.parent / LOGS / "06-start-srv2.json")
    assert started.status == "ok"
