"""The fifteen steps of the plan, in order, once.

Everything that needs a step's number, its title or its group asks here: the Fabric task list, the names of the
records in `logs/`, the report's table of steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec


class PlanStep(msgspec.Struct, frozen=True):
    """One numbered step of the plan: `name` is the task people type, `title` is the plan's own heading."""

    number: int
    name: str
    group: str
    title: str
    node: str = ""
    """The node of hosts.yaml that the step is about; empty where it is about all of them."""

    @property
    def record_name(self) -> str:
        """Return the file name of this step's record, `03-install-srv2.json`."""
        return f"{self.number:02d}-{self.name}.json"

    @property
    def samples_name(self) -> str:
        """Return the file name of this step's raw samples, `12-bench-comparison.samples.jsonl`."""
        return f"{self.number:02d}-{self.name}.samples.jsonl"

    @property
    def conditions_name(self) -> str:
        """Return the file name of what was noted between this step's runs."""
        return f"{self.number:02d}-{self.name}.conditions.jsonl"


STEPS: tuple[PlanStep, ...] = (
    PlanStep(1, "verify-python", "preflight", "Verify Python Version on All Nodes"),
    PlanStep(2, "install-srv1", "install", "Install EXO on ndnlinuxsrv1", "srv1"),
    PlanStep(3, "install-srv2", "install", "Install EXO on ndnlinuxsrv2", "srv2"),
    PlanStep(4, "install-rog", "install", "Install EXO on rog-flow-z13 (with AMD GPU support)", "rog"),
    PlanStep(5, "start-srv1", "start", "Start EXO Cluster - Node 1 (ndnlinuxsrv1)", "srv1"),
    PlanStep(6, "start-srv2", "start", "Start EXO Cluster - Node 2 (ndnlinuxsrv2)", "srv2"),
    PlanStep(7, "start-rog", "start", "Start EXO Cluster - Node 3 (rog-flow-z13)", "rog"),
    PlanStep(8, "verify-cluster", "start", "Verify Cluster Formation"),
    PlanStep(9, "download-model", "bench", "Download Model Through EXO"),
    PlanStep(10, "create-benchmark", "bench", "Create Benchmark Script"),
    PlanStep(11, "bench-baseline", "bench", "Run Baseline Ollama Benchmarks"),
    PlanStep(12, "bench-comparison", "bench", "Run Full Benchmark Comparison"),
    PlanStep(13, "bench-scale-up", "bench", "Scale Up to 32B Model (if Step 12 passes)"),
    PlanStep(14, "document-results", "report", "Document Results and Recommendation"),
    PlanStep(15, "stop-cluster", "cleanup", "Cleanup (Optional)"),
)


def steps_by_node(group: str) -> dict[str, PlanStep]:
    """Return the steps of a group that are about one node each, by that node."""
    return {step.node: step for step in STEPS if step.group == group and step.node}


def node_step(group: str, node: str) -> PlanStep:
    """Return the step of a group on one node: the plan's own, else one beside its last, under that one's number."""
    own = steps_by_node(group)
    if node in own:
        return own[node]
    last = list(own.values())[-1]
    return PlanStep(last.number, f"{group}-{node}", group, f"{group.capitalize()} EXO on {node}", node)


def node_steps_in(files: Iterable[str]) -> list[PlanStep]:
    """Return the steps on nodes that the plan does not know, by the files that hold their records."""
    planned = {step.record_name for step in STEPS}
    named = set(files)
    read = (re.fullmatch(r"\d\d-(install|start)-([a-z][a-z0-9-]*)\.json", name) for name in sorted(named - planned))
    steps = [node_step(found[1], found[2]) for found in read if found]
    return [step for step in steps if step.record_name in named]


def command_of(step: PlanStep) -> str:
    """Return what is typed for one step; a node that the plan does not know has its group's option."""
    return f"fab {step.name}" if step in STEPS else f"fab {step.group} --nodes {step.node}"


def command_for(group: str, node: str) -> str:
    """Return what is typed to install or start EXO on one node."""
    return command_of(node_step(group, node))


def step_named(name: str) -> PlanStep:
    """Return the step whose task is `name`; KeyError where the plan has none of that name."""
    for step in STEPS:
        if step.name == name:
            return step
    raise KeyError(name)


def step_numbered(number: int) -> PlanStep:
    """Return step `number` (1 to 15); IndexError outside that range."""
    if not 1 <= number <= len(STEPS):
        raise IndexError(number)
    return STEPS[number - 1]
