"""A secret of hosts.yaml is nowhere where others may read it, on three machines over OpenSSH."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.faults.control import DESK, NODES, PROFILE, bed
from tests.support import lab

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(lab.missing()), reason=f"the lab needs {lab.missing()}"),
]
SECRETS = {
    "HF_TOKEN": "hf_PlantedToken",
    "HTTPS_PROXY": "http://someone:PlantedProxy@proxy.invalid:3128",
    "SOME_URL": "https://host.invalid/x?api_key=PlantedQuery",
}
TYPED = ("preflight install start", "download-model", "status", "logs", "report --html", "cleanup")
WATCH = """(exec -a PlantedForAProof sleep 9) &
while :; do cat /proc/[0-9]*/cmdline 2>/dev/null; sleep 0.03; done | tr '\\0' '\\n' |
grep -a --line-buffered Planted >{log}"""
SEEN_OF_THE_WATCH = {"Planted", "PlantedForAProof", *WATCH.splitlines()}


def test_planted_secrets_are_found_nowhere(tmp_path: Path) -> None:
    """Not on any command line of any process, in no line, record, report or log, and in no file others may read."""
    with bed(tmp_path) as up:
        hosts = up.lab.seen(up.campaign / "hosts.yaml")
        content = json.loads(hosts.read_text())
        content["profiles"][PROFILE]["exo"]["environment"] = SECRETS
        hosts.write_text(json.dumps(content))
        for machine in (DESK, *NODES):
            log = up.lab.folder(machine) / "cmdline.log"
            up.lab.start(machine, ["bash", "-c", WATCH.format(log=shlex.quote(str(log)))], "watch.log")
        said = ""
        for words in TYPED:
            done = up.fab(*words.split())
            assert done.code == 0, done.stderr
            said += done.stdout + done.stderr
        assert "Planted" not in said
        for machine in (DESK, *NODES):
            watched = set(up.lab.seen(up.lab.folder(machine) / "cmdline.log").read_text().splitlines())
            assert "PlantedForAProof" in watched, machine.key
            assert {line for line in watched - SEEN_OF_THE_WATCH if not line.endswith("cmdline.log")} == set()
            folder = shlex.quote(str(up.lab.folder(machine)))
            look = f"grep -rlI --exclude=cmdline.log Planted {folder} | xargs -r stat -c '%a %n'"
            read_by_others = [line for line in up.lab.shell(machine, look).splitlines() if not line.startswith("600 ")]
            assert read_by_others == ([f"644 {up.campaign / 'hosts.yaml'}"] if machine is DESK else []), machine.key
