"""EXO on one node: where it lies, how it is installed, started, found, asked and stopped.

The one object that joins a generation (pure) with a node (the world). What it holds follows from hosts.yaml; whether
EXO is installed, runs or answers is asked of the node each time.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path

import msgspec

from records.facts import ComputeProbe
from records.plan import command_for
from records.settings import Exo, exo_on, override_name, ports_of
from tasks.decode import decode
from tasks.errors import StepError
from tasks.exo import probe
from tasks.exo.catalogue import generation_of
from tasks.exo.credentials import without_credentials
from tasks.exo.interface import Generation, InstallPlan, Topology
from tasks.machines import daemon, ports
from tasks.machines.daemon import Daemon, Ending, Launch, Member, Pulse
from tasks.machines.environment import exported
from tasks.machines.http import Line, call
from tasks.machines.node import Node
from tasks.machines.paths import state_folder
from tasks.machines.pythons import Python, fits, fitting_python
from tasks.machines.threads import Outcome, run_all
from tasks.machines.wire import Reply, Request, expect_ok

_GPU_SWITCHES = ("AMD", "HIP", "CUDA", "NV", "GPU")
"""tinygrad's environment variables that choose a GPU; one of them set is the claim that EXO computes on it."""

PORTS_FREE_WITHIN_S = 3.0
"""The threads of a process that has ended hold its ports for tens of milliseconds yet."""
_POLL_S = 0.1
_PACKAGES = """
from importlib.metadata import distributions
for line in sorted({f"{d.metadata['Name']}=={d.version} {d.read_text('direct_url.json')}" for d in distributions()}):
    print(line)
"""


class InstallNote(msgspec.Struct, frozen=True):
    """What lies in `installed.json` on the node after an install that was proven: the wish and what came of it."""

    wish: dict[str, str]
    """Everything in hosts.yaml that bears on the install, as digests by name (`override of tinygrad`)."""
    revision: str

    def departs(self, wish: Mapping[str, str]) -> list[str]:
        """Name what `wish` has otherwise."""
        return [name for name in {**wish, **self.wish} if self.wish.get(name) != wish.get(name)]


def past_proxies(environment: Mapping[str, str], peers: Callable[[], Mapping[str, str]]) -> dict[str, str]:
    """Return `environment` with the nodes' addresses in no_proxy where it names a proxy: gRPC would go through it."""
    proxies = {name: value for name, value in environment.items() if name.lower().endswith("_proxy") and value}
    if all(name.lower().startswith("no_") for name in proxies):
        return dict(environment)
    direct: dict[str, str] = {}
    for names in (("no_proxy", "NO_PROXY"), ("no_grpc_proxy",)):  # gRPC reads the second, where it is set, instead
        given = ",".join(proxies[name] for name in names if name in proxies)
        if given or "no_proxy" in names:
            every = [*(text.strip() for text in given.split(",")), *peers().values(), "localhost", "127.0.0.1"]
            direct |= dict.fromkeys(names, ",".join(dict.fromkeys(filter(None, every))))
    return {**environment, **direct}


def is_executable(path: str) -> str:
    """Return the command that asks whether an installed `exo` is there."""
    return f"test -x {shlex.quote(path)}"


def tree_command(source: str) -> str:
    """Return the command that prints a digest of all files of a local source, nothing where it is none."""
    folder = shlex.quote(source)
    return (
        f"[ ! -d {folder} ] || find {folder} -type f -not -path '*/.git/*' -not -path '*/__pycache__/*' -print0"
        " | sort -z | xargs -0 sha256sum | sha256sum"
    )


def parts_command(plan: InstallPlan) -> str:
    """Return the command that prints an install's revision and, below it, all its packages."""
    return f"{plan.revision}; echo; {shlex.quote(plan.python)} -I -c {shlex.quote(_PACKAGES)}"


def wheel_overrides(exo: Exo, node: str, python_version: str) -> list[str]:
    """Return the overrides that a Python needs so that every pin has a wheel, where hosts.yaml has none for them."""
    named = {override_name(text) for text in exo_on(exo, node).overrides}
    needed = generation_of(exo.release).PINS_WITHOUT_WHEEL
    every = [text for wanted, overrides in needed.items() if fits(python_version, wanted) for text in overrides]
    return [text for text in every if override_name(text) not in named]


