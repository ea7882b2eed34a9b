"""The rules of the house: who imports whom, how long a file is, what is generated, what the README names."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fabfile
import records
from records import plan
from tests import PROJECT

SHARED = {"verbose", "notify"}
"""Options that every step takes, beside its own."""
ROOMS = ("records", "tasks", "reports", "rehearsal", "scripts")
LONGEST = 420
"""Lines: a file is one story, and this is about the longest that a reader keeps in mind."""
# The script by order of the plan, so that it runs alone anywhere; the fabfile because it is a list.
LONG_BY_PURPOSE = {"fabfile.py", "scripts/benchmark_exo_vs_ollama.py"}
# Library -> the files that may import it.
KEPT_IN = {
    "yaml": {"tasks/inventory.py"},
    "jinja2": {"reports/render.py"},
    "matplotlib": {"reports/charts/figure.py"},
    "paramiko": {
        "tasks/machines/ssh.py",
        "tasks/machines/ssh_login.py",
        "tasks/machines/ssh_options.py",
        "tasks/machines/remote.py",
        "tasks/trust.py",
    },
    "asyncssh": {"rehearsal/node_server.py", "rehearsal/session.py", "rehearsal/keys.py"},
}
LAZY = {"matplotlib", "jinja2"}
"""Never imported at the top of a file."""
HEAVY = {"matplotlib", "numpy", "scipy", "jinja2", "asyncssh"}
# Who may import whom inside a room: each name is a folder or a file; later ones may import earlier ones, and names of
# one line are siblings that may not import each other.
FLOORS = {
    "tasks": (
        {"decode", "errors", "console"},
        {"redact", "hosts_mistakes"},
        {"inventory"},
        {"machines"},
        {"exo", "ollama", "gpu"},
        {"command_line", "closing"},
        {"steps"},
        {"feasibility", "benchmark"},
        {"preflight", "install", "start", "cleanup", "report", "trust", "version", "history"},
        {"rehearse", "uninstall", "plan", "status", "init"},
        {"schemas"},
    ),
    "reports": (
        {"text"},
        {"stats"},
        {"checks"},
        {"verdict"},
        {"charts", "plan_text"},
        {"pages"},
        {"export", "compare"},
        {"render"},
    ),
}


@functools.cache
def sources() -> list[Path]:
    """Every Python file of the project that git tracks or would track, but the stand-ins' own packages."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return [PROJECT / name for name in listed if "exo_source" not in name and (PROJECT / name).is_file()]


@functools.cache
def imports_of(path: Path) -> tuple[tuple[str, bool], ...]:
    """Return every imported module's dotted name and whether the import stands at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(tree.body)
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [(name, node in top) for name in names]
    return tuple(found)


def relative(path: Path) -> str:
    """Name a file as the rules do."""
    return path.relative_to(PROJECT).as_posix()


def test_rooms_import_only_downwards() -> None:
    """`fabfile -> tasks -> reports -> records`, never back; `rehearsal` imports none, one module uses it."""
    wrong = []
    for path in sources():
        name = relative(path)
        room = name.split("/")[0]
        for imported, _ in imports_of(path):
            target = imported.split(".")[0]
            allowed = {
                "records": {"records"},
                "reports": {"reports", "records"},
                "rehearsal": {"rehearsal"},
                "scripts": set(),
                "tasks": {"tasks", "reports", "records"}
                | ({"scripts"} if name == "tasks/benchmark/measure.py" else set())
                | ({"rehearsal"} if name == "tasks/rehearse.py" else set()),
                "fabfile.py": {"tasks"},
            }.get(room)
            if allowed is not None and target in {*ROOMS, "fabfile"} - allowed:
                wrong.append(f"{name} imports {imported}")
            if room in ("reports", "records") and target in {"fabric", "invoke", "paramiko"}:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


@functools.cache
def own_modules() -> frozenset[str]:
    """Return the dotted names of the project's own modules and packages."""
    names = (relative(source).removesuffix(".py").removesuffix("/__init__") for source in sources())
    return frozenset(name.replace("/", ".") for name in names)


def modules_imported(path: Path) -> set[str]:
    """Return the project's own modules that a file imports, at its top or inside a function, as dotted names."""
    own = own_modules()
    return {name for name, _ in imports_of(path) if name in own}


