"""What a person waits for, as ratios in one run: every call of `fab`, preflight far and near, the report, resuming."""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import yaml

from benchmarks.load_tools import find_tool
from benchmarks.metronome import PROJECT
from benchmarks.slow_nodes import KEYS, SlowNodes, slow_nodes
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.preflight import questions_for

FAB = str(Path(sys.executable).with_name("fab"))
EMPTY = '''from fabric import task


@task
def nothing(c):
    """Nothing."""
'''


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    what: str
    found: str
    wanted: str
    reached: bool | None
    """None where nothing was asked for, or a peer is not installed."""


def in_turn(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Do every job `rounds` times, in turn, and return each one's median time in seconds: one load bears on all."""
    took: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            begin = time.monotonic()
            job()
            took[name].append(time.monotonic() - begin)
    return {name: statistics.median(times) for name, times in took.items()}


def cpu_s(command: list[str], folder: Path) -> float:
    """Return the processor time of a call, which a busy machine moves less than its wall time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start_up(rounds: int) -> list[Row]:
    """Compare `fab --list` with that of an empty fabfile, as it is and right after a file was edited."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").mkdir()
        (folder / "empty" / "fabfile.py").write_text(EMPTY)
        ours = folder / "ours"
        shutil.copytree(PROJECT / "tasks", ours / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PROJECT / "fabfile.py", ours)
        took: dict[str, list[float]] = {"empty": [], "ours": [], "edited": []}
        cpu_s([FAB, "--list"], ours)
        for number in range(rounds):
            took["empty"].append(cpu_s([FAB, "--list"], folder / "empty"))
            took["ours"].append(cpu_s([FAB, "--list"], ours))
            edited = ours / "tasks" / "command_line.py"
            edited.write_text(f"{edited.read_text(encoding='utf-8')}# {number}\n", encoding="utf-8")
            took["edited"].append(cpu_s([FAB, "--list"], ours))
    least = {name: min(times) for name, times in took.items()}
    return [
        _ratio("`fab --list` against an empty fabfile (processor time)", least["ours"] / least["empty"], 1.15),
        _ratio("the same right after an edit of one file", least["edited"] / least["empty"], 1.15),
    ]


def preflight(rounds: int) -> list[Row]:
    """Compare a warm `fab preflight` with three `ssh` side by side that ask the same, near and far away."""
    rows, took = list[Row](), dict[int, dict[str, float]]()
    for away_ms in (0, 40, 120):
        with tempfile.TemporaryDirectory() as name, slow_nodes(Path(name), away_ms / 1000) as nodes:
            asked = _questions(nodes)
            jobs: dict[str, Callable[[], object]] = {
                "fab": partial(fab, nodes.hosts, "preflight"),
                "ssh": partial(_ssh, nodes, asked),
            }
            jobs |= _peers(nodes, asked) if away_ms == 0 else {}
            took[away_ms] = in_turn(jobs, rounds)
            if away_ms == 0:
                record = json.loads((nodes.folder / "logs/llama-0015/01-verify-python.json").read_bytes())
                counted = ", ".join(f"{host} {count}" for host, count in record["round_trips"].items())
                rows.append(Row("round trips that its record counts", counted, "-", None))
        here = took[away_ms]
        where = "near" if not away_ms else f"at {away_ms} ms"
        what = f"warm `fab preflight` against three parallel ssh, {where} ({here['fab']:.2f} s, {here['ssh']:.2f} s)"
        rows.append(_ratio(what, here["fab"] / here["ssh"], 1.1 if away_ms else 0.9))
    for name, least in (("pyinfra", 1.6), ("ansible", 3.5)):
        if name in took[0]:
            ratio = took[0][name] / took[0]["fab"]
            rows.append(Row(f"{name} against it", f"{ratio:.2f}x", f">= {least}x", ratio >= least))
        else:
            rows.append(Row(f"{name} against it", "not installed", f">= {least}x", None))
    trips = {who: (took[120][who] - took[40][who]) / 0.08 for who in ("fab", "ssh")}
    told = f"{trips['fab']:.1f} (ssh {trips['ssh']:.1f})"
    rows.append(Row("round trips one after another, from the slope", told, "<= 14", trips["fab"] <= 14))
    return rows


