"""Which genuine programs the environment names, and a bed on which the product meets them: lab, hub, hosts.yaml."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import PROJECT
from tests.real import amd_gpu, lab, tiny_model
from tests.real.lab import HUB, NODES, ROG, SRV1, Lab
from tests.real.ollama_server import OLLAMA, OLLAMA_GGUF, TEMPLATE

EXO_SOURCE = os.environ.get("EXO_SOURCE", "")
"""A checkout of EXO v0.0.15-alpha."""
EXO_PYTHON = os.environ.get("EXO_PYTHON") or shutil.which("python3.12") or ""
"""A Python 3.12; EXO's pins have wheels for it."""
EXO_WHEELS = os.environ.get("EXO_WHEELS", "")
"""A folder with all that EXO needs, for the nodes reach no package index: `pip download` fills one."""
HUB_PORT = 8800
OLLAMA_PORT, GENUINE_OLLAMA_PORT = 11434, 11435
SLOW = {"first_token_s": 3.0, "tokens_per_s": 0.6}
"""The stand-in for Ollama is far slower than a ring of three nodes on two shared cores, whose answers took 2.7 to
8.6 s: step 13 is for a GO alone, and few rounds with that noise must carry it."""


def absent() -> str:
    """Return what is missing for the real program on the real machines, "" where nothing is."""
    unnamed = [
        f"{name} names no {what}"
        for name, what, path in (
            ("EXO_SOURCE", "checkout of EXO v0.0.15-alpha", f"{EXO_SOURCE}/exo/main.py"),
            ("EXO_PYTHON", "Python 3.12", EXO_PYTHON),
            ("EXO_WHEELS", "folder of wheels for it", EXO_WHEELS),
        )
        if not path or not Path(path).exists()
    ]
    lacking = lab.missing()
    return "; ".join([*unnamed, *([f"the lab needs {lacking}"] if lacking else [])])


@dataclass(frozen=True)
class Bed:
    """The lab with a hub and an Ollama on two nodes, below one folder."""

    lab: Lab
    folder: Path

    def campaign(self, name: str, *, amd: bool = False) -> Path:
        """Return a new folder for one campaign, its hosts file in it; `amd`: rog computes on its emulated GPU."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "hosts.yaml").write_text(json.dumps(hosts(self.folder / "exo", amd=amd), indent=2))
        return folder

    def with_genuine_ollama(self, campaign: Path) -> None:
        """Start a genuine Ollama where the stand-in is a baseline, and have the campaign ask that instead.

        Its one file stands for both models of the pair.
        """
        hosts_file = campaign / "hosts.yaml"
        told = json.loads(hosts_file.read_text())
        models = told["profiles"]["llama-0015"]["models"].values()
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
        done = self.lab.run(
            SRV1,
            [str(Path(sys.executable).with_name("fab")), *words],
            cwd=PROJECT,
            timeout_s=timeout_s,
            FABRIC_EXO_INVENTORY=str(campaign / "hosts.yaml"),
        )
        with (campaign / "typed.log").open("a") as log:
            log.write(f"$ fab {' '.join(words)}\n{done.stdout}{done.stderr}exit code {done.returncode}\n\n")
        return done


@contextmanager
def bed(root: Path) -> Iterator[Bed]:
    """Bring everything up below `root`, and take it down again."""
    checkout, models = root / "exo", root / "models"
    shutil.copytree(EXO_SOURCE, checkout, ignore=shutil.ignore_patterns(".git", "build", "*.egg-info"))
    tiny_model.scale_down(checkout)
    tiny_model.write_models(models)
    (root / "lab").mkdir()
    with Lab(root / "lab") as up:
        up.start(HUB, [sys.executable, "-m", "tests.real.hub", str(models), str(HUB_PORT)], "hub.log", **_ours())
        for machine in NODES:
            at = up.folder(machine)
            (at / "bin/python3.12").symlink_to(EXO_PYTHON)
            (at / "home/.config/pip/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {EXO_WHEELS}\n")
        for machine in (SRV1, ROG):
            home = up.folder(machine) / "home"
            told = SLOW | {"noise": 0.02, "node": machine.key, "load_s": 0.15}
            (home / ".rehearsal.json").write_text(json.dumps({"ollama": told}))
            argv = [sys.executable, "-m", "rehearsal.ollama", "0.0.0.0", str(OLLAMA_PORT), str(home)]
            up.start(machine, argv, "ollama.log", **_ours())
        yield Bed(up, root)


def _ours() -> dict[str, str]:
    return {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}


def hosts(checkout: Path, *, amd: bool) -> dict[str, Any]:
    """Return the shipped hosts file, changed only in what this bed has not: Tailscale, the internet, a week, a GPU."""
    shipped: dict[str, Any] = yaml.safe_load((PROJECT / "hosts.yaml").read_text())
    for machine in NODES:
        shipped["nodes"][machine.key]["address"] = machine.address
    del shipped["ollama"]["rog"]["gpu"], shipped["profiles"]["qwen-1x"]
    exo = shipped["profiles"]["llama-0015"]["exo"]
    exo["source"] = str(checkout)
    if amd:
        exo["nodes"]["rog"]["environment"] |= amd_gpu.environment()
    else:
        del shipped["nodes"]["rog"]["gpu"]
        exo["nodes"]["rog"] = exo["nodes"]["srv2"]  # what ships for a node without a usable GPU
    exo["environment"] = {"HF_ENDPOINT": f"http://{HUB.address}:{HUB_PORT}"}
    for pair in shipped["profiles"]["llama-0015"]["models"].values():
        pair["download_bytes"] = 20_000_000
    shipped["bench"] |= {"baseline_runs": 2, "requests": 1, "max_tokens": 12}
    return shipped
