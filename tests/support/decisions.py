"""Every decision point of the step layer once, as JSON: run plainly and reworded (see reworded.py), it prints the same.

    python -m tests.support.decisions FOLDER [reworded]

FOLDER gets the records; the JSON is written to FOLDER/decisions.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from records.campaign import load_campaign
from records.facts import NodePython
from records.record import read_record
from records.settings import NodeSpec
from reports.verdict.decision import decide
from tests.support import reworded
from tests.support.recorded import recorded


def main(folder: Path, other_words: bool) -> None:
    """Write the decisions and the number of reworded sentences."""
    if other_words:
        reworded.install()
    decisions = {
        "endings of a step": endings_of_a_step(folder / "steps"),
        "ways": ways(),
        "feasibility": feasibility(),
        "stops": stops(folder / "run"),
        "replies": replies(),
        "logs": logs(),
    }
    whole = {"decisions": decisions, "reworded": reworded.count}
    (folder / "decisions.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")


def endings_of_a_step(folder: Path) -> dict[str, Any]:
    """Return, for each way a step can end: its record's status, the exit code, whose problems, and the verdict."""
    from invoke.exceptions import Exit

    from records.facts import Skipped
    from tasks.command_line import EXIT_USAGE, explaining
    from tasks.errors import StepError, UnreachableError, one_each
    from tasks.inventory import load_inventory
    from tasks.machines.lab import Lab
    from tasks.steps import Step, StepNotes
    from tests import PROJECT

    def interrupted() -> None:
        raise KeyboardInterrupt

    def failed() -> None:
        raise StepError("this was found", "that was needed", "do something else")

    def several_failed() -> None:
        raise one_each({"srv1": "is out of order", "rog": "is out of order"}, "two good nodes", "mend both nodes")

    def unreachable() -> None:
        raise UnreachableError("nobody is there", "an open door", "knock at the door", who="srv2")

    def stopped() -> None:
        raise Exit("this ends here", code=1)

    def mistyped() -> None:
        raise Exit("no such number", code=EXIT_USAGE)

    def broken() -> None:
        raise RuntimeError("nobody foresaw this")

    seen: dict[str, Any] = {}
    for end in (interrupted, failed, several_failed, unreachable, stopped, mistyped, broken, None):
        name = end.__name__ if end else "skipped"

        def verify_python(lab: Lab, notes: StepNotes, end: Callable[[], None] | None = end) -> msgspec.Struct:
            notes.deviation("as planned by hand", "as done by us", "for a good reason")
            notes.warn("take care of it")
            if end is not None:
                end()
            return Skipped("there was nothing to do")

        lab = Lab(load_inventory(PROJECT / "hosts.yaml"), folder / name / "hosts.yaml")
        code: object = 0
        try:
            with explaining():
                Step(verify_python)(lab)
        except Exit as error:
            code = error.code
        except RuntimeError:
            code = "traceback"
        path = lab.logs / "01-verify-python.json"
        record = read_record(path) if path.is_file() else None
        seen[name] = {
            "exit": code,
            "status": record and record.status,
            "who": record and [p.what for p in record.errors if p.what in (*lab.nodes, record.name)],
            "verdict": decide(load_campaign(lab.logs)).verdict if record else None,
        }
    return seen


def ways() -> dict[str, Any]:
    """Return the kind of every way that a recorded Tailscale tells, and how many warnings they make."""
    from tasks.feasibility.assess import Assessment
    from tasks.feasibility.show import warnings_of
    from tasks.machines import network

    peers = {f"n{i}": f"100.64.0.{i}" for i in (2, 9, 10, 11, 99)} | {
        "own": "100.77.248.9",
        "rog": "100.93.122.109",
        "lan": "192.168.1.12",
    }
    status = recorded("network", "status.json")
    seen = {}
    for name, text in {"status": status, "none": "", "not read": "failed to connect", "off": "{}"}.items():
        probe = f"@@way@@ rog time=41.2 ms\n@@exo-phase1@@ own\n100.77.248.9\n@@exo-phase1@@ status\n{text}"
        found = network.read_probe(probe, peers, "own").ways
        seen[name] = {
            "kinds": {key: way.kind for key, way in found.items()},
            "warnings": len(warnings_of(Assessment([], "", []), "", found)),
        }
    return seen


