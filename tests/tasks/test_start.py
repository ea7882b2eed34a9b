"""A start that fails quotes its cause from the log: real processes on this machine, in a home folder of their own."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from records.settings import Exo, NodeSpec, Ports
from tasks.errors import StepError
from tasks.exo.node import ExoNode
from tasks.machines.local import LocalNode
from tasks.machines.pythons import Python
from tasks.start import ends_with_login, start_on
from tasks.steps import StepNotes
from tests.support.ports import ADDRESS, borrowed, free_port, lent_until

ONE_SHOT = """
print("Chat interface started:", flush=True)
time.sleep(0.3)
print("Error: Model name is required when using 'run' command or --run-model", flush=True)
time.sleep(0.3)
print("Task was destroyed but it is pending!")
print("task: <Task pending name='Task-6' coro=<Node.periodic_topology_collection()>>")
"""


@pytest.fixture
def exo(tmp_path: Path) -> ExoNode:
    """Give EXO 0.0.15 on this machine, its program yet to be written."""
    node = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    node.remembered["home"] = str(tmp_path)
    node.remembered["pythons"] = [Python(sys.executable, platform.python_version(), "venv")]
    settings = Exo(
        "0.0.15", "/srv/exo", python=">=3.11", ports=Ports(free_port(), free_port(ADDRESS)), start_timeout_s=20
    )
    return ExoNode(node, "p", settings, lambda: {"srv1": ADDRESS}, 16)


SERVER = """
import http.server, json, os, sys
port = int(sys.argv[sys.argv.index("--chatgpt-api-port") + 1])
class Topology(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"nodes": {"srv1": {"model": os.environ.get("DEVICE", "CPU")}}}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
try:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Topology)
except OSError as error:
    print(f"OSError: [Errno 98] error while attempting to bind on address: {error.strerror.lower()}", flush=True)
    time.sleep(60)
server.serve_forever()
"""


def change(exo: ExoNode, **changes: Any) -> ExoNode:
    """Return the same EXO as an edited hosts.yaml wants it."""
    edited = msgspec.structs.replace(exo.exo, **changes)
    return ExoNode(exo.node, exo.profile, edited, exo.peers, exo.max_tokens)


def write_program(exo: ExoNode, code: str) -> None:
    """Write what stands in for EXO's executable."""
    path = Path(exo.install_plan().exo)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(0.3)\n{code}", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (ONE_SHOT, "ended by itself after [0-9]+ s: Error: Model name is required"),
        ("print('the socket could not be opened'); print('good bye')", "its log says: the socket could not be opened"),
        ("print('good bye')", "last line of its log: good bye"),
        ("", "its log is empty"),
    ],
)
def test_the_cause_of_an_end_is_quoted_and_not_the_last_line(exo: ExoNode, code: str, words: str) -> None:
    """An error anywhere in the log wins over what follows it; the log is read after the process has ended."""
    write_program(exo, code)
    with pytest.raises(StepError, match=words) as caught:
        start_on(exo, StepNotes(5))
    assert caught.value.problem.what == "srv1"
    assert exo.process() is None


def test_a_program_that_lives_without_serving_is_stopped_again(exo: ExoNode) -> None:
    """A bound port leaves EXO alive without its API: that is told, and nothing of ours stays behind."""
    write_program(exo, "print('OSError: [Errno 98] address already in use', flush=True); time.sleep(60)")
    with pytest.raises(StepError, match=r"does not serve after [0-9]+ s: OSError: .* address already in use"):
        start_on(exo, StepNotes(5))
    assert exo.process() is None


@pytest.mark.parametrize(
    ("told", "ends"),
    [
        ("b true\nLinger=no\n", True),
        ("b true\n", True),
        ("b true\nLinger=yes\n", False),
        ("b false\nLinger=no\n", False),
        ("", False),
    ],
)
def test_logind_tells_whether_a_logout_ends_exo(told: str, ends: bool) -> None:
    """As busctl and loginctl print it; a machine without logind, a container say, ends nothing."""
    assert ends_with_login(told) is ends


def test_a_start_without_an_install_says_what_to_type(exo: ExoNode) -> None:
    """There is nothing to start before the node's install step."""
    with pytest.raises(StepError, match=r"there is no .*/venv/bin/exo") as caught:
        start_on(exo, StepNotes(5))
    assert (caught.value.problem.what, caught.value.problem.do) == ("srv1", "fab install-srv1")


