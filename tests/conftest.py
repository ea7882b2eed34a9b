"""The lanes, and fixtures that several files share: a running rehearsal, and a Lab on it.

A test's lane is found and not written: one whose own code or fixture starts a rehearsal's servers or types `fab` at one
has the mark `rehearsal`, one of `tests/benchmarks` the mark `simulation`; `make check` leaves both out. A test that was
wrongly taken for a quick one is refused the programs of a rehearsal.
"""

from __future__ import annotations

import functools
import gc
import inspect
import linecache
import re
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from hypothesis import HealthCheck, settings

from rehearsal import cluster
from rehearsal.layout import Layout
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab

LONGEST_FIRST = (
    "test_traps_ollama.py",
    "test_flow.py",
    "test_traps_numbers.py",
    "test_traps_install.py",
    "test_resume.py",
    "test_traps.py",
    "test_trouble.py",
    "test_traps_ring.py",
    "test_flow_1x.py",
    "test_start.py",
    "test_gen0_install.py",
    "test_probe_genuine.py",
    "test_faults.py",
    "test_rehearse.py",
    "test_charts.py",
    "test_lock.py",
    "test_cluster.py",
)
"""Files of over 25 s: begun last, they would leave the other workers idle at the end. Left alone, pytest-xdist begins
with the files of most tests, hence `--no-loadscope-reorder`."""
STARTS = re.compile(r"\bbed\(|\bcluster\.(up|start)\(|\bstart_three\(|\bstart\(nodes|\bfab\(")
PROGRAMS = re.compile(r"rehearsal\.(node_server|ollama)\b|from exo\.main import|'rehearse'")
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # how fast examples come says something of the machine alone
_running: list[pytest.Item] = []
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
"""Invoke, imported above, forbids byte-code: every worker would compile every test anew."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its lane and begin with the longest files; pytest-xdist hands out files in this order."""
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
    for item in items:
        if item.path.parent.name == "benchmarks":
            item.add_marker("simulation")
        if isinstance(item, pytest.Function) and _starts_a_rehearsal(item):
            item.add_marker("rehearsal")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Remember which test runs, its fixtures included."""
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.pop()


def pytest_configure() -> None:
    """Take Ctrl-C where this was started in the background, which ignores it, as all would that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Look no more for garbage among what has been imported and collected: it took a tenth of all processor time."""
    gc.collect()
    gc.freeze()


def _starts_a_rehearsal(item: pytest.Function) -> bool:
    fixtures = [fixture.func for same_name in item._fixtureinfo.name2fixturedefs.values() for fixture in same_name]
    return any(STARTS.search(_source(function)) for function in (item.function, *fixtures))


@functools.cache
def _source(function: FunctionType) -> str:
    """Return a function by the line numbers that its code knows; `inspect` would read the tokens of its file anew."""
    code = inspect.unwrap(function).__code__
    return "".join(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : _last_line(code)])


def _last_line(code: CodeType) -> int:
    inner = [_last_line(part) for part in code.co_consts if isinstance(part, CodeType)]
    return max([line for *_, line in code.co_lines() if line] + inner)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Python calls this before it starts a program."""
    if event != "subprocess.Popen" or not _running or _running[-1].get_closest_marker("rehearsal"):
        return
    if PROGRAMS.search(command := str(arguments[1])):
        raise RuntimeError(f"a test without the mark `rehearsal` starts {command}")


sys.addaudithook(_refuse)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up three SSH nodes and two Ollama stand-ins while the tests of one file run."""
    root = tmp_path_factory.mktemp("pröj ect")  # logs, keys and the nodes' homes lie below folders that people have
    yield cluster.up(root)
    cluster.down(root)


@pytest.fixture
def lab(nodes: Layout) -> Iterator[Lab]:
    """Give a Lab on the running rehearsal, with links of its own."""
    hosts = Path(nodes.root) / "hosts.yaml"
    made = Lab(load_inventory(hosts), hosts)
    yield made
    made.close()
