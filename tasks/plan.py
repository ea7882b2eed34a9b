"""`fab plan`: what every step would run, write, ask and download, from the very functions that the steps run.

No connection is opened. What only a node can tell (its home folder, its Python, a Tailscale address) is taken from the
last campaign's records, else a name in capitals stands for it. `tests/flows/test_flow.py` holds this against what a run
really did.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal

import msgspec

from records import plan
from records.campaign import Campaign, load_campaign
from records.settings import Exo, exo_on, ports_of
from reports.text.format import duration, size
from tasks import cleanup, console, install, preflight
from tasks.benchmark import arms, instrument
from tasks.benchmark.job import job_for, usual_runs
from tasks.benchmark.measure import longest_s, measuring_command, run_options, turns_in_order
from tasks.errors import StepError
from tasks.exo import first_answer, leavings, probe
from tasks.exo.cluster import ExoCluster
from tasks.exo.credentials import without_credentials
from tasks.exo.node import ExoNode, is_executable, parts_command, tree_command
from tasks.feasibility.assess import size_of
from tasks.gpu import busy, witnesses
from tasks.machines import daemon, network, ports, reach, survey
from tasks.machines.daemon import Daemon
from tasks.machines.environment import environment_path, taking_over
from tasks.machines.functions import folded
from tasks.machines.http import asking
from tasks.machines.lab import Lab
from tasks.machines.node import ASK_HOME, Node
from tasks.machines.paths import ROOT, ollama_before_path, script_path
from tasks.machines.pythons import Python
from tasks.machines.questions import ask_all
from tasks.machines.wire import Request, shortened
from tasks.ollama import api as ollama
from tasks.ollama.before import before_command
from tasks.ollama.servers import keep_s, servers_of
from tasks.redact import masked, secrets_of

Kind = Literal["look", "run", "write", "ask"]
"""look: a command that changes nothing. run: one that may. write: a file. ask: an HTTP request."""
_SHOWN = 100
_END = "end the process group of our EXO: TERM, 12 s later KILL"
_PROCESS = Daemon(0, 0, "BOOT", "EXO", "")


class Action(msgspec.Struct, frozen=True):
    """One thing that a step does on a node, in the order in which it comes to it."""

    node: str
    kind: Kind
    text: str
    """The command, the file's path, or the request."""
    when: str = ""
    """Under which condition or how often, where that is not once."""
    title: str = ""
    """What a long command does, in words."""


class StepAhead(msgspec.Struct, frozen=True):
    """One step as it would go."""

    step: int
    name: str
    actions: list[Action]
    last_took_s: float | None = None
    """What its record says of the last time; None where it was never done here."""
    at_most_s: float | None = None
    """The time-out of hosts.yaml that bounds its longest part."""
    download_bytes: dict[str, int] = {}
    """Node -> what it fetches at most."""
    left_on_disk: list[str] = []
    """What the last clean-up found on the nodes, with its size."""


class Ahead(msgspec.Struct, frozen=True):
    """What `fab plan --json` prints."""

    profile: str
    release: str
    unknown: list[str]
    """Names in capitals that stand for what only a node can tell."""
    steps: list[StepAhead]


class Unconnected(Node):
    """A node of which only what was found before is known; nothing can be run on it."""

    def _execute(self, *_: object) -> None:  # type: ignore[override]
        raise StepError("a plan opens no connection", "no command", "report this with the command typed", who=self.key)


def unconnected(lab: Lab, campaign: Campaign) -> tuple[Lab, list[str]]:
    """Return the lab without its machines, and the names that stand for what is not known of them."""
    made, unknown, addresses = Lab(lab.inventory, lab.path), [], {}
    told = campaign.preflight.nodes if campaign.preflight else {}
    for key, spec in lab.inventory.nodes.items():
        node = made.nodes[key] = Unconnected(key, spec)
        installed = campaign.installed.get(key)
        home = installed.venv.partition(f"/{ROOT}/")[0] if installed else f"/HOME-OF-{key}"
        python = told[key].python if key in told else f"/PYTHON-OF-{key}"
        found = [Python(python, version, "venv") for version in _VERSIONS]
        node.remembered = {"home": home, "pythons": found}
        addresses[key] = spec.address or _last_address(campaign, key) or f"ADDRESS-OF-{key}"
        unknown += [name for name in (home, python, addresses[key]) if name.startswith(("/HOME-", "/PYTHON-", "ADDR"))]
    made.know_addresses(addresses)
    return made, unknown


