"""EXO on one node: where it lies, how it is installed, started, found, asked and stopped.

The one object that joins a generation (pure) with a node (the world). What it holds follows from hosts.yaml; whether
EXO is installed, runs or answers is asked of the node each time.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from functools import cached_property

from records.facts import ComputeProbe
from records.settings import Exo, exo_on, ports_of
from tasks.errors import StepError
from tasks.exo import probe
from tasks.exo.catalogue import generation_of
from tasks.exo.interface import Generation, InstallPlan, Topology
from tasks.machines import daemon, ports
from tasks.machines.daemon import Daemon, Ending, Launch
from tasks.machines.http import call
from tasks.machines.node import Node
from tasks.machines.paths import state_folder
from tasks.machines.pythons import Python, fitting_python
from tasks.machines.wire import Reply, Request

_GPU_SWITCHES = ("AMD", "HIP", "CUDA", "NV", "GPU")
"""tinygrad's environment variables that choose a GPU; one of them set is the claim that EXO computes on it."""


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
        return fitting_python(self.node, self.exo.python or self.generation.PYTHON)

    def install_plan(self) -> InstallPlan:
        """Return how this release is installed here. Raises StepError where no Python of the node fits."""
        return self.generation.install_plan(self.exo, self.key, self.folder, self.python().path)

    def executable(self) -> str:
        """Return the path of the installed `exo`. Raises StepError where it is not there."""
        path = self.install_plan().exo
        if not self.node.run(f"test -x {shlex.quote(path)}", check=False).ok:
            raise StepError(f"there is no {path}", "an installed EXO", f"fab install-{self.key}", who=self.key)
        return path

    def compute(self) -> ComputeProbe | None:
        """Have the installed engine compute as a prompt will, in EXO's venv and environment; bounded.

        None where EXO's dummy engine is chosen, which computes nothing.
        """
        mine = exo_on(self.exo, self.key)
        engine, script = self.generation.engine(mine), f"{self.folder}/compute_probe.py"
        if engine == "dummy":
            return None
        self.node.put(probe.SCRIPT.read_bytes(), script)
        command = probe.command(self.install_plan().python, script, engine, mine.environment)
        ran = self.node.run(command, timeout_s=probe.TIMEOUT_S, check=False)
        return probe.read(self.key, engine, mine.environment, ran.stdout, ran.elapsed_s)

    def revision(self) -> str:
        """Return the revision that is installed, as the node tells it now."""
        return self.node.run(self.install_plan().revision, timeout_s=60).stdout.strip()

    # Running?

    def launch(self) -> Launch:
        """Return how EXO is started here. Raises StepError where it is not installed or cannot form a cluster."""
        try:
            return self.generation.launch(
                self.exo, self.key, self.peers(), self.executable(), self.run_folder, self.max_tokens
            )
        except StepError as error:
            raise error.about(self.key) from None

    def process(self) -> Daemon | None:
        """Return our EXO where it runs, found by identity; None otherwise."""
        return daemon.find(self.node, self.run_folder)

    def restart(self, launch: Launch | None = None) -> Daemon:
        """Stop our EXO if it runs, see its ports free, and start it; returns at once. Raises StepError."""
        launch = launch or self.launch()
        self.stop()
        taken = self.ports_taken()
        if taken:
            owners = ", ".join(f"port {port} is taken by {owner}" for port, owner in taken.items())
            raise StepError(
                owners,
                "free ports: a second EXO on a used port stays alive without an API",
                f"stop it on {self.node.spec.host}, or set other ports in profiles.{self.profile}.exo.ports",
                who=self.key,
            )
        return daemon.start(self.node, self.run_folder, launch)

    def stop(self) -> Ending:
        """End our EXO with its whole process group, if it runs. Raises StepError where something survives."""
        return daemon.stop(self.node, self.run_folder)

    def has_ended(self, process: Daemon) -> bool:
        """Tell whether `process` is alive no more."""
        return daemon.state(self.node, process) != "alive"

    def ports_taken(self) -> dict[int, str]:
        """Return those of our ports on which something listens, with who it is."""
        return ports.ports_taken(self.node, self.address, (self.ports.api, self.ports.peer))

    def serves(self, process: Daemon) -> bool:
        """Tell whether it is `process`, or a child of it, that listens on the API's port."""
        return ports.listens(self.node, process, self.address, self.ports.api)

    # What it says

    def ask(self, request: Request) -> Reply:
        """Send `request` to this node's API; status 0 where there is no answer."""
        return call(self.node, self.address, self.ports.api, request)

    def topology(self) -> Topology | None:
        """Return the cluster as this node tells it now; None where its API does not answer sensibly."""
        reply = self.ask(self.generation.topology_request())
        if reply.status != 200:
            return None
        try:
            return self.generation.parse_topology(reply.text, self.peers())
        except StepError:
            return None

    def log_size(self) -> int:
        """Return how many bytes the log has so far, 0 where there is none."""
        return daemon.log_size(self.node, self.run_folder)

    def log_since(self, size: int) -> str:
        """Return the end of what the log has gained beyond its first `size` bytes."""
        return daemon.log_since(self.node, self.run_folder, size)

    def log_tail(self) -> str:
        """Return the last 200 lines of the log, "" where there is none."""
        return daemon.log_tail(self.node, self.run_folder)
