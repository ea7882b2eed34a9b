"""Group `preflight`, step 1: every node answers, has the Python that its EXO needs, and the plan can work out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec

from records.facts import NodePython, OllamaState, Preflight
from records.settings import Exo, exo_on, ports_of
from reports.text.format import alike, few
from tasks import console
from tasks.errors import StepError, all_of
from tasks.exo import leavings
from tasks.exo.catalogue import generation_of
from tasks.exo.interface import Lacking
from tasks.exo.node import wheel_overrides
from tasks.feasibility.assess import Assessment, assess
from tasks.feasibility.show import refuse_infeasible, show_estimate, show_feasibility, warnings_of
from tasks.gpu import amd
from tasks.machines import firewall, network, pythons, reach
from tasks.machines.daemon import find_command, read_found
from tasks.machines.lab import Lab
from tasks.machines.network import Way
from tasks.machines.node import Node
from tasks.machines.paths import OLLAMA_BEFORE, ROOT, ollama_before_path
from tasks.machines.questions import answers, ask_all
from tasks.machines.threads import run_all
from tasks.ollama.servers import ask_servers, refuse_silent
from tasks.steps import StepNotes, step

FACTS = r"""
printf 'home=%s\n' "$HOME"
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
    told, servers = _ask_everybody(lab)
    nodes = lab.each(lambda node: facts_of(node, lab.profile.exo, told[node.key]))
    refuse_silent(
        servers.values(),
        f"an answer to GET /api/version, asked from {lab.bench_node.key}",
        "is it running, and does it listen beyond localhost (OLLAMA_HOST=0.0.0.0)? then: fab preflight",
    )
    keep_ollama_before(lab, servers, told)
    for words in ready_to_build(lab, nodes):
        notes.warn(words)
    for key, said in told.items():
        rooms = leavings.read_rooms(said.get("rooms", ""), exo_on(lab.profile.exo, key).environment)
        nodes[key] = msgspec.structs.replace(
            nodes[key],
            rooms={room.mount: room.free_bytes for room in rooms},
            disk_free_bytes=min(
                (r.free_bytes for r in rooms if r.kind == "models"), default=nodes[key].disk_free_bytes
            ),
        )
        for words in leavings.cramped(key, rooms):
            notes.warn(words)
    for words in _open_apis(lab, told):
        notes.warn(words)
    nodes, ways = with_round_trips(lab, nodes, told)
    assessment = assess(lab.inventory, nodes, lab.addresses(), ways)
    for line in warnings_of(assessment, lab.inventory.profile, ways):
        notes.warn(line)
    pythons_seen = alike({key: node.python_version for key, node in nodes.items()})
    ollamas_seen = alike({arm: server.version or "silent" for arm, server in servers.items()})
    notes.summary = f"Python {pythons_seen}; Ollama {ollamas_seen}"
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


def ready_to_build(lab: Lab, nodes: dict[str, NodePython]) -> list[str]:
    """Ask every node for what this EXO's install needs and which ports of the others it reaches.

    Returns what may be in the way. Raises StepError with all that surely is, on every node, and what mends each.
    """
    exo, generation = lab.profile.exo, generation_of(lab.profile.exo.release)
    lacking = {key: list[Lacking]() for key in nodes}
    if asks := generation.lacking_command():
        told = lab.each(lambda node: node.run(asks, check=False, timeout_s=60).stdout)
        lacking = {key: generation.lacking(told[key], exo_on(exo, key)) for key in nodes}
    if generation.RING_PORTS:
        ports = {key: (ports_of(exo, key).api, ports_of(exo, key).peer, *generation.RING_PORTS) for key in nodes}
        peers = lab.addresses()
        tried = lab.each(
            lambda node: (
                node.run(
                    reach.command(nodes[node.key].python, node.key, peers, ports), check=False, timeout_s=90
                ).stdout
            )
        )
        for key, printed in tried.items():
            lacking[key] += [_closed(lab, *closed) for closed in reach.read(printed, key)]
    errors = [
        StepError(lack.found, lack.needed, f"on {lab.nodes[key].spec.host}: {lack.do}", who=key)
        for key, lacks in lacking.items()
        for lack in lacks
        if lack.stops
    ]
    if errors:
        raise all_of(errors)
    return [f"{key}: {lack.found}: {lack.do}" for key, lacks in lacking.items() for lack in lacks]