class ExoNode:
    """EXO on one node, as one profile of hosts.yaml wants it."""

    def __init__(
        self,
        node: Node,
        profile: str,
        exo: Exo,
        peers: Callable[[], Mapping[str, str]],
        max_tokens: int,
    ) -> None:
        self.node = node
        self.key = node.key
        self.profile = profile
        self.exo = exo
        self.ports = ports_of(exo, node.key)
        self.peers = peers
        """Returns the IPv4 address of every node, this one included; asked of Tailscale where hosts.yaml has none."""
        self.max_tokens = max_tokens

    @property
    def generation(self) -> Generation:
        """The module that knows this release. Raises StepError where none does."""
        return generation_of(self.exo.release)

    @property
    def address(self) -> str:
        """The IPv4 address by which the other nodes reach this one."""
        return self.peers()[self.key]

    @cached_property
    def folder(self) -> str:
        """Where the venv, the sources and the notes of this profile lie on the node."""
        return state_folder(self.node, self.profile)

    @property
    def run_folder(self) -> str:
        """Where the note, the log and the discovery file of the running EXO lie."""
        return f"{self.folder}/run"

    @property
    def link_folder(self) -> str:
        """Where the note and the log of the link lie that the node joins by, where its generation needs one."""
        return f"{self.folder}/run-link"

    @property
    def log_path(self) -> str:
        """The log of the running EXO."""
        return daemon.log_path(self.run_folder)

    @property
    def claims_gpu(self) -> bool:
        """Whether hosts.yaml has EXO compute on this node's GPU: there is one, and the environment chooses it."""
        environment = exo_on(self.exo, self.key).environment
        return self.node.spec.gpu is not None and any(environment.get(s, "0") not in ("", "0") for s in _GPU_SWITCHES)

    # Installed?

    def python(self) -> Python:
        """Return the node's Python that this release runs on. Raises StepError where there is none."""
        generation = self.generation
        return fitting_python(self.node, self.exo.python or generation.PYTHON, generation.BEST_PYTHON)

    def wheel_overrides(self) -> list[str]:
        """Return the overrides that this node's Python needs beside those of hosts.yaml, so that every pin has a wheel.

        Raises StepError where no Python of the node fits.
        """
        return wheel_overrides(self.exo, self.key, self.python().version)

    def _exo_here(self) -> Exo:
        """Return what hosts.yaml wants, with the overrides that the node's Python needs."""
        return msgspec.structs.replace(self.exo, overrides=[*self.exo.overrides, *self.wheel_overrides()])

    def install_plan(self) -> InstallPlan:
        """Return how this release is installed here. Raises StepError where no Python of the node fits."""
        bare, _ = without_credentials(self._exo_here())
        return self.generation.install_plan(bare, self.key, self.folder, self.python().path)

    @contextlib.contextmanager
    def credentials(self) -> Iterator[dict[str, str]]:
        """Give the environment in which an install may log in where its sources ask for that."""
        _, logins = without_credentials(self.exo)
        netrc = f"{self.folder}/netrc.part"
        if not logins.netrc:
            yield {}
            return
        self.node.put(logins.netrc.encode(), netrc)
        try:
            yield logins.environment | {"NETRC": netrc}
        finally:
            self.node.run(f"rm -f {shlex.quote(netrc)}", check=False)

    @property
    def installed(self) -> InstallPlan:
        """Where everything lies once EXO is installed; made without a Python to install with, which takes a search."""
        return self.generation.install_plan(without_credentials(self.exo)[0], self.key, self.folder, "")

    def executable(self) -> str:
        """Return the path of the installed `exo`. Raises StepError where it is not there."""
        path = self.installed.exo
        if not self.node.run(is_executable(path), check=False).ok:
            raise StepError(f"there is no {path}", "an installed EXO", command_for("install", self.key), who=self.key)
        return path

    @property
    def probe_path(self) -> str:
        """Where the script that has the engine compute lies on the node."""
        return f"{self.folder}/compute_probe.py"

    def compute(self) -> ComputeProbe | None:
        """Have the installed engine compute as a prompt will, in EXO's venv and environment; bounded.

        None where EXO's dummy engine is chosen, which computes nothing.
        """
        mine = exo_on(self.exo, self.key)
        engine = self.generation.engine(mine)
        if engine == "dummy":
            return None
        self.node.put(probe.SCRIPT.read_bytes(), self.probe_path)
        environment = past_proxies(mine.environment, self.peers)
        command = probe.command(self.installed.python, self.probe_path, engine, exported(self.node, environment))
        ran = self.node.run(command, timeout_s=probe.TIMEOUT_S, check=False)
        return probe.read(self.key, engine, environment, ran.stdout, ran.elapsed_s)

    def revision(self) -> str:
        """Return the revision that is installed, as the node tells it now."""
        return self.node.run(self.installed.revision, timeout_s=60).stdout.strip()

    def wish(self) -> dict[str, str]:
        """Return what hosts.yaml wants installed, as digests by name; of a local directory its files too."""
        wanted = exo_on(self._exo_here(), self.key)
        named = {"release": wanted.release, "source": wanted.source, "python": wanted.python or ""}
        named |= {f"extra {name}": name for name in wanted.extras}
        named |= {f"override of {override_name(text)}": text for text in wanted.overrides}
        ran = self.node.run(tree_command(wanted.source), check=False, timeout_s=60)
        named["files of the source"] = ran.stdout
        return {name: daemon.digest(text) for name, text in named.items()}

    def install_note(self) -> InstallNote | None:
        """Return what the last proven install noted; None where there was none."""
        text = self.node.run(f"cat {shlex.quote(self.note_path)} 2>/dev/null", check=False).stdout
        try:
            return decode(text, InstallNote)
        except msgspec.DecodeError:
            return None

    def note_install(self, wish: dict[str, str], revision: str) -> None:
        """Remember on the node that `wish` was installed and proven to be `revision`."""
        self.node.put(msgspec.json.encode(InstallNote(wish, revision)), self.note_path)

    @property
    def note_path(self) -> str:
        """Where the note of the last proven install lies on the node."""
        return f"{self.folder}/installed.json"

    def installed_parts(self) -> dict[str, str]:
        """Return what of the install decides how EXO runs: its revision, and every package beside it."""
        ran = self.node.run(parts_command(self.installed), check=False, timeout_s=60)
        revision, *packages = ran.stdout.strip().splitlines() or [""]
        named = {name: version for name, _, version in (line.partition("==") for line in packages) if name}
        return {"revision": revision} | {f"package {name}": daemon.digest(text) for name, text in named.items()}

    # Running?

    def launch(self) -> Launch:
        """Return how EXO is started here. Raises StepError where it is not installed or cannot form a cluster."""
        return self.launch_of(self.executable())

    def launch_of(self, executable: str) -> Launch:
        """Return how `executable` is started here. Raises StepError where it cannot form a cluster."""
        try:
            launch = self.generation.launch(
                self.exo, self.key, self.peers(), executable, self.run_folder, self.max_tokens
            )
        except StepError as error:
            raise error.about(self.key) from None
        return msgspec.structs.replace(launch, environment=past_proxies(launch.environment, self.peers))

    def differences(self, launch: Launch) -> list[str]:
        """Name in what EXO runs otherwise than is wanted now: `variable AMD`, `flag --node-port`, `package ...`."""
        wanted, noted = launch.parts | self.installed_parts(), daemon.noted(self.node, self.run_folder)
        had = noted.parts if noted else {}
        differs = [name for name in wanted | had if had.get(name) != wanted.get(name)]
        for path, content in launch.files.items():  # EXO reads the file again whenever somebody has changed it
            ran = self.node.run(f"cat {shlex.quote(path)}", check=False)
            if ran.stdout.strip() != content.strip():
                differs.append(Path(path).name)
        return list(dict.fromkeys(differs))

    def process(self) -> Daemon | None:
        """Return our EXO where it runs, found by identity; None otherwise."""
        return daemon.find(self.node, self.run_folder)

    def restart(self, launch: Launch | None = None) -> Daemon:
        """Stop our EXO if it runs, see its ports free, and start it; returns at once. Raises StepError."""
        launch = launch or self.launch()
        done: dict[str, Outcome[object]] = run_all({"stop": self.stop, "parts": self.installed_parts})
        done["stop"].value()
        taken = self.ports_taken(PORTS_FREE_WITHIN_S)
        if taken:
            owners = ", ".join(f"port {port} is taken by {owner}" for port, owner in taken.items())
            raise StepError(
                owners,
                "free ports: a second EXO on a used port stays alive without an API",
                f"stop it on {self.node.spec.host}, or set other ports in profiles.{self.profile}.exo.ports",
                who=self.key,
            )
        parts = done["parts"].value()
        assert isinstance(parts, dict)
        return daemon.start(self.node, self.run_folder, launch, parts)

    def stop(self) -> Ending:
        """End our EXO with its whole process group, and its link. Raises StepError where something survives."""
        folders = (self.link_folder, self.run_folder)
        ended = run_all({folder: partial(daemon.stop, self.node, folder) for folder in folders})
        *_, ending = (outcome.value() for outcome in ended.values())
        return ending

    def has_ended(self, process: Daemon) -> bool:
        """Tell whether `process` is alive no more."""
        return daemon.state(self.node, process) != "alive"

    def ports_taken(self, patience_s: float = 0.0) -> dict[int, str]:
        """Return those of our ports on which something still listens after `patience_s`, with who it is."""
        deadline = time.monotonic() + patience_s
        while True:
            taken = ports.ports_taken(self.node, self.address, (self.ports.api, self.ports.peer))
            if not taken or time.monotonic() > deadline:
                return taken
            time.sleep(_POLL_S)

    def serves(self, process: Daemon) -> bool:
        """Tell whether it is `process`, or a child of it, that listens on the API's port."""
        return ports.listens(self.node, process, self.address, self.ports.api)

    # What it says

    def ask(self, request: Request, line: Line | None = None) -> Reply:
        """Send `request` to this node's API; status 0 where there is no answer. `line` can end it before."""
        return call(self.node, self.address, self.ports.api, request, line)

    def read_topology(self) -> Topology:
        """Return the cluster as this node tells it now. Raises StepError where it tells nothing sensible.

        CutAnswerError where it does, and the answer never comes whole.
        """
        reply = self.ask(self.generation.topology_request())
        expect_ok(reply, "its topology")
        return self.generation.parse_topology(reply.text, self.peers())

    def topology(self) -> Topology | None:
        """Return the same, or None where this node tells nothing sensible."""
        with contextlib.suppress(StepError):
            return self.read_topology()
        return None

    def family(self) -> list[Member]:
        """Return every process of ours that was started for EXO here, its children included."""
        return daemon.family(self.node, self.run_folder)

    def end_runners(self, patience_s: float = 8.0) -> list[int]:
        """End what still holds a model here `patience_s` after no instance of it is left; return the PIDs.

        EXO gives a runner of its own 5 s. One that it waits for in vain keeps it from everything else, until it is
        gone: EXO looks every 5 s.
        """
        deadline = time.monotonic() + patience_s
        while pids := [one.pid for one in self.family() if self.generation.holds_model(one.command)]:
            if time.monotonic() > deadline:
                self.node.run(f"kill -KILL {' '.join(map(str, pids))}", check=False)
                return pids
            time.sleep(_POLL_S)
        return []

    def connections(self) -> frozenset[str]:
        """Return the connections to and from our peer port, as the kernel lists them: `local remote` in hex."""
        return ports.connections(self.node, self.ports.peer)

    def log_size(self) -> int:
        """Return how many bytes the log has so far, 0 where there is none."""
        return daemon.log_size(self.node, self.run_folder)

    def log_since(self, size: int) -> str:
        """Return the end of what the log has gained beyond its first `size` bytes."""
        return daemon.log_since(self.node, self.run_folder, size)

    def pulse(self, process: Daemon, since: int) -> tuple[Pulse, str]:
        """Return what `process` and its children have done so far, and its log beyond the first `since` bytes."""
        return daemon.pulse(self.node, self.run_folder, process, since)

    def log_whole(self) -> str:
        """Return the log, of a long one the end."""
        return daemon.log_since(self.node, self.run_folder, 0)

    def log_tail(self) -> str:
        """Return the last 200 lines of the log, "" where there is none."""
        return daemon.log_tail(self.node, self.run_folder)
