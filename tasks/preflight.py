"""Group `preflight`, step 1: every node answers, has the Python that its EXO needs, and the plan can work out."""

from __future__ import annotations

import shlex

import msgspec

from reports.facts import NodePython, OllamaState, Preflight
from tasks import daemon
from tasks.errors import StepError
from tasks.exo.catalogue import generation_of
from tasks.exo.interface import Refused
from tasks.lab import Lab
from tasks.node import Node
from tasks.ollama_servers import ask_servers
from tasks.places import ollama_before_path, run_folder
from tasks.pythons import fitting_python
from tasks.steps import Book, step

_FACTS = r"""
. /etc/os-release 2>/dev/null
printf 'hostname=%s\nos=%s\nkernel=%s\ncpu_count=%s\n' "$(hostname)" "${PRETTY_NAME:-unknown}" "$(uname -r)" "$(nproc)"
printf 'cpu=%s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
printf 'memory_kib=%s\n' "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
printf 'disk_free_kib=%s\n' "$(df -Pk "$HOME" | awk 'NR==2 {print $4}')"
"""


@step
def verify_python(lab: Lab, book: Book, strict: bool = False) -> Preflight:
    """Verify every node: SSH, Python for the chosen EXO, Ollama, and whether the plan can work out.

    Options:
      strict: fail where a model pair cannot run at all
    """
    wanted = _wanted_python(lab)
    book.departs(
        "python3 --version must be 3.12 or higher on every node",
        f"every python3* on each node was asked for version and venv until one fitted {wanted}",
        f"EXO {lab.profile.exo.release} needs Python {wanted} with venv, and `python3` need not be the one that fits",
    )
    nodes = lab.each(lambda node: facts_of(node, wanted))
    servers = ask_servers(lab)
    silent = {arm: state for arm, state in servers.items() if state.error}
    if silent:
        raise StepError(
            ", ".join(silent),
            "; ".join(f"Ollama '{arm}' at {state.url}: {state.error}" for arm, state in silent.items()),
            f"an answer to GET /api/version, asked from {lab.bench_node.key}",
            "is it running, and does it listen beyond localhost (OLLAMA_HOST=0.0.0.0)? then: fab preflight",
        )
    keep_ollama_before(lab, servers)
    versions = ", ".join(f"{key} {one.python_version}" for key, one in nodes.items())
    book.summary = f"Python {versions}; Ollama {', '.join(f'{a} {s.version}' for a, s in servers.items())}"
    return Preflight(nodes=nodes, ollama=servers)


def facts_of(node: Node, wanted: str) -> NodePython:
    """Return what a node is and which of its Pythons fits `wanted`. Raises StepError where none does."""
    said = dict(line.partition("=")[::2] for line in node.run(_FACTS).stdout.splitlines())
    python = fitting_python(node, wanted)
    return NodePython(
        node=node.key,
        host=node.spec.host,
        hostname=said.get("hostname", ""),
        os=said.get("os", ""),
        kernel=said.get("kernel", ""),
        cpu=said.get("cpu", ""),
        cpu_count=int(said.get("cpu_count") or 0),
        memory_bytes=int(said.get("memory_kib") or 0) * 1024,
        disk_free_bytes=int(said.get("disk_free_kib") or 0) * 1024,
        python=python.path,
        python_version=python.version,
    )


def keep_ollama_before(lab: Lab, servers: dict[str, OllamaState]) -> None:
    """Keep the servers' state on the bench node for cleanup to compare with; not while an EXO of ours runs.

    A preflight in the middle of a campaign must not replace what was true before it.
    """
    running = any(lab.each(lambda node: daemon.find(node, run_folder(lab, node)) is not None).values())
    path = ollama_before_path(lab)
    there = lab.bench_node.run(f"test -f {shlex.quote(path)}", check=False).ok
    if not (running and there):
        lab.bench_node.put(msgspec.json.encode(servers), path)


def _wanted_python(lab: Lab) -> str:
    exo = lab.profile.exo
    try:
        return exo.python or generation_of(exo.release).PYTHON
    except Refused as error:
        raise StepError("hosts.yaml", error.found, error.needed, error.do) from error
