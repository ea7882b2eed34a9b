"""`fab init`: four answers make a hosts.yaml that loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.errors import StepError
from tasks.init import node_keys, ssh_aliases, tailscale_addresses, write_hosts_file
from tasks.inventory import load_inventory

TWINS = {"ubuntu": "100.64.0.1", "ubuntu-1": "100.64.0.2"}


def answering(*answers: str) -> tuple[list[str], object]:
    """Return the questions that will have been asked, and what answers them."""
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return answers[len(asked) - 1]

    return asked, ask


def test_four_answers_make_a_hosts_file_that_loads(tmp_path: Path) -> None:
    """Nodes, the local one, the GPU's and the Ollama servers are those that were named, in every profile."""
    config = tmp_path / "config"
    config.write_text("Host big small\n  User me\nHost *.lan !x\nhost=third\n", encoding="utf-8")
    asked, ask = answering("", "big", "small", "small third")
    hosts = tmp_path / "hosts.yaml"
    write_hosts_file(hosts, ask, config)  # type: ignore[arg-type]
    inventory = load_inventory(hosts)
    assert [question[:2] for question in asked] == ["1.", "2.", "3.", "4."]
    assert {key: (spec.host, spec.local) for key, spec in inventory.nodes.items()} == {
        "big": ("big", True),
        "small": ("small", False),
        "third": ("third", False),
    }
    assert inventory.nodes["small"].gpu is not None
    assert set(inventory.ollama) == {"small", "third"}
    assert inventory.bench.node == "big"
    assert set(inventory.profiles["llama-0015"].exo.nodes) == {"big", "small", "third"}


def test_an_answer_that_makes_no_sense_writes_nothing(tmp_path: Path) -> None:
    """One machine alone, a name that was not given, a file that is there: refused, and nothing is overwritten."""
    hosts = tmp_path / "hosts.yaml"
    for answers in (("a", "a", "-", "a"), ("a b", "c", "-", "a"), ("a b", "a", "-", "d")):
        with pytest.raises(StepError):
            write_hosts_file(hosts, answering(*answers)[1], tmp_path / "none")  # type: ignore[arg-type]
        assert not hosts.exists()
    hosts.write_text("mine", encoding="utf-8")
    with pytest.raises(StepError, match="is there already"):
        write_hosts_file(hosts, answering("a b", "a", "-", "a")[1], tmp_path / "none")  # type: ignore[arg-type]
    assert hosts.read_text(encoding="utf-8") == "mine"


def test_what_ssh_and_tailscale_know(tmp_path: Path) -> None:
    """Patterns are no hosts, machines of other systems no nodes, and keys are short and never alike."""
    config = tmp_path / "config"
    config.write_text('Host a "b"\nHOST = c\nHost d* ?e !f\n# Host g\n', encoding="utf-8")
    assert ssh_aliases(config) == ["a", "b", "c"]
    assert ssh_aliases(tmp_path / "none") == []
    peer = {"HostName": "box", "OS": "linux", "TailscaleIPs": ["fd7a::1", "100.64.0.9"]}
    phone = {"HostName": "phone", "OS": "iOS", "TailscaleIPs": ["100.64.0.8"]}
    assert tailscale_addresses(json.dumps({"Peer": {"x": peer, "y": phone}})) == {"box": "100.64.0.9"}
    twins = {
        n: {"HostName": "ubuntu", "DNSName": f"{n}.tail1.ts.net.", "TailscaleIPs": [ip]} for n, ip in TWINS.items()
    }
    assert tailscale_addresses(json.dumps({"Peer": twins})) == TWINS
    assert tailscale_addresses("tailscale is stopped") == {}
    assert node_keys(["Box.lan", "box.example", "10.0.0.5", "exo"]) == {
        "Box.lan": "box",
        "box.example": "box-2",
        "10.0.0.5": "n10",
        "exo": "nexo",
    }
