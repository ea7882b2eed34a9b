"""A bed on which the product meets a genuine EXO: the lab, a model hub, an Ollama on two nodes, a hosts.yaml."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from records.campaign import Campaign
from tests import PROJECT
from tests.real.ollama_server import OLLAMA, OLLAMA_GGUF, TEMPLATE
from tests.support.lab import HUB, NODES, ROG, SRV1, Lab

HUB_PORT = 8800
OLLAMA_PORT, GENUINE_OLLAMA_PORT = 11434, 11435
SLOW = {"first_token_s": 1.5, "tokens_per_s": 1.0}
"""The stand-in for Ollama is far slower than a ring of three nodes on two shared cores: step 13 is for a GO alone, and
few rounds must carry it. Its answers take 12.5 s, the ring's 1.2 to 2.2 s, and 4 s on a machine at load 60."""
LONGEST_S = 5000
"""Of one campaign; a quarter of an hour where these three machines have the two cores to themselves."""


@dataclass(frozen=True)
class Bed:
    """Everything that is up, below one folder."""

    lab: Lab
    folder: Path
    hosts: dict[str, Any]
    login: dict[str, str]
    """What a login on every node finds in its environment; on srv1, where `fab` is typed, there is none to find it."""

    def campaign(self, name: str, hosts: dict[str, Any] | None = None) -> Path:
        """Return a new folder for one campaign, its hosts file in it: the bed's own, where no other is given."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "hosts.yaml").write_text(json.dumps(hosts or self.hosts, indent=2))
        return folder

    def with_genuine_ollama(self, campaign: Path) -> None:
        """Start a genuine Ollama where the stand-in is a baseline, and have the campaign ask that instead.

        Its one file stands for both models of the pair.
        """
        hosts_file = campaign / "hosts.yaml"
        told = json.loads(hosts_file.read_text())
        models = told["profiles"][told["profile"]]["models"].values()
        for machine in (SRV1, ROG):
            told["ollama"][machine.key]["url"] = f"http://{machine.address}:{GENUINE_OLLAMA_PORT}"
            folder = self.lab.folder(machine)
            where = {"OLLAMA_HOST": f"0.0.0.0:{GENUINE_OLLAMA_PORT}", "OLLAMA_MODELS": str(folder / "models")}
            own = where | {"HOME": str(folder / "home"), "OLLAMA_NO_CLOUD": "1"}
            self.lab.start(machine, [OLLAMA, "serve"], "genuine-ollama.log", **own)
            (folder / "Modelfile").write_text(f"FROM {OLLAMA_GGUF}\n{TEMPLATE}")
            for pair in models:
                make = f"until {OLLAMA} create {pair['ollama']} -f {folder}/Modelfile; do sleep 0.3; done"
                made = self.lab.run(machine, ["bash", "-c", make], cwd=folder, timeout_s=120, **own)
                assert made.returncode == 0, made.stderr
        for pair in models:
            pair["ollama_precision"] = OLLAMA_GGUF.rpartition(".gguf")[0].rpartition(".")[2]
        hosts_file.write_text(json.dumps(told, indent=2))

    def fab(self, campaign: Path, *words: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Type `fab WORDS` on srv1; what it said stands in `typed.log` of the campaign's folder too."""
        begin = time.monotonic()
        done = self.lab.run(
            SRV1,
            [str(Path(sys.executable).with_name("fab")), *words],
            cwd=PROJECT,
            timeout_s=timeout_s,
            FABRIC_EXO_INVENTORY=str(campaign / "hosts.yaml"),
            **self.login,
        )
        took = f"exit code {done.returncode} after {time.monotonic() - begin:.0f} s"
        with (campaign / "typed.log").open("a") as log:
            log.write(f"$ fab {' '.join(words)}\n{done.stdout}{done.stderr}{took}\n\n")
        say(f"fab {' '.join(words)}: {took}")
        return done

    def typed(self, campaign: Path, *words: str) -> None:
        """Type `fab WORDS`, which must end well; of a report its headline is shown: the verdict and its numbers."""
        done = self.fab(campaign, *words, timeout_s=LONGEST_S)
        if words == ("report",):
            say(done.stdout)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr


@contextmanager
def brought_up(root: Path, hosts: dict[str, Any], tools: dict[str, str], **variables: str) -> Iterator[Bed]:
    """Bring everything up below `root`, where the hub's models lie in `models`, and take it down again.

    The nodes get `tools` (name -> program) on their PATH, and `variables` in every login.
    """
    (root / "lab").mkdir()
    ours = {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    with Lab(root / "lab", environment=lambda _: variables) as up:
        up.start(HUB, [sys.executable, "-m", "tests.real.hub", str(root / "models"), str(HUB_PORT)], "hub.log", **ours)
        for machine in NODES:
            at = up.folder(machine)
            up.start(machine, [sys.executable, "-m", "tests.real.loadavg", str(at / "loadavg")], "load.log", **ours)
            for name, program in tools.items():
                (at / "bin" / name).symlink_to(program)
        for machine in (SRV1, ROG):
            home = up.folder(machine) / "home"
            told = SLOW | {"noise": 0.02, "node": machine.key, "load_s": 0.15}
            (home / ".rehearsal.json").write_text(json.dumps({"ollama": told}))
            argv = [sys.executable, "-m", "rehearsal.ollama", "0.0.0.0", str(OLLAMA_PORT), str(home)]
            up.start(machine, argv, "ollama.log", **ours)
        yield Bed(up, root, hosts, variables)


def shipped() -> dict[str, Any]:
    """Return the hosts file that ships."""
    hosts: dict[str, Any] = yaml.safe_load((PROJECT / "hosts.yaml").read_text())
    return hosts


def shipped_hosts(profile: str) -> dict[str, Any]:
    """Return the shipped hosts file with one profile, changed only in what a bed has not: a GPU, Tailscale, a week."""
    hosts = shipped()
    for machine in NODES:
        hosts["nodes"][machine.key]["address"] = machine.address
    del hosts["nodes"]["rog"]["gpu"], hosts["ollama"]["rog"]["gpu"]
    wanted = hosts["profiles"][profile]
    wanted["exo"]["environment"] = {"HF_ENDPOINT": f"http://{HUB.address}:{HUB_PORT}"}
    for pair in wanted["models"].values():
        pair["download_bytes"] = 20_000_000
    hosts |= {"profile": profile, "profiles": {profile: wanted}}
    hosts["bench"] |= {"baseline_runs": 2, "requests": 1, "max_tokens": 12}
    return hosts


def tell(campaign: Campaign) -> None:
    """Show what every step came to."""
    lines = (f"{number:2} {record.status:8} {record.summary}" for number, record in sorted(campaign.records.items()))
    say("\n".join(lines))


def say(text: str) -> None:
    """Tell the person at the terminal; `make test-real` shows what tests print."""
    sys.stdout.write(f"\n[real] {text}\n")
    sys.stdout.flush()