_VERSIONS = [f"3.{minor}.0" for minor in range(9, 20)]
"""One of them fits whatever is asked for; the interpreter's path is what a command holds."""


def _last_address(campaign: Campaign, key: str) -> str | None:
    node = (campaign.settings.nodes or {}).get(key, {})
    return str(node["address"]) if node.get("address") else None


def plan_ahead(lab: Lab, only: Iterable[str] | None = None, campaign: Campaign | None = None) -> Ahead:
    """Return the steps as they would go, on all nodes or on some. Raises StepError for an impossible profile."""
    campaign = load_campaign(lab.logs) if campaign is None else campaign
    made, unknown = unconnected(lab, campaign)
    cluster, wanted = ExoCluster(made), set(only or made.nodes)
    steps = []
    for step in _steps_of(made):
        if step.node and step.node not in wanted:
            continue
        actions = _actions(made, cluster, step)
        record = campaign.record_of(step)
        took_s = record.elapsed_s if record and record.status in ("ok", "already") else None
        fetched = _fetched(made, step.name) if step.name in ("download-model", "bench-scale-up") else {}
        left = [text for stop in campaign.cleaned.nodes.values() for text in stop.left] if campaign.cleaned else []
        left = [text for text in left if step.node and text.startswith(cluster.nodes[step.node].folder)]
        bound_s = _bound_s(lab.profile.exo, step)
        shown = _on(actions, wanted, secrets_of(lab.inventory))
        steps.append(StepAhead(step.number, step.name, shown, took_s, bound_s, fetched, left))
    return Ahead(lab.inventory.profile, lab.profile.exo.release, unknown, steps)


def _steps_of(lab: Lab) -> list[plan.PlanStep]:
    """Return the plan's steps, those of one node each for the nodes that the cluster has."""
    own = [plan.node_step(group, key) for group in ("install", "start") for key in lab.nodes]
    return sorted([*(step for step in plan.STEPS if not step.node), *own], key=lambda step: step.number)


def _bound_s(exo: Exo, step: plan.PlanStep) -> float | None:
    bounds = {"install": exo.install_timeout_s, "start": exo.start_timeout_s}
    named = {"verify-cluster": exo.cluster_timeout_s, "download-model": exo.download_timeout_s}
    return named.get(step.name, bounds.get(step.group))


def _on(actions: list[Action], wanted: set[str], secrets: list[str]) -> list[Action]:
    mine = dict.fromkeys(action for action in actions if action.node in wanted)
    told = ((action, masked(folded(action.text), secrets), masked(action.title, secrets)) for action in mine)
    return [msgspec.structs.replace(action, text=text, title=title) for action, text, title in told]


def _actions(lab: Lab, cluster: ExoCluster, step: plan.PlanStep) -> list[Action]:
    models = lab.profile.models
    return {
        "preflight": lambda: _preflight(lab, cluster),
        "install": lambda: _install(cluster.nodes[step.node]),
        "start": lambda: _start(cluster.nodes[step.node]) if step.node else _each(cluster, _whole),
        "bench": {
            "download-model": lambda: _ready(lab, cluster, "small"),
            "create-benchmark": lambda: _instrument(lab),
            "bench-baseline": lambda: _measure(lab, cluster, step, list(lab.inventory.ollama), models.small.ollama),
            "bench-comparison": lambda: _measure(
                lab, cluster, step, ["exo", *lab.inventory.ollama], models.small.ollama
            ),
            "bench-scale-up": lambda: [
                *_ready(lab, cluster, "large"),
                *_measure(lab, cluster, step, ["exo", *lab.inventory.ollama], models.large.ollama),
            ],
        }.get(step.name, list),
        "report": lambda: [Action(lab.inventory.bench.node, "write", f"{lab.docs}/exo-phase1-results.md", "here")],
        "cleanup": lambda: [*_each(cluster, _clean), *_servers(lab), _kept(lab)],
    }[step.group]()


