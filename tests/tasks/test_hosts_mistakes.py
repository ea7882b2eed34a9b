"""A mistake in hosts.yaml is named with its line and with what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.inventory import InventoryError, hosts_schema, load_inventory
from tests import PROJECT

SHIPPED = (PROJECT / "hosts.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("    port: 2222", "    prot: 2222", "nodes.rog.prot: there is no such key; did you mean port?"),
        ("host: rog-flow-z13", "host: me@rog-flow-z13", "nodes.rog.host: rog-flow-z13, nodes.rog.user: me"),
        ("host: ndnlinuxsrv2", "host: ndnlinuxsrv2:22", "nodes.srv2.host: ndnlinuxsrv2, nodes.srv2.port: 22"),
        (
            "host: ndnlinuxsrv2",
            "host: me@ndnlinuxsrv2:22",
            "nodes.srv2.host: ndnlinuxsrv2, nodes.srv2.user: me, nodes.srv2.port: 22",
        ),
        ("target_ratio: 1.30", "target_ratio: 30%", "decision.target_ratio: .* a ratio: 1.30 means 30 % faster"),
        ("target_ratio: 1.30", "target_ratio: 30", "30 times as fast; a ratio: 1.30 means 30 % faster"),
        ("confidence: 0.95", "confidence: 95", "a fraction: 0.95"),
        ("port: 2222", 'port: "2222"', "a number, without quotes: 2222"),
        ("download_bytes: 6430000000", "download_bytes: 6.43 GB", "a number of bytes: 6430000000"),
        ("request_timeout_s: 900", "request_timeout_s: 15m", "a number of seconds: 900"),
        ("url: http://localhost:11434", "url: localhost", "http://localhost:11434"),
        ("\nbench:", "\nbenhc:", "benhc: there is no such key; did you mean bench?"),
        ("  srv2:\n    host", "  Srv2:\n    host", "nodes.Srv2: a name has small letters, digits and -"),
        ("extras: [amd-gpu]", "extras: amd-gpu", r"profiles\.llama-0015\.exo\.nodes\.rog\.extras: "),
        ("  node: srv1\n  runs", "  node: srv9\n  runs", r"bench\.node: 'srv9' is not one of nodes"),
        ("  srv2:\n    host", "  srv2:\n\thost", "indent with spaces, not with tabs"),
    ],
)
def test_a_mistake_says_its_line_and_what_was_meant(tmp_path: Path, written: str, instead: str, said: str) -> None:
    """One message: the line of the key in this very file, the key path, what is wrong and how to write it."""
    assert written in SHIPPED
    hosts = tmp_path / "hosts.yaml"
    hosts.write_text(SHIPPED.replace(written, instead, 1), encoding="utf-8")
    changed = SHIPPED[: SHIPPED.index(written)].count("\n") + (instead + "\n").count("\n")
    with pytest.raises(InventoryError, match=said) as caught:
        load_inventory(hosts)
    line = int(str(caught.value).partition("line ")[2].partition(":")[0])
    assert abs(line - changed) <= 2, caught.value


def test_every_key_of_the_hosts_file_is_explained_to_an_editor() -> None:
    """The JSON Schema has a description for each key, so that an editor shows what it is for."""
    kinds = hosts_schema()["$defs"]
    silent = [
        f"{name}.{key}"
        for name, kind in kinds.items()
        for key, of in kind["properties"].items()
        if not of.get("description")
    ]
    assert silent == []
