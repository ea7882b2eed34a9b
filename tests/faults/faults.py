"""The faults: how each begins and ends, when, and at which steps it means anything."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import network
from tests.faults.control import DESK, Bed
from tests.faults.steps import AS_ANOTHER, StepCase
from tests.support.lab import Machine

AWAY_S = 180
"""As a laptop that sleeps, or changes its network."""
Act = Callable[[Bed, Machine], None]
ON_DESK = ("this step", "this machine", "record cannot be written", "desk")
"""How what happens at the desk is named."""


@dataclass(frozen=True)
class Fault:
    """One fault. It begins before the step or in its middle, lasts until the step has ended, and then ends.

    In a measurement whatever can begins in its middle: how one begins is tried by the steps before it.
    """

    name: str
    begin: Act
    end: Act
    middle: bool = True
    only_before: bool = False
    """Even in a measurement: what it is lies in the beginning."""
    at_desk: bool = False
    """It falls on the desk and not on the step's own machine."""
    signal: signal.Signals | None = None
    """What `fab` itself is sent."""
    asked: str = ""
    """The server whose answers it spoils: without a meaning where the step asks it nothing."""
    measuring: bool = False
    """Of interest only while something is measured."""
    cuts_off: bool = False
    """It takes all nodes out of the desk's sight."""
    disturbs_exo: bool = False
    """EXO is to be started again afterwards."""
    ahead_s: int = 0
    """How far it sets a clock ahead; where that is not 0 it needs a bed with clocks."""

    def applies(self, step: StepCase) -> bool:
        """Tell whether the pair has a meaning."""
        if step.plan.group == "report":
            return self.signal is not None or self.name == "disk full at the desk"
        if self.measuring and not step.samples:
            return False
        return not self.asked or self.asked in step.asks

    def same(self, step: StepCase) -> int:
        """Return the number of the step that stands for this one, 0 where it stands for itself."""
        return 0 if self.name in FOR_EACH_NODE else AS_ANOTHER.get(step.plan.name, 0)

    def in_middle(self, step: StepCase) -> bool:
        """Tell whether it begins when the step runs."""
        return self.middle or (step.samples and not self.only_before)

    def machine(self, step: StepCase) -> Machine:
        """Return where it falls."""
        if self.at_desk:
            return DESK
        return step.ollama if self.asked == "ollama" else step.machine


def _nothing(bed: Bed, machine: Machine) -> None:
    pass


def _on(act: Callable[..., None]) -> Act:
    return lambda bed, machine: act(bed.lab, machine)


def _kill(pattern: str) -> Act:
    return lambda bed, machine: bed.kill(machine, pattern)


def _start_sshd(bed: Bed, machine: Machine) -> None:
    bed.lab.start_sshd(machine)
    bed.lab.wait_for_ssh(machine)


def _start_ollama(bed: Bed, machine: Machine) -> None:
    bed.start_ollama(machine)
    bed.wait_for_ollama(machine)


def _reboot(bed: Bed, machine: Machine) -> None:
    bed.lab.switch_off(machine)
    bed.lab.boot(machine)
    bed.start_ollama(machine)


def _rebooted(bed: Bed, machine: Machine) -> None:
    bed.lab.wait_for_ssh(machine)
    bed.wait_for_ollama(machine)


def _come_back(bed: Bed, machine: Machine) -> None:
    time.sleep(AWAY_S)
    network.forward(bed.lab, machine)


def _fill(bed: Bed, machine: Machine) -> None:
    where = bed.lab.folder(machine)
    bed.lab.shell(machine, f"cat /dev/zero >{where}/ballast 2>/dev/null || true")


def _empty(bed: Bed, machine: Machine) -> None:
    bed.lab.seen(bed.lab.folder(machine) / "ballast").unlink()


def _clock(ahead_s: int, *, at_desk: bool = False) -> Fault:
    return Fault(
        f"{'desk: ' if at_desk else ''}clock an hour {'on' if ahead_s > 0 else 'back'}",
        lambda bed, machine: bed.set_clock(machine, ahead_s),
        lambda bed, machine: bed.set_clock(machine, 0),
        at_desk=at_desk,
        ahead_s=ahead_s,
    )


def _answers(server: str, how: str) -> Fault:
    return Fault(
        f"{'EXO' if server == 'exo' else 'Ollama'}: {WAYS[how]}",
        lambda bed, machine: bed.settings(machine, server, misbehaves=how),
        lambda bed, machine: bed.settings(machine, server, misbehaves=None),
        middle=False,
        asked=server,
        disturbs_exo=server == "exo",
    )


WAYS = {
    "hangs": "API hangs",
    "500": "answers 500",
    "garbage": "answers garbage",
    "truncated": "answers half a JSON",
    "endless": "answers without an end",
    "gigabyte": "answers 1 GB",
}
FOR_EACH_NODE = ("unreachable", "link cut", "EXO killed", "SIGKILL", "node rebooted")
FAULTS = (
    Fault("unreachable", _on(network.pull), _on(network.mend), middle=False, only_before=True),
    Fault("link cut", _on(network.pull), _on(network.mend)),
    Fault("black hole", _on(network.swallow), _on(network.forward)),
    Fault("desk in a black hole", _on(network.swallow), _on(network.forward), at_desk=True, cuts_off=True),
    Fault("desk away for 3 minutes", _on(network.swallow), _come_back, at_desk=True, cuts_off=True, measuring=True),
    Fault("200 ms, 5 % lost", _on(network.slow_down), _on(network.speed_up), middle=False, only_before=True),
    Fault("sshd killed", _kill("^sshd"), _start_sshd),
    Fault("EXO killed", _kill("/venv/bin/exo"), _nothing, asked="exo", disturbs_exo=True),
    Fault("Ollama killed", _kill("rehearsal.ollama"), _start_ollama, asked="ollama"),
    *(_answers("exo", how) for how in WAYS),
    *(_answers("ollama", how) for how in WAYS),
    Fault("disk full", _fill, _empty, middle=False),
    Fault("disk full at the desk", _fill, _empty, middle=False, at_desk=True),
    *(
        Fault(number.name, _nothing, _nothing, at_desk=True, signal=number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
    ),
    *(_clock(ahead_s, at_desk=at_desk) for at_desk in (False, True) for ahead_s in (3600, -3600)),
    Fault("node rebooted", _reboot, _rebooted, disturbs_exo=True),
)
