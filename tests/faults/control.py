"""The bed of the fault matrix: a desk at which `fab` is typed and three nodes, each with OpenSSH and the stand-ins.

EXO and Ollama are those of the rehearsal, the machines those of tests/support/lab.py: own network, processes, boot id
and a small disk of their own each. One cluster serves all cases.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.cluster import lay_files
from rehearsal.hosts import PROFILES, hosts
from rehearsal.layout import Layout, environment
from rehearsal.sources import lay_venv
from tests import PROJECT
from tests.support import wall_clock
from tests.support.lab import Lab, Machine

PROFILE = PROFILES[0]
NETWORK = "100.77.1"
DESK = Machine("desk", "desk", f"{NETWORK}.9", 0)
SRV1 = Machine("srv1", "ndnlinuxsrv1", f"{NETWORK}.1")
SRV2 = Machine("srv2", "ndnlinuxsrv2", f"{NETWORK}.2")
ROG = Machine("rog", "rog-flow-z13", f"{NETWORK}.3", 2222)
NODES = (SRV1, SRV2, ROG)
WITH_OLLAMA = (ROG,)
OLLAMA_PORT = 11434
DISK = "160m"
NOT_THE_SHELL = ("HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME")
"""What the login sets by itself."""
SHORT: dict[str, Any] = {"runs": 1, "baseline_runs": 1, "requests": 2, "warmups": 0, "max_tokens": 8}
"""A benchmark of seconds: what is asked here is whether anything is lost, not how fast anything is."""
EXO_TIMES = {"install_timeout_s": 180, "start_timeout_s": 20, "cluster_timeout_s": 15, "download_timeout_s": 20}
REQUEST_TIMEOUT_S = 6


@dataclass(frozen=True)
class Typed:
    """One call of `fab` that has ended, or that was ended because it hung."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float
    hung: bool = False


class Bed:
    """The machines, what runs on them, and the campaign on the desk."""

    def __init__(self, lab: Lab, layout: Layout, at_desk: Mapping[str, str]) -> None:
        self.lab = lab
        self.layout = layout
        self._at_desk = at_desk
        self.campaign = lab.folder(DESK) / "campaign"
        self.logs = self.campaign / "logs" / PROFILE

    def fab(
        self,
        *words: str,
        limit_s: float = 600.0,
        meanwhile: Callable[[subprocess.Popen[str]], None] | None = None,
        **variables: str,
    ) -> Typed:
        """Type `fab WORDS` at the desk, do something `meanwhile`, and wait until it ends or the limit is reached."""
        begin = time.monotonic()
        told = {"FABRIC_EXO_INVENTORY": str(self.campaign / "hosts.yaml"), "PYTHONFAULTHANDLER": "1", **self._at_desk}
        argv = [str(Path(sys.executable).with_name("fab")), *words]
        with self.lab.begin(DESK, argv, cwd=PROJECT, **(told | variables)) as running:
            try:
                if meanwhile:
                    meanwhile(running)
                out, err = running.communicate(timeout=max(1.0, limit_s - (time.monotonic() - begin)))
                hung = False
            except subprocess.TimeoutExpired:
                tell(running, signal.SIGABRT)  # Python says on stderr where it hung
                out, err = running.communicate()
                hung = True
        return Typed(words, running.returncode, out, err, time.monotonic() - begin, hung)

    def settings(self, machine: Machine, section: str, **values: Any) -> None:
        """Change what the stand-ins of a machine are told; None takes a value away."""
        path = self.lab.seen(self.layout.node(machine.key).settings)
        told = json.loads(path.read_text())
        told[section] = {k: v for k, v in (told.get(section, {}) | values).items() if v is not None}
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(told))
        aside.replace(path)

    def start_ollama(self, machine: Machine) -> None:
        """Start the Ollama of a machine, where it has one."""
        if machine in WITH_OLLAMA:
            home = self.layout.node(machine.key).home
            argv = [sys.executable, "-m", "rehearsal.ollama", "0.0.0.0", str(OLLAMA_PORT), str(home)]
            ours = {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home)}
            self.lab.start(machine, argv, "ollama.log", **ours)

    def wait_for_ollama(self, machine: Machine) -> None:
        """Wait until the Ollama of a machine answers, where it has one."""
        if machine in WITH_OLLAMA:
            dial = f"until exec 3<>/dev/tcp/{machine.address}/{OLLAMA_PORT}; do sleep 0.1; done"
            self.lab.shell(machine, f"timeout 120 bash -c {shlex.quote(dial)} 2>/dev/null")

    def set_clock(self, machine: Machine, ahead_s: int) -> None:
        """Set the wall clock of a machine so far ahead of the right time."""
        wall_clock.set_ahead(self.lab.seen(self.lab.folder(machine) / CLOCK), ahead_s)

    def kill(self, machine: Machine, pattern: str) -> None:
        """Kill whatever runs on a machine with these words in its command line, as the kernel would."""
        self.lab.run(machine, ["pkill", "-KILL", "-f", pattern], cwd=Path("/"), timeout_s=20)

    def reset(self, machine: Machine, *paths: str) -> None:
        """Remove what lies below a machine's home, as if it had never been."""
        home = self.layout.node(machine.key).home
        self.lab.shell(machine, "rm -rf -- " + " ".join(shlex.quote(f"{home}/{path}") for path in paths))

    def lay_venv_again(self, machine: Machine) -> None:
        """Put the empty virtual environment back that a node began with."""
        home = shlex.quote(str(self.layout.node(machine.key).home))
        kept = shlex.quote(str(self.layout.root / "venvs" / machine.key))
        self.lab.shell(machine, f"rm -rf {home}/.exo-phase1 && cp -a {kept} {home}/.exo-phase1")


