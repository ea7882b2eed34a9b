"""The line that lets only the cluster in, typed on a machine of a lab and asked from others: genuine nft and ufw."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest

from tasks.machines import firewall
from tests.support import lab
from tests.support.lab import ROG, SRV1, SRV2, SYSTEM_PATH, Lab, Machine

STRANGER = Machine("stranger", "stranger", "100.65.1.1", 0)
EXO_PORTS, OTHER = (52416, 50051), 8080
CLUSTER = [SRV1.address, SRV2.address, ROG.address]
UFW_ON = (
    "cp -a /etc/ufw /run/ufw && mount --bind /run/ufw /etc/ufw && ufw allow in on eth0 >/dev/null && ufw --force enable"
)
"""On a machine of its own, as people have it who trust a whole network."""


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Bring three machines and a stranger up; on one something listens on EXO's ports, and on one more."""
    with Lab(tmp_path_factory.mktemp("lab"), (SRV1, SRV2, ROG, STRANGER)) as up:
        for port in (*EXO_PORTS, OTHER):
            up.start(SRV2, [sys.executable, "-m", "http.server", str(port)], "listens.log")
        for port in (*EXO_PORTS, OTHER):
            up.shell(SRV2, f"until exec 3<>/dev/tcp/{SRV2.address}/{port}; do sleep 0.1; done 2>/dev/null")
        yield up


def reached(up: Lab, asking: Machine) -> set[int]:
    """Return which of the ports a machine reaches."""
    ports = " ".join(map(str, (*EXO_PORTS, OTHER)))
    ask = f"timeout 1 bash -c 'exec 3<>/dev/tcp/{SRV2.address}/'$p 2>/dev/null && echo $p"
    return set(map(int, up.shell(asking, f"for p in {ports}; do {ask}; done; true").split()))


@pytest.mark.skipif(bool(lab.missing()), reason=f"the lab needs {lab.missing()}")
@pytest.mark.parametrize("tool", ["nft", "ufw"])
def test_only_the_cluster_gets_in(machines: Lab, tool: str) -> None:
    """Before, a stranger reaches EXO's ports; after, the nodes do and it does not; other ports stay as they were."""
    if not shutil.which(tool, path=SYSTEM_PATH):
        pytest.skip(f"no {tool} here")
    machines.shell(SRV2, UFW_ON if tool == "ufw" else "true")
    every = {*EXO_PORTS, OTHER}
    assert reached(machines, STRANGER) == every
    typed = firewall.line(machines.shell(SRV2, f"{firewall.QUESTION}; true"), EXO_PORTS, CLUSTER)
    assert f"sudo {tool}" in typed
    command, _, undo = typed.replace("sudo ", "").partition(" (taken away again by: ")
    machines.shell(SRV2, command)
    assert [reached(machines, asking) for asking in (SRV1, ROG, SRV2)] == [every] * 3
    assert reached(machines, STRANGER) == {OTHER}
    machines.shell(SRV2, undo.rstrip(")") or "ufw disable")
    assert reached(machines, STRANGER) == every


def test_without_a_firewall_it_is_tailscales() -> None:
    """A node that has neither is told what the policy of its tailnet is to let in."""
    said = firewall.line("", EXO_PORTS, CLUSTER)
    assert said == f"in Tailscale's policy, let only {', '.join(CLUSTER)} reach tcp:52416,50051 of one another"


def test_addresses_of_both_kinds() -> None:
    """IPv6 has a word of its own in nft."""
    said = firewall.line("/usr/sbin/nft", EXO_PORTS, ["fd7a::1", "fd7a::2", "100.64.0.2"])
    assert "ip saddr { 100.64.0.2 } accept; ip6 saddr { fd7a::1, fd7a::2 } accept; tcp dport" in said
