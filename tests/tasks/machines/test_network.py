"""The way between nodes: what Tailscale says, and how long a round trip takes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.init import tailscale_addresses
from tasks.machines import network
from tests.support.recorded import recorded

PEERS = {"srv1": "100.77.248.9", "srv2": "100.64.0.2", "rog": "100.93.122.109"}


def said(status: str, *ways: str, own: str = "100.77.248.9") -> str:
    """Return what the probe prints: lines of the ways, the own address, Tailscale's status."""
    lines = "".join(f"@@way@@ {way}\n" for way in ways)
    return f"{lines}@@exo-phase1@@ own\n{own}\n@@exo-phase1@@ status\n{status}"


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("100.64.0.0", True),
        ("100.127.255.255", True),
        ("100.93.122.109", True),
        ("100.128.0.1", False),
        ("100.63.255.255", False),
        ("192.168.1.2", False),
        ("fd7a:115c:a1e0::1", False),
        ("srv1", False),
        ("", False),
    ],
)
def test_tailscales_range(address: str, inside: bool) -> None:
    """Exactly 100.64.0.0/10 is Tailscale's."""
    assert network.in_tailscale_range(address) is inside


def test_direct_and_relayed_ways() -> None:
    """A current address is a direct way; an active peer without one goes through the relay's city."""
    found = network.read_probe(said(recorded("network", "status.json")), PEERS, "srv1")
    assert {key: way.phrase for key, way in found.ways.items()} == {
        "srv1": "own node",
        "srv2": "direct",
        "rog": "relayed (fra)",
    }
    assert {key: way.kind for key, way in found.ways.items()} == {"srv1": "own", "srv2": "direct", "rog": "relayed"}
    assert found.own_address == "100.77.248.9"


def test_a_genuine_status() -> None:
    """As Tailscale 1.100.0 prints it on a node whose link to another was just used."""
    printed = recorded("network", "status-1.100.0.json")
    ways = network.read_probe(said(printed), {"here": "100.64.0.2", "there": "100.64.0.1"}, "laptop").ways
    assert {key: way.phrase for key, way in ways.items()} == {"here": "own node", "there": "direct"}
    assert tailscale_addresses(printed) == {"node-b": "100.64.0.2", "node-a": "100.64.0.1"}


@pytest.mark.parametrize(
    ("address", "how"),
    [
        ("100.64.0.9", "offline"),
        ("100.64.0.10", "not known (idle)"),
        ("100.64.0.11", "relayed (peer 100.64.0.2:40000:vni:1)"),
        ("100.64.0.99", "not known (Tailscale has no such peer)"),
        ("100.77.248.9", "own node"),
        ("192.168.1.12", "no Tailscale address"),
    ],
)
def test_other_ways(address: str, how: str) -> None:
    """Offline, idle, relayed by a peer, unknown and not Tailscale's are told apart."""
    found = network.read_probe(said(recorded("network", "status.json")), {"x": address}, "srv1")
    assert found.ways["x"].phrase == how


@pytest.mark.parametrize(
    ("status", "how"),
    [
        ("", "not known (no tailscale program)"),
        ("failed to connect to local tailscaled", "not known (Tailscale does not tell)"),
        ('{"BackendState": "NeedsLogin", "Peer": null}', "not known (Tailscale is NeedsLogin)"),
        ('{"BackendState": "Running", "Peer": null}', "not known (Tailscale has no such peer)"),
    ],
)
def test_tailscale_that_does_not_tell(status: str, how: str) -> None:
    """A missing, stopped or logged-out Tailscale is said so, and nothing is raised."""
    assert network.read_probe(said(status), PEERS, "srv1").ways["rog"].phrase == how


def test_round_trips_are_medians_in_seconds() -> None:
    """Ping's milliseconds and a connection's microseconds are both read; one slow packet does not count."""
    text = said(
        "", *(f"srv2 time={t} ms" for t in (1.2, 0.9, 250, 1.1, 1.0)), *(f"rog time={t} us" for t in (400, 500))
    )
    ways = network.read_probe(text, PEERS, "srv1").ways
    assert ways["srv2"].round_trip_s == pytest.approx(0.0011)
    assert ways["rog"].round_trip_s == pytest.approx(0.00045)
    assert ways["srv1"].round_trip_s is None


def test_a_connection_that_fails_at_once_is_no_round_trip() -> None:
    """A refusal came from the other side; "unreachable" came from this one and measures nothing."""
    refused = "srv2 bash: line 1: /dev/tcp/100.64.0.2/22: Connection refused"
    nowhere = "rog bash: line 1: /dev/tcp/100.93.122.109/22: Network is unreachable"
    ways = network.read_probe(said("", refused, "srv2 time=80 us", nowhere, "rog time=9 us"), PEERS, "srv1").ways
    assert ways["srv2"].round_trip_s == pytest.approx(8e-5)
    assert ways["rog"].round_trip_s is None


def test_words() -> None:
    """People read how and how long."""
    found = network.read_probe(said(recorded("network", "status.json"), "rog time=41.2 ms"), PEERS, "srv1")
    assert found.ways["rog"].words == "relayed (fra), 41.2 ms"
    assert found.ways["srv2"].words == "direct, no answer"


def test_the_probe_measures_loopback_and_quotes_its_names() -> None:
    """Run for real: both loopback nodes answer within a second each, and a name is never a command."""
    peers = {"srv1": "127.0.0.1", "srv2": "127.0.0.2", "$(touch pwned)": "127.0.0.3;touch pwned"}
    ran = subprocess.run(
        ["/bin/bash", "-c", network.probe_command(peers, 9)], capture_output=True, text=True, check=False, timeout=60
    )
    found = network.read_probe(ran.stdout, peers, "srv1")
    for key in ("srv1", "srv2"):
        took = found.ways[key].round_trip_s
        assert took is not None
        assert 0 < took < 1
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("100.77.248.9\n", "100.77.248.9"),
        ("10.0.0.1\n100.64.0.3\n", "100.64.0.3"),
        ("bash: tailscale: command not found", None),
        ("", None),
    ],
)
def test_own_address(text: str, address: str | None) -> None:
    """The first address of Tailscale's range, or none."""
    assert network.parse_address(text) == address


@settings(max_examples=150)
@given(st.text() | st.builds(said, st.text(), st.text()))
def test_reading_never_fails(text: str) -> None:
    """No output makes the reader raise."""
    assert set(network.read_probe(text, PEERS, "srv1").ways) == set(PEERS)