def tell(running: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to the program itself: what was started here is the nsenter around it."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    with contextlib.suppress(OSError, IndexError):  # it has ended by itself
        os.kill(int(children.read_text().split()[0]), number)


CLOCK = "clock"
"""The file in a machine's folder that says how far ahead its clock is."""


@contextmanager
def bed(root: Path, *, clocks: bool = False) -> Iterator[Bed]:
    """Bring everything up below `root`, and take it down again; with `clocks` each machine's clock can be set."""
    layout = Layout(
        root=root, generation=0, speedup=3.0, noise=0.02, seed=1, trap=None, network=NETWORK, ssh_port=22,
        rog_ssh_port=ROG.ssh_port, ollama_port=OLLAMA_PORT, api_port=52415, peer_port=5678,
    )  # fmt: skip
    lay_files(layout)
    for node in layout.nodes():
        lay_venv(node.home / ".exo-phase1" / PROFILE / "venv")
        subprocess.run(["cp", "-a", node.home / ".exo-phase1", _made(root / "venvs") / node.key], check=True)
    (root / "nodes/desk/campaign").mkdir(parents=True)
    (root / "nodes/desk/campaign/hosts.yaml").write_text(json.dumps(_hosts(layout), indent=2))
    found = {m.key: _environment(layout, m) if m in NODES else {} for m in (DESK, *NODES)}
    if clocks:
        library = wall_clock.made(root)
        for key, variables in found.items():
            variables |= wall_clock.read_from(library, root / "nodes" / key / CLOCK)
    lab = Lab(root / "nodes", (DESK, *NODES), user=DESK, environment=lambda m: found[m.key], disk=DISK)
    with lab:
        up = Bed(lab, layout, found[DESK.key])
        for machine in WITH_OLLAMA:
            up.start_ollama(machine)
            up.wait_for_ollama(machine)
        yield up


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _environment(layout: Layout, machine: Machine) -> dict[str, str]:
    found = environment(layout, layout.node(machine.key))
    return {name: value for name, value in found.items() if name not in NOT_THE_SHELL}


def _hosts(layout: Layout) -> dict[str, Any]:
    """Return a rehearsal's hosts file for these machines, with time-outs that a fault may use up."""
    content = hosts(layout)
    for machine in NODES:
        spec = content["nodes"][machine.key]
        spec |= {"host": machine.hostname, "user": "root"}
        del spec["identity_file"], spec["known_hosts"]
    del content["ollama"]["srv1"]
    content["bench"] |= SHORT | {"request_timeout_s": REQUEST_TIMEOUT_S}
    content["profiles"][PROFILE]["exo"] |= EXO_TIMES
    return content
