"""What may happen to a machine's cable: pulled, everything dropped in silence, delayed and lossy.

Cables end in the hub's bridge (tests/support/lab.py). A pulled one is noticed: there is no route. One that ends beside
the bridge is a black hole. Where the kernel has no netem, a slow and lossy cable is this program:
`python -m tests.faults.network NAME NAME DELAY_S LOSS` stands between two TAP devices, which have no offloading.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

from tests import PROJECT
from tests.support.lab import HUB, Lab, Machine

_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x1002
DELAY_S = 0.1
"""Each way: an answer takes 200 ms longer."""
LOSS = 0.05


def pull(lab: Lab, machine: Machine) -> None:
    """Pull a machine's cable."""
    ip(lab, HUB, f"link set {machine.port} down")


def mend(lab: Lab, machine: Machine) -> None:
    """Put it back."""
    ip(lab, HUB, f"link set {machine.port} up")


def swallow(lab: Lab, machine: Machine) -> None:
    """Drop every packet from and to a machine, whose neighbours' addresses stay known: nobody is told anything."""
    _keep_neighbours(lab, machine, "permanent")
    ip(lab, HUB, f"link set {machine.port} nomaster")


def forward(lab: Lab, machine: Machine) -> None:
    """Let packets pass again."""
    ip(lab, HUB, f"link set {machine.port} master br0")
    _keep_neighbours(lab, machine, "stale")


def _keep_neighbours(lab: Lab, machine: Machine, state: str) -> None:
    for other in lab.machines:
        if other is not machine:
            for here, there in ((machine, other), (other, machine)):
                ip(lab, here, f"neigh replace {there.address} lladdr {there.card} dev eth0 nud {state}")


def slow_down(lab: Lab, machine: Machine) -> None:
    """Replace a machine's cable by one that delays and loses packets; connections that stand go on over it."""
    ip(lab, HUB, f"link del {machine.port}")
    far, near = f"f{machine.key}", machine.port
    argv = [sys.executable, "-m", __spec__.name if __spec__ else __name__, far, near, str(DELAY_S), str(LOSS)]
    lab.start(HUB, argv, "wire.log", PYTHONPATH=str(PROJECT), PYTHONDONTWRITEBYTECODE="1")
    deadline = time.monotonic() + 20
    while f"{far}:" not in lab.shell(HUB, "ip -o link") and time.monotonic() < deadline:
        time.sleep(0.05)
    ip(lab, HUB, f"link set {near} master br0 up", f"link set {far} netns {lab.first(machine)} name eth0")
    ip(lab, machine, *machine.setting_up)


def speed_up(lab: Lab, machine: Machine) -> None:
    """Put an ordinary cable in its place again: the TAP devices end with the program between them."""
    lab.run(HUB, ["pkill", "-KILL", "-f", f" f{machine.key} {machine.port} "], cwd=Path("/"), timeout_s=20)
    deadline = time.monotonic() + 20
    ends = {HUB: f"{machine.port}:", machine: "eth0:"}  # the kernel takes its time with either
    while any(name in lab.shell(at, "ip -o link") for at, name in ends.items()) and time.monotonic() < deadline:
        time.sleep(0.05)
    lab.plug(machine)


def ip(lab: Lab, machine: Machine, *commands: str) -> None:
    """Run commands of `ip` in the network of a machine."""
    for command in commands:
        subprocess.run(["nsenter", "-t", str(lab.first(machine)), "-n", "ip", *command.split()], check=True)


def relay(names: list[str], delay_s: float, loss: float) -> None:
    """Pass packets from each device to the other, late, and some not at all, for ever."""
    ends = [_tap(name) for name in names]
    dice, count = random.Random(0), 0
    waiting: list[tuple[float, int, int, bytes]] = []
    while True:
        left_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for end in select.select(ends, [], [], left_s)[0]:
            packet = os.read(end, 65536)
            if dice.random() >= loss:
                count += 1
                heapq.heappush(waiting, (time.monotonic() + delay_s, count, sum(ends) - end, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(to, packet)
            except OSError:
                continue  # a device that is down takes none


def _tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return descriptor


if __name__ == "__main__":
    relay(sys.argv[1:3], float(sys.argv[3]), float(sys.argv[4]))
