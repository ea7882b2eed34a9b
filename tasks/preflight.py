"""Group `preflight`, step 1: every node answers, has the Python that its EXO needs, and the plan can work out."""

from __future__ import annotations

import shlex

import msgspec

from records.facts import NodePython, OllamaState, Preflight
from records.settings import Exo
from tasks import console
from tasks.exo.catalogue import generation_of
from tasks.exo.cluster import ExoCluster
from tasks.feasibility.assess import Assessment, assess
from tasks.feasibility.show import refuse_infeasible, show_estimate, show_feasibility, warnings_of
from tasks.gpu import amd
from tasks.machines import network
from tasks.machines.lab import Lab
from tasks.machines.network import Way
from tasks.machines.node import Node
from tasks.machines.paths import ollama_before_path
from tasks.machines.pythons import fitting_python
from tasks.ollama.servers import ask_servers, refuse_silent
from tasks.steps import StepNotes, step

FACTS = r"""
. /etc/os-release 2>/dev/null
printf 'hostname=%s\nos=%s\nkernel=%s\ncpu_count=%s\n' "$(hostname)" "${PRETTY_NAME:-unknown}" "$(uname -r)" "$(nproc)"
printf 'cpu=%s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
printf 'memory_kib=%s\n' "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
printf 'disk_free_kib=%s\n' "$(df -Pk "$HOME" | awk 'NR==2 {print $4}')"
"""


@step
def verify_python(lab: Lab, notes: StepNotes, strict: bool = False) -> Preflight:
    """Verify every node: SSH, Python for the chosen EXO, Ollama, and whether the plan can work out."""
    wanted = _wanted_python(lab.profile.exo)
    notes.deviation(
        "python3 --version must be 3.12 or higher on every node",
        f"every python3* on each node was asked for version and venv until one fitted {wanted}",
        f"EXO {lab.profile.exo.release} needs Python {wanted} with venv, and `python3` need not be the one that fits",
    )
    nodes = lab.each(lambda node: facts_of(node, wanted))
    servers = ask_servers(lab)
    refuse_silent(
        servers.values(),
        f"an answer to GET /api/version, asked from {lab.bench_node.key}",
        "is it running, and does it listen beyond localhost (OLLAMA_HOST=0.0.0.0)? then: fab preflight",
    )
    keep_ollama_before(lab, servers)
    nodes, ways = with_round_trips(lab, nodes)
    assessment = assess(lab.inventory, nodes, lab.addresses(), ways)
    for line in warnings_of(assessment, lab.inventory.profile, ways):
        notes.warn(line)
    versions = ", ".join(f"{key} {node.python_version}" for key, node in nodes.items())
    notes.summary = f"Python {versions}; Ollama {', '.join(f'{a} {s.version}' for a, s in servers.items())}"
    if strict:
        refuse_infeasible(assessment, lab.inventory.profile)
    return Preflight(
        nodes=nodes,
        ollama=servers,
        feasible=assessment.feasible,
        go_unreachable_because=assessment.go_unreachable_because,
        alternatives=assessment.alternatives,
        network={key: way.words for key, way in ways.items()},
        relayed=[key for key, way in ways.items() if way.kind == "relayed"],
    )


def preflight_group(lab: Lab, *, strict: bool = False, as_json: bool = False) -> None:
    """Run step 1, then show what is feasible and, where rates were measured before, the pipeline's estimate."""
    done = verify_python(lab, strict=strict)
    if as_json:
        console.document(done)
        return
    show_feasibility(Assessment(done.feasible, done.go_unreachable_because, done.alternatives))
    show_estimate(lab.logs)


def feasibility(lab: Lab, *, strict: bool = False, as_json: bool = False) -> None:
    """Ask the nodes what they are and show what can run on them; leaves no record. Raises StepError with `strict`."""
    with console.waiting("feasibility"):
        nodes = lab.each(lambda node: facts_of(node, _wanted_python(lab.profile.exo)))
        nodes, ways = with_round_trips(lab, nodes)
    assessment = assess(lab.inventory, nodes, lab.addresses(), ways)
    if as_json:
        console.document(assessment)
    else:
        show_feasibility(assessment)
        show_estimate(lab.logs)
    if strict:
        refuse_infeasible(assessment, lab.inventory.profile)


def with_round_trips(lab: Lab, nodes: dict[str, NodePython]) -> tuple[dict[str, NodePython], dict[str, Way]]:
    """Measure the way from every node to every other, side by side.

    Returns the nodes with their round trip from the bench node, and the ways: by node as the bench node reaches it,
    and by `a to b` for the others.
    """
    addresses, port = lab.addresses(), lab.profile.exo.ports.peer

    def probe(node: Node) -> network.Network:
        printed = node.run(network.probe_command(addresses, port), check=False, timeout_s=60).stdout
        return network.read_probe(printed, addresses, node.key)

    seen = lab.each(probe)
    bench = lab.bench_node.key
    ways = dict(seen[bench].ways)
    for key, others in seen.items():
        if key != bench:
            ways |= {f"{key} to {to}": way for to, way in others.ways.items() if to not in (key, bench)}
    trips = {key: way.round_trip_s for key, way in seen[bench].ways.items()}
    return {key: msgspec.structs.replace(node, round_trip_s=trips.get(key)) for key, node in nodes.items()}, ways


def facts_of(node: Node, wanted: str) -> NodePython:
    """Return what a node is and which of its Pythons fits `wanted`. Raises StepError where none does."""
    facts = dict(line.partition("=")[::2] for line in node.run(FACTS).stdout.splitlines())
    python = fitting_python(node, wanted)
    gpu = node.spec.gpu
    told = node.run(amd.probe_command(), check=False).stdout if amd.is_amd(gpu) else ""
    return NodePython(
        node=node.key,
        host=node.spec.host,
        hostname=facts.get("hostname", ""),
        os=facts.get("os", ""),
        kernel=facts.get("kernel", ""),
        cpu=facts.get("cpu", ""),
        cpu_count=int(facts.get("cpu_count") or 0),
        memory_bytes=int(facts.get("memory_kib") or 0) * 1024,
        disk_free_bytes=int(facts.get("disk_free_kib") or 0) * 1024,
        python=python.path,
        python_version=python.version,
        amd=amd.read_probe(told, gpu) if gpu is not None and told else None,
    )


def keep_ollama_before(lab: Lab, servers: dict[str, OllamaState]) -> None:
    """Keep the servers' state on the bench node for cleanup to compare with; not while an EXO of ours runs.

    A preflight in the middle of a campaign must not replace what was true before it.
    """
    running = any(ExoCluster(lab).each(lambda exo: exo.process() is not None).values())
    path = ollama_before_path(lab.bench_node, lab.inventory.profile)
    there = lab.bench_node.run(is_kept(path), check=False).ok
    if not (running and there):
        lab.bench_node.put(msgspec.json.encode(servers), path)


def is_kept(path: str) -> str:
    """Return the command that asks whether the servers' earlier state is there."""
    return f"test -f {shlex.quote(path)}"


def _wanted_python(exo: Exo) -> str:
    return exo.python or generation_of(exo.release).PYTHON