def _preflight(lab: Lab, cluster: ExoCluster) -> list[Action]:
    actions, exo, peers = [], lab.profile.exo, lab.addresses()
    for key, node in lab.nodes.items():
        look = partial(Action, key, "look")
        actions += [] if node.spec.address else [look(network.address_command())]
        actions.append(look(ask_all(preflight.questions_for(lab, node))))
        if asks := cluster.generation.lacking_command():
            actions.append(look(asks))
        if ring := cluster.generation.RING_PORTS:
            ports_of_each = {key: (ports_of(exo, key).api, ports_of(exo, key).peer, *ring) for key in lab.nodes}
            python = cluster.nodes[key].python().path
            actions.append(look(reach.command(python, key, peers, ports_of_each)))
    kept = ollama_before_path(lab.bench_node, lab.inventory.profile)
    return [*actions, *_servers(lab), *_put(lab.bench_node, kept, "unless EXO runs")]


def _servers(lab: Lab) -> list[Action]:
    asked = (ollama.version_request(), ollama.tags_request(), ollama.ps_request())
    return [_asked(lab.bench_node.key, server.url, request) for server in servers_of(lab).values() for request in asked]


def _asked(node: str, url: str, request: Request, when: str = "") -> Action:
    host, _, port = url.removeprefix("http://").partition(":")
    return Action(node, "ask", asking(host, int(port), request), when)


def _asked_exo(exo: ExoNode, request: Request, when: str = "") -> Action:
    return Action(exo.key, "ask", asking(exo.address, exo.ports.api, request), when)


def _put(node: Node, path: str, when: str = "") -> list[Action]:
    return [Action(node.key, "write", path, when)]


def _with(node: Node, environment: Mapping[str, str], command: str, when: str, title: str) -> list[Action]:
    """Run a command whose environment goes over in a file of its own, so that no command line shows it."""
    if not environment:
        return [Action(node.key, "run", command, when, title)]
    path = environment_path(node, "TOKEN")
    return [*_put(node, path, when), Action(node.key, "run", taking_over(path) + command, when, title)]


def _process(exo: ExoNode) -> list[Action]:
    return [
        Action(exo.key, "look", daemon.find_command(shlex.quote(exo.run_folder))),
        Action(exo.key, "look", daemon.state_command(_PROCESS), "where EXO runs, again and again"),
    ]


def _install(exo: ExoNode) -> list[Action]:
    own, how, gpu = exo_on(exo.exo, exo.key), exo.install_plan(), exo.node.spec.gpu
    look, engine = partial(Action, exo.key, "look"), exo.generation.engine(own)
    actions = [look(witnesses.probe_command(gpu))] if gpu else []
    actions += [look(ASK_HOME), look(install.FOREIGN), look(tree_command(own.source))]
    actions += [look(f"cat {exo.note_path} 2>/dev/null"), look(how.revision), look(install.missing_tools(how))]
    _, logins = without_credentials(exo.exo)
    for part in how.steps:
        actions += _with(exo.node, logins.environment, part.command, "unless it is there already", part.title)
    actions += [look(install.help_command(how)), look(install.versions_command(how))]
    actions += _put(exo.node, exo.note_path)
    if engine != "dummy":
        actions += _put(exo.node, exo.probe_path)
        path, title = environment_path(exo.node, "TOKEN"), f"have {engine} compute as a prompt will"
        told = taking_over(path) if own.environment else ""
        actions += _put(exo.node, path) if told else []
        command = probe.command(how.python, exo.probe_path, engine, told)
        actions.append(Action(exo.key, "run", command, title=title))
    return actions


