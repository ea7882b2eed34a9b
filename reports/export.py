"""The report for programs: docs/exo-phase1-results.json, its schema, and the exit codes of `fab report --gate`."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from records import facts, plan
from records.campaign import REPORT_STEP, Campaign
from records.record import Deviation, Problem, Status
from reports.stats.arms import ArmEstimate
from reports.stats.estimate import PipelineEstimate
from reports.verdict.beside import Beside
from reports.verdict.decision import Decision
from reports.verdict.estimates import Estimates

SCHEMA_VERSION = 2
GATE_EXIT = {"GO": 0, "NO-GO": 10, "NO-GO (blocked)": 10, "INCONCLUSIVE": 11, "INVALID": 12, "NOT YET": 11}
"""Exit code of `fab report --gate` for each verdict."""


class StepResult(msgspec.Struct, frozen=True):
    """One step of the plan; `status` is None where it has not run, `unreadable` where its record cannot be read."""

    step: int
    name: str
    status: Status | Literal["unreadable"] | None
    summary: str = ""
    started_utc: str = ""
    elapsed_s: float | None = None
    warnings: list[str] = []
    deviations: list[Deviation] = []
    errors: list[Problem] = []


class Environment(msgspec.Struct, frozen=True):
    """What the steps found, as they recorded it; None or absent where a step left nothing."""

    preflight: facts.Preflight | None
    installed: dict[str, facts.Installed]
    started: dict[str, facts.Started]
    cluster: facts.Cluster | None
    models: facts.ModelReady | None
    script: facts.ScriptReady | None
    benchmarks: dict[str, facts.Benchmark]
    """Step number -> what was measured."""


class Results(msgspec.Struct, frozen=True):
    """The verdict and every number of the report. A number that does not exist (an infinite bound) is null."""

    schema: int
    profile: str
    rehearsal: dict[str, Any] | None
    """Set where the nodes were the embedded rehearsal: nothing in here is then about real machines."""
    verdict: str
    gate_exit: int
    decision: Decision
    large: Decision | None
    """The same rule on the larger model; it never changes the verdict."""
    beside: Beside | None
    """What stands beside the verdict and never votes."""
    arms: dict[str, list[ArmEstimate]]
    """Step number -> the arms it measured."""
    ceiling: PipelineEstimate | None
    """What a pipeline may give, from the measured baselines: an estimate and, whatever the key says, no bound."""
    steps: list[StepResult]
    environment: Environment
    sha256: dict[str, str]
    """Raw file -> its SHA-256."""
    torn_lines: int
    unreadable: list[str]


def results_of(campaign: Campaign, decision: Decision, estimates: Estimates) -> Results:
    """Gather everything that the report shows."""
    records = campaign.records
    return Results(
        schema=SCHEMA_VERSION,
        profile=campaign.profile,
        rehearsal=next((r.rehearsal for _, r in sorted(records.items()) if r.rehearsal is not None), None),
        verdict=decision.verdict,
        gate_exit=GATE_EXIT[decision.verdict],
        decision=decision,
        large=estimates.large,
        beside=estimates.beside,
        arms={str(step): arms for step, arms in sorted(estimates.arms.items())},
        ceiling=estimates.pipeline,
        steps=[_step(campaign, step) for step in plan.STEPS if step.number != REPORT_STEP],
        environment=_environment(campaign),
        sha256=campaign.hashes,
        torn_lines=sum(len(lines) for lines in campaign.torn.values()),
        unreadable=[entry.words for entry in campaign.unreadable],
    )


def results_json(results: Results) -> bytes:
    """Return the file's bytes: indented JSON, keys in the order of the structs, null for what is no finite number."""
    return msgspec.json.format(msgspec.json.encode(_finite(msgspec.to_builtins(results))), indent=1) + b"\n"


def results_schema() -> dict[str, Any]:
    """Return the JSON Schema of docs/exo-phase1-results.json."""
    schema: dict[str, Any] = _nullable(msgspec.json.schema(Results))
    return schema


def _step(campaign: Campaign, step: plan.PlanStep) -> StepResult:
    record = campaign.records.get(step.number)
    if record is None:
        unreadable = campaign.unreadable_step(step.number)
        return StepResult(step.number, step.name, "unreadable" if unreadable else None)
    return StepResult(
        step.number, step.name, record.status, record.summary, record.started_utc, record.elapsed_s,
        record.warnings, record.deviations, record.errors,
    )  # fmt: skip


def _environment(campaign: Campaign) -> Environment:
    return Environment(
        preflight=campaign.preflight,
        installed=campaign.installed,
        started=campaign.started,
        cluster=campaign.cluster,
        models=campaign.models,
        script=campaign.script,
        benchmarks={str(step): found for step in (11, 12, 13) if (found := campaign.benchmark(step))},
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value


def _nullable(schema: Any) -> Any:
    """Let every number be null as well: JSON has no infinity."""
    if isinstance(schema, dict):
        changed = {key: _nullable(inner) for key, inner in schema.items()}
        return {**changed, "type": ["number", "null"]} if schema.get("type") == "number" else changed
    return [_nullable(inner) for inner in schema] if isinstance(schema, list) else schema