def test_already_means_that_nothing_differs(exo: ExoNode) -> None:
    """The same wish finds the process; another environment, flag or discovery file starts it again and says which."""
    write_program(exo, SERVER)
    try:
        first = start_on(exo, StepNotes(5))
        assert start_on(exo, StepNotes(5)).pid == first.pid
        for wanted, name in [
            (change(exo, environment={"DEVICE": "AMD"}), "another variable DEVICE)"),
            (change(exo, environment={"DEVICE": "AMD"}, flags=["--verbose"]), "another flag --verbose)"),
            (change(exo, environment={"DEVICE": "AMD"}), "another flag --verbose)"),
        ]:
            notes = StepNotes(5)
            start_on(wanted, notes)
            assert name in notes.summary
        discovery = Path(exo.run_folder, "discovery.json")
        discovery.write_text("{}", encoding="utf-8")
        again = StepNotes(5)
        assert start_on(wanted, again).pid != first.pid
        assert "another discovery.json)" in again.summary
    finally:
        exo.stop()


def test_another_package_beside_exo_is_a_difference(exo: ExoNode) -> None:
    """A package that somebody changed in EXO's venv makes the running process another one than is wanted."""
    write_program(exo, SERVER)
    python = Path(exo.install_plan().python)
    python.write_text('#!/bin/sh\ncat "$(dirname "$0")/packages"\n', encoding="utf-8")
    python.chmod(0o755)
    packages = python.with_name("packages")
    packages.write_text("0abc\ntinygrad==0.11.0\n", encoding="utf-8")
    try:
        start_on(exo, StepNotes(5))
        packages.write_text("0abc\ntinygrad==0.10.2\n", encoding="utf-8")
        notes = StepNotes(5)
        start_on(exo, notes)
        assert "started again: another package tinygrad)" in notes.summary
    finally:
        exo.stop()


def test_an_install_that_is_not_as_hosts_yaml_has_it_is_not_started(exo: ExoNode) -> None:
    """Overrides that were edited after the install are installed first; the advice leads there and then on."""
    write_program(exo, SERVER)
    exo.note_install(exo.wish(), "abc")
    edited = change(exo, overrides=["tinygrad==0.10.2"])
    with pytest.raises(StepError, match=r"is not what hosts.*changed since: override of tinygrad$") as caught:
        start_on(edited, StepNotes(5))
    assert caught.value.problem.do == "fab install-srv1 start-srv1"
    edited.note_install(edited.wish(), "abc")  # as install-srv1 does
    try:
        assert start_on(edited, StepNotes(5)).pid
    finally:
        edited.stop()


def test_a_port_that_was_lent_for_a_moment_is_asked_for_once_more(exo: ExoNode) -> None:
    """An EXO that lives without its API, because an outgoing connection had its port, is started again and serves."""
    write_program(exo, SERVER.replace("    time.sleep(60)", "    open('lent', 'w').close(); time.sleep(60)"))
    other = lent_until(Path(exo.run_folder, "lent"), exo.ports.api)
    try:
        assert start_on(exo, StepNotes(5)).api_port == exo.ports.api
        assert "already in use" in Path(f"{exo.log_path}.previous").read_text(encoding="utf-8")
    finally:
        exo.stop()
        other.close()


def test_other_ports_help_where_one_stays_lent(exo: ExoNode) -> None:
    """Twice without its API is an error that names the range, and the ports that it advises are taken."""
    write_program(exo, SERVER)
    outgoing, other = borrowed(exo.ports.api)
    try:
        with pytest.raises(StepError, match="already in use") as caught:
            start_on(exo, StepNotes(5))
        assert "below 32768" in caught.value.problem.do
        assert exo.process() is None
        advised = change(exo, ports=Ports(free_port(), free_port(ADDRESS)))
        assert start_on(advised, StepNotes(5)).api_port == advised.ports.api
    finally:
        exo.stop()
        outgoing.close()
        other.close()


def test_nodes_are_never_reached_through_a_proxy(exo: ExoNode) -> None:
    """A proxy that hosts.yaml gives to EXO brings a no_proxy of all nodes along; without one nothing is added."""
    write_program(exo, SERVER)
    assert "no_proxy" not in exo.launch().environment
    proxied = change(exo, environment={"https_proxy": "http://proxy.example", "no_proxy": "hub.example"})
    proxied.peers = lambda: {"srv1": ADDRESS, "rog": "100.93.122.109"}
    environment = proxied.launch().environment
    assert environment["no_proxy"] == environment["NO_PROXY"] == "hub.example,127.0.0.1,100.93.122.109,localhost"