def _start(exo: ExoNode) -> list[Action]:
    how, source = exo.install_plan(), exo_on(exo.exo, exo.key).source
    look = partial(Action, exo.key, "look")
    actions = [look(ASK_HOME), look(is_executable(how.exo))]
    actions += [look(f"cat {exo.note_path} 2>/dev/null"), look(tree_command(source))]
    return [*actions, *_begin(exo), _asked_exo(exo, exo.generation.topology_request(), "until it answers")]


def _begin(exo: ExoNode, when: str = "unless it runs already") -> list[Action]:
    """Stop an EXO that runs otherwise than it should, and start it."""
    look, how = partial(Action, exo.key, "look"), exo.install_plan()
    launch = exo.launch_of(how.exo)
    parts = launch.parts | {"revision": "REVISION", "packages": "DIGEST"}
    actions = [*_stop(exo), look(parts_command(how))]
    for path in launch.files:
        actions += _put(exo.node, path, when)
    path = environment_path(exo.node, "TOKEN")  # there always is one: the mark by which our processes are known
    script, title = daemon.start_script(exo.run_folder, launch, parts, taking_over(path)), shlex.join(launch.argv)
    actions += [*_put(exo.node, path, when), Action(exo.key, "run", script, when, title)]
    actions.append(look(ports.listens_command(_PROCESS)))
    return [*actions, look(daemon.tail_command(exo.run_folder, 200))]


def _stop(exo: ExoNode) -> list[Action]:
    return [
        *_process(exo),
        Action(exo.key, "run", daemon.stop_script(exo.run_folder, _PROCESS), "where EXO runs", _END),
        Action(exo.key, "look", ports.WHO_LISTENS),
    ]


def _clean(exo: ExoNode) -> list[Action]:
    environment = exo_on(exo.exo, exo.key).environment
    return [
        Action(exo.key, "look", ASK_HOME),
        *_stop(exo),
        Action(exo.key, "look", survey.scan_command()),
        Action(exo.key, "run", survey.end_command("PID:START"), "for what else of ours runs", _END),
        Action(exo.key, "look", leavings.look_command(environment)),
        Action(exo.key, "run", cleanup.sweep_command(exo.node)),
    ]


def _kept(lab: Lab) -> Action:
    return Action(lab.bench_node.key, "look", before_command(lab.bench_node, lab.inventory.profile))


def _each(cluster: ExoCluster, part: Callable[[ExoNode], list[Action]]) -> list[Action]:
    return [action for exo in cluster.nodes.values() for action in part(exo)]


def _whole(exo: ExoNode) -> list[Action]:
    return [_asked_exo(exo, exo.generation.topology_request(), "until it shows every node"), *_process(exo)]


def _ready(lab: Lab, cluster: ExoCluster, name: str) -> list[Action]:
    """Bring a model pair to the nodes, and have it answer once."""
    pair, generation = lab.profile.models.by_size[name], cluster.generation
    asked = generation.model_requests(pair.exo, len(cluster.nodes))
    actions = _servers(lab)
    for exo in cluster.nodes.values():
        actions += [_asked_exo(exo, request, "until it is there") for request in asked]
        actions += [Action(exo.key, "look", daemon.size_of_log(exo.run_folder)), *_process(exo)]
        actions.append(Action(exo.key, "look", daemon.pulse_command(exo.run_folder, _PROCESS, 0), "every second"))
    timeout_s = lab.inventory.bench.request_timeout_s
    chat = generation.chat_request(pair.exo, first_answer.PROMPT, first_answer.TOKENS, timeout_s)
    return [*actions, _asked_exo(cluster.entry, chat)]


def _instrument(lab: Lab) -> list[Action]:
    node = lab.bench_node
    look = partial(Action, node.key, "look")
    actions = [look(ASK_HOME), look(instrument.digest_command(node))]
    return [
        *actions,
        *_put(node, script_path(node), "unless it is there already"),
        Action(node.key, "run", instrument.calibration_command(node)),
    ]