def _open_apis(lab: Lab, told: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the warning that EXO's API has no password, with the one line that lets only the cluster in.

    Nodes of the same ports and the same kind of firewall have the same line, which is said once.
    """
    typed: dict[tuple[int, str], list[str]] = {}
    for key, said in told.items():
        ports = ports_of(lab.profile.exo, key)
        line = firewall.line(said.get("firewall", ""), (ports.api, ports.peer), [*lab.addresses().values()])
        typed.setdefault((ports.api, line), []).append(key)
    return [
        f"EXO's API on port {api} of {few(keys)} will have no password; let only the cluster in, there: {line}"
        for (api, line), keys in typed.items()
    ]


def _closed(lab: Lab, key: str, port: int, why: str) -> Lacking:
    return Lacking(
        f"does not reach port {port} of {key}: {why}",
        "TCP between the nodes on EXO's two ports and on 49153 to 65535, where the MLX ring takes a random one",
        f"let them through the firewall of {lab.nodes[key].spec.host} (sudo ufw allow in on tailscale0)",
        stops=False,
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
        told = ask_nodes(lab)
        nodes = lab.each(lambda node: facts_of(node, lab.profile.exo, told[node.key]))
        nodes, ways = with_round_trips(lab, nodes, told)
    assessment = assess(lab.inventory, nodes, lab.addresses(), ways)
    if as_json:
        console.document(assessment)
    else:
        show_feasibility(assessment)
        show_estimate(lab.logs)
    if strict:
        refuse_infeasible(assessment, lab.inventory.profile)


def ask_nodes(lab: Lab) -> dict[str, dict[str, str]]:
    """Ask every node all that preflight wants to know, in one command each, side by side; return the answers."""
    lab.addresses()  # which may have to be asked for: once, and not by every thread
    return lab.each(lambda node: answers(node.run(ask_all(questions_for(lab, node)), timeout_s=60).stdout))


def questions_for(lab: Lab, node: Node) -> dict[str, str]:
    """Return what preflight asks of a node: commands by name, each for a shell of its own."""
    addresses, folder = lab.addresses(), f'"$HOME"/{ROOT}/{shlex.quote(lab.inventory.profile)}'
    peers = {key: addresses[key] for key in network.probed_from(node.key, list(addresses), lab.bench_node.key)}
    questions = {
        "facts": FACTS,
        "pythons": pythons.probe_command(),
        "rooms": leavings.room_command(exo_on(lab.profile.exo, node.key).environment),
        "firewall": firewall.QUESTION,
        "network": network.probe_command(peers, lab.profile.exo.ports.peer),
        "exo": find_command(f"{folder}/run"),
        "kept": f"test -f {folder}/{OLLAMA_BEFORE} && echo kept",
    }
    if amd.is_amd(node.spec.gpu):
        questions["amd"] = amd.probe_command()
    return questions


def _ask_everybody(lab: Lab) -> tuple[dict[str, dict[str, str]], dict[str, OllamaState]]:
    """Ask the nodes and, from the bench node, the Ollama servers at once; a node's trouble is raised first."""
    asked = run_all({"nodes": lambda: ask_nodes(lab), "servers": lambda: ask_servers(lab)})
    return asked["nodes"].value(), asked["servers"].value()  # type: ignore[return-value]


def with_round_trips(
    lab: Lab, nodes: dict[str, NodePython], told: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, NodePython], dict[str, Way]]:
    """Read the ways between the nodes from what they told.

    Returns the nodes with their round trip from the bench node, and the ways: by node as the bench node reaches it,
    and by `a to b` for the others.
    """
    addresses, bench = lab.addresses(), lab.bench_node.key
    ways: dict[str, Way] = {}
    for key, said in told.items():
        peers = {to: addresses[to] for to in network.probed_from(key, list(addresses), bench)}
        seen = network.read_probe(said.get("network", ""), peers, key).ways
        ways |= {to if key == bench else f"{key} to {to}": way for to, way in seen.items()}
    trips = {key: ways[key].round_trip_s for key in nodes}
    return {key: msgspec.structs.replace(node, round_trip_s=trips[key]) for key, node in nodes.items()}, ways


def facts_of(node: Node, exo: Exo, told: Mapping[str, str]) -> NodePython:
    """Return what a node is and which of its Pythons its EXO gets.

    Raises StepError where none fits, or where SSH gives no tunnel.
    """
    wanted, best = _wanted_python(exo), generation_of(exo.release).BEST_PYTHON
    facts = dict(line.partition("=")[::2] for line in told.get("facts", "").splitlines())
    if facts.get("home"):
        node.remembered["home"] = facts["home"]
    pythons.remember_pythons(node, told.get("pythons", ""))
    python = pythons.fitting_python(node, wanted, best)
    node.verify_tunnel()
    gpu, said = node.spec.gpu, told.get("amd", "")
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
        amd=amd.read_probe(said, gpu) if gpu is not None and said else None,
        python_overrides=wheel_overrides(exo, node.key, python.version),
    )


def keep_ollama_before(lab: Lab, servers: dict[str, OllamaState], told: Mapping[str, Mapping[str, str]]) -> None:
    """Keep the servers' state on the bench node for cleanup to compare with; not while an EXO of ours runs.

    A preflight in the middle of a campaign must not replace what was true before it.
    """
    running = any(read_found(said.get("exo", "")) is not None for said in told.values())
    there = "kept" in told[lab.bench_node.key].get("kept", "")
    if not (running and there):
        path = ollama_before_path(lab.bench_node, lab.inventory.profile)
        lab.bench_node.put(msgspec.json.encode(servers), path)


def _wanted_python(exo: Exo) -> str:
    return exo.python or generation_of(exo.release).PYTHON