def fab(hosts: Path, *words: str) -> None:
    """Type `fab` at the nodes of a hosts file. Raises CalledProcessError where it does not end well."""
    environment = {**os.environ, "FABRIC_EXO_INVENTORY": str(hosts)}
    subprocess.run([FAB, *words], cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL)


def _questions(nodes: SlowNodes) -> dict[str, list[str]]:
    """Return what preflight asks of every node, a shell command each."""
    lab = Lab(load_inventory(nodes.hosts), nodes.hosts)
    return {key: list(questions_for(lab, lab.nodes[key]).values()) for key in KEYS}


def _ssh(nodes: SlowNodes, asked: dict[str, list[str]]) -> None:
    """Have three ssh ask the same side by side, each one question after the other, as a script would."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    running = {key: subprocess.Popen(nodes.ssh(key), **pipes) for key in KEYS}  # type: ignore[call-overload]
    for key, process in running.items():
        process.stdin.write("\n".join(f"(\n{question}\n)" for question in asked[key]).encode())
        process.stdin.close()
    for process in running.values():
        assert process.stdout.read()
        process.wait()


def _peers(nodes: SlowNodes, asked: dict[str, list[str]]) -> dict[str, Callable[[], object]]:
    """Return how the tools that are installed ask the same of the three nodes, a task a question."""
    folder, found, questions = nodes.folder, dict[str, Callable[[], object]](), asked["srv2"]
    key, trusted = str(folder / "id"), str(folder / "known_hosts")
    if tool := find_tool("ansible-playbook"):
        login = f"ansible_host=127.0.0.1 ansible_ssh_private_key_file={key}"
        login += f" ansible_ssh_common_args='-o UserKnownHostsFile={trusted}'"
        inventory, play = folder / "inventory.ini", folder / "play.yml"
        inventory.write_text("".join(f"{name} ansible_port={port} {login}\n" for name, port in nodes.ports.items()))
        coded = [base64.b64encode(q.encode()).decode() for q in questions]  # braces and quotes mean much to Ansible
        tasks = [{"ansible.builtin.shell": {"cmd": f"echo {q} | base64 -d | bash; true"}} for q in coded]
        play.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        found["ansible"] = partial(_quietly, [tool, "-i", str(inventory), str(play)])
    if tool := find_tool("pyinfra"):
        hosts, deploy = folder / "inventory.py", folder / "deploy.py"
        login_of = {"ssh_hostname": "127.0.0.1", "ssh_key": key, "ssh_known_hosts_file": trusted}
        listed = [(name, {"ssh_port": port, **login_of}) for name, port in nodes.ports.items()]
        hosts.write_text(f"nodes = {listed!r}\n")
        calls = [f"server.shell(commands=[{f'({q}) || true'!r}], _shell_executable='bash')" for q in questions]
        deploy.write_text("\n".join(["from pyinfra.operations import server", *calls]))
        found["pyinfra"] = partial(_quietly, [tool, "-y", str(hosts), str(deploy)])
    return found


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def report(sizes: list[int]) -> list[Row]:
    """Render made-up campaigns of growing size, each in a process of its own; tell time and memory."""
    wanted = {60: 1.2, 1_000: 1.5, 10_000: 3.0, 100_000: 8.0}
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.one_report", name, str(size)],
                cwd=PROJECT, check=True, capture_output=True, text=True,
            )  # fmt: skip
            told = json.loads(done.stdout)
        limit_s = wanted.get(size, 8.0)
        rows.append(
            Row(
                f"`fab report` of {size} samples: processor time, largest memory",
                f"{told['cpu_s']:.1f} s, {told['memory_mb']:.0f} MB",
                f"<= {limit_s:g} s on a quiet machine, <= 250 MB",
                told["cpu_s"] <= limit_s and told["memory_mb"] <= 250,
            )
        )
    return rows


def _ratio(what: str, found: float, limit: float) -> Row:
    return Row(what, f"{found:.2f}x", f"<= {limit}x", found <= limit)
