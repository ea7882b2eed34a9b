"""A start that fails quotes its cause from the log: real processes on this machine, in a home folder of their own."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from records.settings import Exo, NodeSpec, Ports
from tasks.errors import StepError
from tasks.exo.node import ExoNode
from tasks.machines.local import LocalNode
from tasks.machines.pythons import Python
from tasks.start import start_on
from tasks.steps import StepNotes

ADDRESS = "127.0.0.1"
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
    node.remembered["pythons"] = [Python(sys.executable, platform.python_version(), True)]
    settings = Exo("0.0.15", "/srv/exo", python=">=3.11", ports=Ports(31997, 31998), start_timeout_s=10)
    return ExoNode(node, "p", settings, lambda: {"srv1": ADDRESS}, 16)


def write_program(exo: ExoNode, code: str) -> None:
    """Write what stands in for EXO's executable."""
    path = Path(exo.install_plan().exo)
    path.parent.mkdir(parents=True)
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


def test_a_start_without_an_install_says_what_to_type(exo: ExoNode) -> None:
    """There is nothing to start before the node's install step."""
    with pytest.raises(StepError, match=r"there is no .*/venv/bin/exo") as caught:
        start_on(exo, StepNotes(5))
    assert (caught.value.problem.what, caught.value.problem.do) == ("srv1", "fab install-srv1")