def _measure(lab: Lab, cluster: ExoCluster, step: plan.PlanStep, named: list[str], model: str) -> list[Action]:
    """Make the schedule's runs in their order, each with what surrounds it."""
    bench, node = lab.inventory.bench, lab.bench_node
    runs = usual_runs(bench, step)
    pair = lab.profile.models.large if step.name == "bench-scale-up" else lab.profile.models.small
    job = job_for(lab, step, pair, named, runs)
    actions = [Action(node.key, "look", instrument.digest_command(node)), *_servers(lab)]
    actions += _each(cluster, _whole) if "exo" in named else []
    for arm, run in turns_in_order(job, bench.seed):
        command = measuring_command(node, run_options(lab, job, arm, run))
        title = f"{script_path(node)} --only {arm}:{run} ({bench.warmups} + {bench.requests} requests)"
        actions.append(Action(node.key, "run", command, title=title))
    for key, other in lab.nodes.items():
        actions.append(Action(key, "look", arms.CONDITIONS + arms.ENGINES, "before each run"))
        if other.spec.gpu:
            turns = int(longest_s(lab) / busy.EVERY_S)
            title = "read how busy the GPU is while a run goes on"
            actions.append(Action(key, "run", busy.begin_command(turns), "before each run", title))
        if "exo" in named:
            actions += _reload(cluster.nodes[key], pair.exo, len(lab.nodes), bench.exo_reload)
    load = ollama.load_request(model, bench.num_ctx, keep_s(bench.request_timeout_s), bench.request_timeout_s)
    for server in servers_of(lab).values():
        actions.append(_asked(node.key, server.url, ollama.unload_request(model), "before each run"))
        actions.append(_asked(node.key, server.url, load, "before each of its runs"))
    return actions


def _reload(exo: ExoNode, model: str, nodes: int, how: str) -> list[Action]:
    """Take the model out of memory before a run, as `bench.exo_reload` has it."""
    if how == "keep":
        return []
    actions = []
    if how == "restart":
        actions += [Action(exo.key, "look", is_executable(exo.installed.exo)), *_begin(exo, "before each EXO run")]
    if exo.generation.CAN_RELOAD:
        asked = exo.generation.model_requests(model, nodes)
        actions += [_asked_exo(exo, request, "before each EXO run") for request in asked]
    return actions


def _fetched(lab: Lab, name: str) -> dict[str, int]:
    pair = lab.profile.models.small if name == "download-model" else lab.profile.models.large
    size_bytes = size_of(lab.profile.exo, pair)
    return dict.fromkeys(lab.nodes, size_bytes) if size_bytes else {}


def show_plan(lab: Lab, only: Iterable[str] | None = None, *, full: bool = False, as_json: bool = False) -> None:
    """Print the plan, or its JSON. Raises StepError."""
    ahead = plan_ahead(lab, only)
    if as_json:
        console.document(ahead)
        return
    console.text(f"profile {ahead.profile}: EXO {ahead.release}; nothing was asked of any machine")
    if ahead.unknown:
        console.text(f"not known before: {', '.join(ahead.unknown)}")
    for step in ahead.steps:
        _show_step(step, full=full)
    console.next_is("fab preflight")


def _show_step(step: StepAhead, *, full: bool) -> None:
    took = f"took {duration(step.last_took_s)} last time" if step.last_took_s is not None else "time not known"
    took += f", bound to {duration(step.at_most_s)}" if step.at_most_s else ""
    console.text(f"\n{step.step:>2}  {step.name}: {took}{_sizes(step.download_bytes)}")
    for text in step.left_on_disk:
        console.text(f"    on disk last time: {text}")
    shown = [action for action in step.actions if full or action.kind != "look"]
    for action in shown:
        text = action.text if full else action.title or shortened(action.text, _SHOWN)
        console.note(action.node, f"{action.kind}: {text}" + (f"  ({action.when})" if action.when else ""))
    looks = sum(action.kind == "look" for action in step.actions)
    if looks and not full:
        console.text(f"    and {looks} commands that only look (fab plan --full)")


def _sizes(fetched: Mapping[str, int]) -> str:
    if not fetched:
        return ""
    return ", downloads at most " + ", ".join(f"{size(number)} on {key}" for key, number in fetched.items())
