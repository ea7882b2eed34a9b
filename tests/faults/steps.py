"""The fifteen steps as cases: what must be there before, what is typed, and on which machine a fault falls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from records import plan
from records.plan import PlanStep
from tests.faults.control import NODES, PROFILE, ROG, SRV1, SRV2, Bed
from tests.support.lab import Machine

EXO = f".exo-phase1/{PROFILE}/venv/bin/exo"
LINK_S = 75
"""What a link that is dead may cost on top: 10 s to connect, 20 s until it is given up, 40 s for a command on it."""
LIMIT_S = {
    "preflight": 60 + LINK_S,
    "install": 180 + 60 + LINK_S,
    "start": 20 + 15 + 40 + LINK_S,
    "bench": 120 + LINK_S,
    "report": 120,
    "cleanup": 60 + LINK_S,
}
"""Group -> seconds within which a step ends whatever happens: its time-outs in hosts.yaml, and the links'."""


NOT_TRIED = ("bench-scale-up",)
"""Step 12 with another model, and only after a GO."""


AS_ANOTHER = {"install-srv1": 3, "install-rog": 3, "start-srv1": 6, "start-rog": 6}
"""The same code on another node: what depends on the node is tried with both, the rest with one."""


@dataclass(frozen=True)
class StepCase:
    """One step: `again` is typed after the fault has gone; `asks` are the servers whose answers it needs."""

    plan: PlanStep
    machine: Machine
    again: tuple[str, ...]
    asks: tuple[str, ...]
    prepare: Callable[[Bed], None]

    ollama: Machine = ROG
    """The machine of the Ollama that it asks."""

    @property
    def limit_s(self) -> float:
        """Seconds within which it ends."""
        return LIMIT_S[self.plan.group]

    @property
    def samples(self) -> bool:
        """Whether it measures."""
        return self.plan.number in (11, 12, 13)


def _ready(bed: Bed, *words: str) -> None:
    done = bed.fab(*words)
    if done.code:
        raise RuntimeError(f"fab {' '.join(words)} ended with {done.code}: {done.stdout}{done.stderr}")


def _nothing(bed: Bed) -> None:
    pass


def _installed(bed: Bed) -> None:
    if not all((bed.lab.seen(bed.layout.node(m.key).home) / EXO).exists() for m in NODES):
        _ready(bed, "preflight", "install")


def _started(bed: Bed) -> None:
    _installed(bed)
    _ready(bed, "start")


def _uninstalled(machine: Machine) -> Callable[[Bed], None]:
    return lambda bed: bed.lay_venv_again(machine)


def _without_model(bed: Bed) -> None:
    _started(bed)
    for machine in NODES:
        bed.reset(machine, ".cache/exo")


def _without_script(bed: Bed) -> None:
    bed.reset(SRV1, ".exo-phase1/scripts")


def _unmeasured(number: int) -> Callable[[Bed], None]:
    def prepare(bed: Bed) -> None:
        _started(bed)
        for path in bed.lab.seen(bed.logs).glob("*"):
            if path.name[:2] in {str(later) for later in range(number, 14)}:
                path.unlink()

    return prepare


def _cases() -> dict[str, StepCase]:
    by_key = {machine.key: machine for machine in NODES}
    made = {}
    for step in (step for step in plan.STEPS if step.name not in NOT_TRIED):
        machine = by_key.get(step.node, SRV1 if step.number in (10, 11, 13, 14) else SRV2)
        again: tuple[str, ...] = (step.name,)
        asks: tuple[str, ...] = ()
        prepare: Callable[[Bed], None] = _nothing
        match step.group, step.number:
            case "preflight" | "cleanup", _:
                asks = ("ollama",)
                prepare = _started if step.group == "cleanup" else _nothing
            case "install", _:
                prepare = _uninstalled(machine)
            case "start", 8:
                asks, prepare, again = ("exo",), _started, ("start",)
            case "start", _:
                asks, prepare = ("exo",), _installed
            case "bench", 9:
                asks, prepare, again = ("exo",), _without_model, ("start", step.name)
            case "bench", 10:
                prepare = _without_script
            case "bench", number:
                asks = ("ollama",) if number == 11 else ("exo",)
                prepare, again = _unmeasured(number), ("start", step.name)
        made[step.name] = StepCase(step, machine, again, asks, prepare)
    return made


CASES = _cases()