@pytest.mark.parametrize("room", FLOORS)
def test_floors_of_a_room_point_downwards(room: str) -> None:
    """Within `tasks` and `reports` a folder imports only folders below it, never up and never a sibling."""
    floor = {name: number for number, names in enumerate(FLOORS[room]) for name in names}
    wrong = []
    for path in sources():
        name = relative(path).removesuffix(".py").split("/")
        if name[0] != room or name[1] == "__init__":
            continue
        for imported in modules_imported(path):
            parts = imported.split(".")
            if parts[0] == room and len(parts) > 1 and parts[1] != name[1] and floor[parts[1]] >= floor[name[1]]:
                wrong.append(f"{'/'.join(name)} imports {imported}")
    assert sorted(wrong) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """The project's modules can be put into one order in which each imports earlier ones alone."""
    graph = {}
    for path in sources():
        dotted = relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        packages = {".".join(dotted.split(".")[:depth]) for depth in range(1, dotted.count(".") + 1)}
        graph[dotted] = modules_imported(path) - {dotted} - packages
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_libraries_stay_in_their_rooms() -> None:
    """A library that one file wraps is imported by that file alone; those that are slow to load, only when used."""
    wrong = []
    for path in sources():
        name = relative(path)
        for imported, at_once in imports_of(path):
            home = KEPT_IN.get(imported.split(".")[0])
            if home and name not in home and not name.startswith(("tests/", "benchmarks/")):
                wrong.append(f"{name} imports {imported}")
            if imported.split(".")[0] in LAZY and at_once and not name.startswith(("tests/", "benchmarks/")):
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_listing_the_tasks_imports_next_to_nothing() -> None:
    """`fab --list` loads two modules of ours beside the fabfile, and none of the libraries that are slow to load."""
    code = "import sys, fabfile; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert HEAVY & {name.split(".")[0] for name in loaded} == set()
    assert {name for name in loaded if name.split(".")[0] in ROOMS} == {"tasks", "tasks.command_line"}


def test_fab_keeps_what_it_compiles(tmp_path: Path) -> None:
    """A module that a `fab` call compiles is compiled for the next call too, though Invoke forbids byte code."""
    shutil.copytree(PROJECT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "fabfile.py", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    fab = Path(sys.executable).with_name("fab")
    subprocess.run([fab, "--list"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert [path.name.split(".")[0] for path in (tmp_path / "tasks" / "__pycache__").glob("command_line*.pyc")]


def test_the_fabfile_says_of_a_step_what_the_step_says() -> None:
    """Each of the plan's steps is a task with the step's own sentence and options; how to wait for others is fab's."""
    for planned in plan.STEPS:
        listed = fabfile.ns.tasks[planned.name]
        module = re.search(r"from (\S+) import", inspect.getsource(listed.body))
        assert module is not None
        step = getattr(importlib.import_module(module[1]), listed.body.__name__)
        options = list(inspect.signature(step.work).parameters.values())[2:]
        assert listed.body.__doc__ == f"Step {planned.number}: {step.work.__doc__}"
        given = list(inspect.signature(listed.body).parameters.values())[1:]
        waits = {"wait"} if planned.group in ("install", "start", "bench", "cleanup") else set()
        assert [parameter for parameter in given if parameter.name not in SHARED | waits] == options
        assert set(listed.help) == {option.name for option in options} | SHARED | waits


def test_files_stay_short() -> None:
    """No file but the one-file script is longer than a module should be."""
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {n: length for n, length in lengths.items() if length > LONGEST and n not in LONG_BY_PURPOSE} == {}


def test_every_record_carries_the_version_of_the_project() -> None:
    """records.VERSION is the version in pyproject.toml."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == records.VERSION


def test_schemas_are_those_of_the_structs() -> None:
    """Every file in schemas/ is what the structs generate today; `make schemas` renews them."""
    from tasks.schemas import schemas

    on_disk = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (PROJECT / "schemas").glob("*.json")}
    assert on_disk == schemas()


@pytest.fixture(scope="module")
def tasks_listed() -> list[str]:
    """Return the name of every task, as `fab --list` has them."""
    fab = Path(sys.executable).with_name("fab")
    done = subprocess.run([fab, "--list", "-F", "json"], cwd=PROJECT, capture_output=True, text=True, check=True)
    return [task["name"] for task in json.loads(done.stdout)["tasks"]]


def test_readme_names_every_task(tasks_listed: list[str]) -> None:
    """A task that is not in the README fails here: docs are part of the interface."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert [name for name in tasks_listed if f"fab {name}" not in readme] == []


def test_every_command_that_people_are_told_to_type_is_there(tasks_listed: list[str]) -> None:
    """Advice and docs name no task that `fab --list` does not have."""
    told = subprocess.run(
        ["git", "grep", "-hoE", r"\bfab [a-z][a-z0-9-]*[a-z0-9]", "--", "*.py", "*.md", "*.j2", "*.yaml", ":!tests"],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    named = {line.removeprefix("fab ") for line in told if line}
    assert len(named) > 20
    assert named - set(tasks_listed) == set()


@pytest.mark.parametrize("word", ["/work/", "/root/", ".pyenv/versions/3", "pypi.org", "registry.npmjs"])
def test_files_speak_of_the_project_alone(word: str) -> None:
    """No tracked file names a path of the machine it was written on, or a package registry's host."""
    found = subprocess.run(
        ["git", "grep", "-nIF", "--cached", word, "--", ".", ":!tests/test_house.py"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == ""
