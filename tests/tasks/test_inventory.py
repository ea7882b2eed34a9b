"""hosts.yaml: the shipped one is valid, and every mistake is one error that names the file and the key path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.inventory import InventoryError, active, campaign_id, load_inventory
from tests import PROJECT

SHIPPED = PROJECT / "hosts.yaml"


def written(folder: Path, change: dict[str, Any]) -> Path:
    """Write the shipped hosts file with `change` (dotted key path -> value, None deletes) into `folder`."""
    raw = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    for key, value in change.items():
        *path, last = key.split("/")
        at = raw
        for part in path:
            at = at[part]
        if value is None:
            del at[last]
        else:
            at[last] = value
    hosts = folder / "hosts.yaml"
    hosts.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return hosts


def test_shipped_file_holds_the_plan(tmp_path: Path) -> None:
    """The hosts.yaml in the repository is valid and names the plan's nodes, ports and addresses."""
    inventory = load_inventory(SHIPPED)
    assert {key: spec.host for key, spec in inventory.nodes.items()} == {
        "srv1": "ndnlinuxsrv1",
        "srv2": "ndnlinuxsrv2",
        "rog": "rog-flow-z13",
    }
    assert (inventory.nodes["srv1"].address, inventory.nodes["srv1"].local) == ("100.77.248.9", True)
    assert (inventory.nodes["rog"].address, inventory.nodes["rog"].port) == ("100.93.122.109", 2222)
    assert active(inventory).exo.release == "0.0.15"
    assert set(inventory.ollama) == {"srv1", "rog"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nodes/srv1/prot": 22}, ["nodes.srv1", "prot"]),
        ({"nodes/rog/port": 99999}, ["nodes.rog.port", "65535"]),
        ({"nodes/rog/port": "ssh"}, ["nodes.rog.port", "int"]),
        ({"nodes/rog/address": "100.93.122.999"}, ["nodes.rog.address", "not an IPv4 address"]),
        ({"nodes/srv2/host": "rog-flow-z13", "nodes/srv2/port": 2222}, ["nodes.", "the same machine as"]),
        ({"nodes/srv2/address": "100.77.248.9"}, ["address", "the same as nodes."]),
        ({"nodes/srv2/host": "srv2:2222"}, ["nodes.srv2.host: srv2", "nodes.srv2.port: 2222"]),
        ({"nodes/srv2/host": "me@srv2"}, ["nodes.srv2.user: me"]),
        ({"nodes/srv2/host": "[fd7a::1]"}, ["nodes.srv2.host: fd7a::1"]),
        ({"nodes/srv2/host": "ndnlinuxsrv1."}, ["the same machine as nodes.srv1"]),
        ({"nodes/srv2/address": "fd7a::1"}, ["nodes.srv2.address", "EXO is told IPv4 addresses"]),
        ({"nodes/srv2/address": "0.0.0.0"}, ["nodes.srv2.address: 0.0.0.0 is no address of one machine"]),
        ({"nodes/srv2/host": "[::1]:22"}, ["nodes.srv2.host: ::1", "nodes.srv2.port: 22"]),
        ({"nodes/srv2/host": "srv2; reboot"}, ["nodes.srv2.host", "not a host name"]),
        ({"nodes/srv2/host": "-oProxyCommand=x"}, ["nodes.srv2.host", "not a host name"]),
        ({"nodes/srv2": None}, ["profiles.llama-0015.exo.nodes.srv2", "not one of nodes"]),
        ({"bench/num_ctx": 300}, ["bench.num_ctx", "300 tokens hold no prompt", "at least 384"]),
        ({"profile": "nope"}, ["profile", "nope"]),
        ({"bench/node": "srv9"}, ["bench.node", "srv9"]),
        ({"bench/runs": 0}, ["bench.runs", ">= 1"]),
        ({"ollama/rog/url": "https://x"}, ["ollama.rog.url"]),
        ({"ollama/rog/node": "gpu"}, ["ollama.rog.node", "gpu"]),
        ({"profiles/llama-0015/exo/source": "exo"}, ["profiles.llama-0015.exo.source", "Yeast"]),
        ({"profiles/llama-0015/exo/source": "exo[amd]==0.1.2"}, ["profiles.llama-0015.exo.source", "Yeast"]),
        ({"profiles/llama-0015/models/small/exo": None}, ["profiles.llama-0015.models.small", "exo"]),
        ({"profiles/llama-0015/models/large/ollama": " "}, ["profiles.llama-0015.models.large.ollama", "every model"]),
        ({"profiles/llama-0015/exo/nodes/srv9": {}}, ["profiles.llama-0015.exo.nodes.srv9"]),
        (
            {"profiles/llama-0015/exo/node_overrides": {"rog": ["tinygrad==0.11.0"]}},
            ["profiles.llama-0015.exo.node_overrides", "as `overrides` into", "nodes.NODE", "for rog"],
        ),
        ({"decision/confidence": 1.5}, ["decision.confidence"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    """An unknown key, a wrong type, a bad port or address, a duplicate, a missing id: the message says where."""
    hosts = written(tmp_path, change)
    with pytest.raises(InventoryError) as caught:
        load_inventory(hosts)
    for word in [str(hosts), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("host", ["fd7a:115c:a1e0::1", "fe80::1%eth0", "ndnlinuxsrv2.", "my_host", "10.1.2.3"])
def test_what_ssh_takes_is_a_host(tmp_path: Path, host: str) -> None:
    """IPv6 addresses, with a scope too, and a name with a trailing dot are taken as they are."""
    assert load_inventory(written(tmp_path, {"nodes/srv2/host": host})).nodes["srv2"].host == host


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_and_line_ends_of_editors_are_taken(tmp_path: Path, encoding: str) -> None:
    """A byte order mark, UTF-16 and CRLF change nothing."""
    hosts = tmp_path / "hosts.yaml"
    hosts.write_bytes(SHIPPED.read_text(encoding="utf-8").replace("\n", "\r\n").encode(encoding))
    assert load_inventory(hosts) == load_inventory(SHIPPED)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    host: ndnlinuxsrv2 ", "\thost: ndnlinuxsrv2 ", "line {}: found character '\\t'"),
        ("    host: ndnlinuxsrv2 ", "    host: sr\udcfc2 ", "line {}: not UTF-8"),
        ("    host: ndnlinuxsrv2 ", "    host: -x ", "line {}: nodes.srv2.host: '-x' is not a host name"),
        ("    port: 2222", "    port: 99999", "line {}: nodes.rog.port: Expected `int` <= 65535"),
        ("    port: 2222", "    port: 0022", "line {}: 0022 is the number 18 in YAML; write it in plain digits"),
        ("    port: 2222", "    port: 22:22", "line {}: 22:22 is the number 1342 in YAML"),
        (
            "    host: ndnlinuxsrv2 ",
            "    host: no ",
            "line {}: nodes.srv2.host: Expected `str`, got `bool`; put it in quotes",
        ),
        (
            "    host: ndnlinuxsrv2 ",
            "    host: {{ host }} ",
            "line {}: a value that begins with {{ or [ goes in quotes",
        ),
        ("    host: ndnlinuxsrv2 ", "    host: \0x ", "line {}: character 0x0 cannot stand there"),
        ("    port: 2222", "   \xa0port: 2222", "; a no-break space stands there, or on the line before"),
    ],
)
def test_the_line_of_a_mistake_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    """Whatever is wrong, a byte, a tab or a value, the message has the number of its line."""
    text = SHIPPED.read_text(encoding="utf-8")
    line = text[: text.index(old)].count("\n") + 1
    hosts = tmp_path / "hosts.yaml"
    hosts.write_bytes(text.replace(old, new).encode("utf-8", "surrogateescape"))
    with pytest.raises(InventoryError) as caught:
        load_inventory(hosts)
    assert words.format(line) in str(caught.value)


def test_what_several_nodes_share_may_be_written_once(tmp_path: Path) -> None:
    """An anchor and a merge key: a node's own words win, and a mistake in what is shared is found."""
    text = SHIPPED.read_text(encoding="utf-8")
    text = text.replace("  srv1:\n", "  srv1: &all\n    user: me\n    port: 23\n", 1)
    text = text.replace("  rog:\n", "  rog:\n    <<: *all\n    local: false\n", 1)
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text(text, encoding="utf-8")
    rog = load_inventory(hosts).nodes["rog"]
    assert (rog.host, rog.user, rog.port) == ("rog-flow-z13", "me", 2222)
    hosts.write_text(text.replace("user: me", "usr: me"), encoding="utf-8")
    with pytest.raises(InventoryError, match=r"nodes\.srv1\.usr: .* did you mean user"):
        load_inventory(hosts)


def test_all_contradictions_come_at_once(tmp_path: Path) -> None:
    """Two unrelated mistakes are both in the one message."""
    hosts = written(tmp_path, {"profile": "nope", "bench/node": "srv9"})
    with pytest.raises(InventoryError, match=r"profile: 'nope'.*bench\.node: 'srv9'"):
        load_inventory(hosts)


def test_key_given_twice(tmp_path: Path) -> None:
    """A duplicate key is an error; plain YAML would silently take the last one."""
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text("profile: a\nprofile: b\n", encoding="utf-8")
    with pytest.raises(InventoryError, match="line 2: the key 'profile' is given twice"):
        load_inventory(hosts)


def test_profile_switch(tmp_path: Path) -> None:
    """The profile given for one call wins over the file's, and an unknown one is refused."""
    assert active(load_inventory(SHIPPED, "qwen-1x")).exo.release == "1.0.71"
    with pytest.raises(InventoryError, match="'other' is not one of profiles"):
        load_inventory(SHIPPED, "other")


def test_campaign_identity(tmp_path: Path) -> None:
    """What bears on a measurement changes the campaign; a comment or the other profile's title does not."""
    same = campaign_id(load_inventory(SHIPPED))
    assert campaign_id(load_inventory(written(tmp_path, {"profiles/qwen-1x/title": "x"}))) == same
    assert campaign_id(load_inventory(written(tmp_path, {"bench/max_tokens": 64}))) != same


@settings(max_examples=150)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_an_inventory_error(data: bytes) -> None:
    """No file content at all makes the reader raise anything but InventoryError."""
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        with pytest.raises(InventoryError):
            load_inventory(Path(file.name))


def test_missing_file(tmp_path: Path) -> None:
    """A hosts file that is not there is named."""
    with pytest.raises(InventoryError, match="there is no such file"):
        load_inventory(tmp_path / "none.yaml")


def test_structs_are_frozen() -> None:
    """Nothing can change the inventory while steps run."""
    with pytest.raises(AttributeError):
        load_inventory(SHIPPED).profile = "x"  # type: ignore[misc]
    assert msgspec.structs.replace(load_inventory(SHIPPED), profile="qwen-1x").profile == "qwen-1x"