def feasibility() -> dict[str, Any]:
    """Return what is decided about each pair on three nodes, as shipped, without AMD=1, and with local overrides."""
    from tasks.errors import StepError
    from tasks.feasibility.assess import assess
    from tasks.feasibility.show import refuse_infeasible
    from tasks.inventory import load_inventory
    from tasks.machines.network import Way
    from tests import PROJECT

    shipped = load_inventory(PROJECT / "hosts.yaml")
    addresses = {"srv1": "100.77.248.9", "srv2": "100.64.0.2", "rog": "100.93.122.109"}
    nodes = {k: NodePython(k, k, k, "", "", "", 8, 64 * 10**9, 10**12, "/usr/bin/python3", "3.12.3") for k in addresses}
    seen = {}
    variations: dict[str, dict[str, Any]] = {
        "as shipped": {},
        "on the CPU": {"nodes": {}},
        "overrides": {"overrides": ["~/wheels/tinygrad-0.11.0-py3-none-any.whl"]},
    }
    for name, changes in variations.items():
        profile = shipped.profiles[shipped.profile]
        profile = msgspec.structs.replace(profile, exo=msgspec.structs.replace(profile.exo, **changes))
        inventory = msgspec.structs.replace(shipped, profiles=shipped.profiles | {shipped.profile: profile})
        relayed = {"rog": Way("rog", addresses["rog"], 0.04, "relayed", "the far side of the world")}
        found = assess(inventory, nodes, addresses, relayed)
        try:
            refuse_infeasible(found, inventory.profile)
            refused = False
        except StepError:
            refused = True
        seen[name] = {
            "rows": [
                (row.profile, row.pair, row.can_run, row.cpu_only, row.equal_precision, len(row.reasons))
                for row in found.feasible
            ],
            "refused": refused,
            "GO out of reach": bool(found.go_unreachable_because),
            "alternatives": len(found.alternatives),
        }
    return seen


def stops(folder: Path) -> list[Any]:
    """Return how a real process ends that is told to, and how nothing does."""
    from tasks.machines import daemon
    from tasks.machines.local import LocalNode

    node = LocalNode("srv1", NodeSpec(host="localhost", local=True))
    code = "import time; time.sleep(60)"
    daemon.start(node, str(folder), daemon.Launch([sys.executable, "-c", code], {}, {}, ()))
    endings = [daemon.stop(node, str(folder)), daemon.stop(node, str(folder))]
    return [(ending.how, ending.was_running) for ending in endings]


def replies() -> dict[str, Any]:
    """Return which recorded chats of EXO count as answers, and what Ollama's state says of a silent server."""
    from tasks.errors import StepError
    from tasks.exo import gen0, gen1
    from tasks.machines.wire import Reply
    from tasks.ollama import api

    def answered(parse: Callable[[Reply, str], Any], status: int, text: str, model: str) -> bool:
        try:
            parse(Reply(status, text), model)
        except StepError:
            return False
        return True

    names = ("chat_llama", "chat_other_model_answered", "chat_peer_dead", "chat_unsupported_tinygrad")
    silent = Reply(0, "nobody is there")
    states = [api.parse_state("a", "http://a:1", silent, silent, silent) for _ in range(2)]
    return {
        "0.0.x": {
            (name): [
                answered(gen0.parse_chat, s, recorded("exo-0.0.x", f"{name}.json"), "llama-3.2-1b") for s in (200, 500)
            ]
            for name in names
        },
        "1.x": answered(gen1.parse_chat, 404, recorded("exo-1.x", "chat_no_instance.json"), "llama-3.2-1b"),
        "ollama": [bool(states[0].error), len(api.changes(*states))],
    }


def logs() -> dict[str, Any]:
    """Return how many problems each recorded log of a start has, and whether its hub is out of reach."""
    from tasks.exo import gen0

    names = ("amd_without_pyrsmi", "healthy", "hub_unreachable", "one_shot_run", "peer_lost", "second_start")
    texts = {name: recorded("exo-0.0.x", f"log_{name}.txt") for name in names}
    return {name: (len(gen0.log_problems(text)), bool(gen0.hub_problem(text))) for name, text in texts.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), "reworded" in sys.argv)
