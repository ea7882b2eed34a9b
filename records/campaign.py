"""One campaign as it lies in `logs/<profile>/`: everything that a report is made from, read and decoded once.

What a step found is asked for by name: `campaign.preflight`, `campaign.installed["rog"]`, `campaign.benchmark(12)`. A
record that cannot be read in full is in `unreadable` and nowhere else, so that no part of it is taken for the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from records import plan
from records.facts import (
    Benchmark,
    Cleaned,
    Cluster,
    DeviceKind,
    Installed,
    ModelReady,
    Preflight,
    ScriptReady,
    Skipped,
    Started,
)
from records.record import Record, RecordUnreadableError, decoded_result, decoded_settings, read_record
from records.samples import Conditions, Sample, TornLine, compact, each_sample, marked, read_conditions
from records.settings import Limits, Settings

CONTROL_NAME = "control.samples.jsonl"
"""Samples of `fab bench --control`: Ollama against itself, two arms, through the same pipeline."""
CONTROL_CONDITIONS_NAME = "control.conditions.jsonl"
CONCURRENCY_NAME = "concurrency.samples.jsonl"
"""Samples of `fab bench --concurrency`: several requests at once, a separate experiment that never votes."""
SPREAD_ALONE_NAME, SPREAD_NAME = "spread-alone.samples.jsonl", "spread-together.samples.jsonl"
"""Samples of `fab bench --spread`: every Ollama alone, and all of them at once."""
COMPARISON_STEP = 12
REPORT_STEP = 14
LINES_NAMED = 6

ResultT = TypeVar("ResultT", bound=msgspec.Struct)


class Unreadable(msgspec.Struct, frozen=True):
    """A step's record that this version cannot read, and why."""

    file: str
    reason: str
    step: int

    @property
    def words(self) -> str:
        """Return file and reason as one clause."""
        return f"{self.file}: {self.reason}"


class Campaign(msgspec.Struct, frozen=True, dict=True):
    """Records and raw samples of one profile. Keys of the dicts are step numbers unless said otherwise.

    What is reckoned from all samples is kept beside them (`reports.checks.evidence`); a changed copy starts without it.
    """

    profile: str
    records: dict[int, Record] = {}
    node_records: dict[str, Record] = {}
    """By name, of steps on nodes that the plan does not know; under their number `records` has the worst of them."""
    node_results: dict[str, msgspec.Struct] = {}
    """By node and group (`install-NODE`)."""
    results: dict[int, msgspec.Struct] = {}
    """What each step found, decoded; a step without a result is left out."""
    settings_by_step: dict[int, Settings] = {}
    samples: dict[int, list[Sample]] = {}
    conditions: dict[int, list[Conditions]] = {}
    torn: dict[str, list[TornLine]] = {}
    """File name -> the lines of it that cannot be read."""
    hashes: dict[str, str] = {}
    """File name -> SHA-256. The report's own record is left out: it changes with every report."""
    unreadable: list[Unreadable] = []
    control: list[Sample] = []
    concurrent: list[Sample] = []
    """Of the concurrency experiment; those asked alone are marked as warm-ups."""
    spread_alone: list[Sample] = []
    spread_together: list[Sample] = []

    @property
    def preflight(self) -> Preflight | None:
        """What step 1 found."""
        return self._result(1, Preflight)

    @property
    def installed(self) -> dict[str, Installed]:
        """What steps 2 to 4 installed, by node."""
        return self._by_node("install", Installed)

    @property
    def started(self) -> dict[str, Started]:
        """What steps 5 to 7 started, by node."""
        return self._by_node("start", Started)

    def device(self, node: str) -> tuple[str, DeviceKind]:
        """Return what EXO computes on there, in words and as a kind: what its engine said when it was seen to compute.

        Without a probe (the dummy engine, records of before) what its topology says is all there is.
        """
        installed, started = self.installed.get(node), self.started.get(node)
        if installed and installed.probe and installed.probe.device:
            return installed.probe.device, installed.probe.kind
        return (started.device, started.device_kind) if started else ("", "unknown")

    @property
    def cluster(self) -> Cluster | None:
        """What step 8 saw."""
        return self._result(8, Cluster)

    @property
    def models(self) -> ModelReady | None:
        """What step 9 made ready."""
        return self._result(9, ModelReady)

    @property
    def script(self) -> ScriptReady | None:
        """What step 10 copied and calibrated."""
        return self._result(10, ScriptReady)

    @property
    def cleaned(self) -> Cleaned | None:
        """What step 15 left behind."""
        return self._result(15, Cleaned)

    @property
    def steps(self) -> list[plan.PlanStep]:
        """The plan's steps; where the cluster has other nodes, theirs in place of those on nodes that it lacks."""
        others = plan.node_steps_in(f"{r.step:02d}-{r.name}.json" for r in self.node_records.values())
        there = {record.name for record in self.records.values()}
        nodes = self.settings.nodes or {}
        gone = {
            s.name for s in plan.STEPS if s.node and s.name not in there and (others or (nodes and s.node not in nodes))
        }
        kept = [step for step in plan.STEPS if step.name not in gone]
        return sorted([*kept, *others], key=lambda step: step.number)

    def record_of(self, step: plan.PlanStep) -> Record | None:
        """Return the record of a step of `steps`."""
        return self.node_records.get(step.name) or self.records.get(step.number)

    @property
    def all_records(self) -> list[Record]:
        """Every record, by step; several of one step where the cluster has other nodes than the plan's."""
        names = {*self.node_records}
        own = [record for record in self.records.values() if record.name not in names]
        return sorted([*own, *self.node_records.values()], key=lambda record: record.step)

    def benchmark(self, step: int) -> Benchmark | None:
        """Return what step 11, 12 or 13 measured; None where it did not come to its end."""
        return self._result(step, Benchmark) if self.done(step) else None

    def skipped(self, step: int) -> Skipped | None:
        """Return why a step was left out on purpose; None where it was not."""
        return self._result(step, Skipped)

    def done(self, step: int) -> bool:
        """Tell whether a step did its work, now or earlier."""
        return step in self.records and self.records[step].status in ("ok", "already")

    def unreadable_step(self, step: int) -> Unreadable | None:
        """Return what is wrong with a step's record, where there is one that cannot be read."""
        return next((entry for entry in self.unreadable if entry.step == step), None)

    @property
    def unread(self) -> list[str]:
        """Every record that cannot be read, and of every other file the first lines, each with the reason."""
        words = [entry.words for entry in self.unreadable]
        for name, lines in sorted(self.torn.items()):
            words += [f"{name}, line {line.line}: {line.reason} (left out)" for line in lines[:LINES_NAMED]]
            more = len(lines) - LINES_NAMED
            words += [f"{name}: {more} more lines (left out)"] if more > 0 else []
        return words

    def settings_of(self, step: int) -> Settings:
        """Return the settings under which a step ran; what its record does not tell, and before it, the newest's."""
        newest = sorted(
            (record for number, record in self.records.items() if number < REPORT_STEP),
            key=lambda record: record.started_utc,
            reverse=True,
        )
        settings = self.settings_by_step.get(step, Settings())
        for record in newest:
            settings = settings.or_else(self.settings_by_step.get(record.step, Settings()))
        return settings

    @property
    def settings(self) -> Settings:
        """The settings under which step 12 measured, so that editing hosts.yaml afterwards moves no verdict."""
        return self.settings_of(COMPARISON_STEP)

    @property
    def limits(self) -> Limits:
        """The limits of the decision."""
        return self.settings.limits or Limits()

    def _result(self, step: int, kind: type[ResultT]) -> ResultT | None:
        result = self.results.get(step)
        return result if isinstance(result, kind) else None

    def _by_node(self, group: str, kind: type[ResultT]) -> dict[str, ResultT]:
        steps = plan.steps_by_node(group)
        planned = {node: result for node, step in steps.items() if (result := self._result(step.number, kind))}
        others = {name: result for name, result in self.node_results.items() if isinstance(result, kind)}
        return planned | {name.removeprefix(f"{group}-"): result for name, result in others.items()}


def load_campaign(folder: Path) -> Campaign:
    """Read `folder`; whatever is missing is left out, whatever cannot be read is named. An empty folder is fine."""
    records: dict[int, Record] = {}
    results: dict[int, msgspec.Struct] = {}
    settings: dict[int, Settings] = {}
    unreadable: list[Unreadable] = []
    node_records: dict[str, Record] = {}
    node_results: dict[str, msgspec.Struct] = {}
    others = plan.node_steps_in(path.name for path in folder.glob("*.json"))
    for step in (*plan.STEPS, *others):
        try:
            record = read_record(folder / step.record_name)
            result, carried = decoded_result(record), decoded_settings(record)
        except FileNotFoundError:
            continue
        except (OSError, RecordUnreadableError) as error:
            unreadable.append(Unreadable(step.record_name, str(error), step.number))
            continue
        if step in others:
            node_records[step.name] = record
            if result is not None:
                node_results[step.name] = result
            settings.setdefault(step.number, carried)
            continue
        records[step.number], settings[step.number] = record, carried
        if result is not None:
            results[step.number] = result
    _stand_in(records, node_records.values())
    samples = {name: _samples(folder / name) for name in _names_of_samples()}
    conditions = {step.conditions_name: read_conditions(folder / step.conditions_name) for step in plan.STEPS}
    torn = {name: lines for name, (_, lines) in (*samples.items(), *conditions.items()) if lines}
    return Campaign(
        profile=next((record.profile for record in records.values()), folder.name),
        records=dict(sorted(records.items())),
        node_records=node_records,
        node_results=node_results,
        results=results,
        settings_by_step=settings,
        samples={
            step.number: marked(lines, conditions[step.conditions_name][0])
            for step in plan.STEPS
            if (lines := samples[step.samples_name][0])
        },
        conditions={step.number: notes for step in plan.STEPS if (notes := conditions[step.conditions_name][0])},
        torn=torn,
        hashes=_hashes(folder),
        unreadable=unreadable,
        control=marked(samples[CONTROL_NAME][0], read_conditions(folder / CONTROL_CONDITIONS_NAME)[0]),
        concurrent=samples[CONCURRENCY_NAME][0],
        spread_alone=samples[SPREAD_ALONE_NAME][0],
        spread_together=samples[SPREAD_NAME][0],
    )


def _stand_in(records: dict[int, Record], others: Iterable[Record]) -> None:
    """Have the worst record of nodes that the plan does not know stand for each of its nodes that are not there."""
    for group in ("install", "start"):
        mine = [record for record in others if plan.step_numbered(record.step).group == group]
        mine.sort(key=lambda record: (record.status in ("ok", "already"), record.started_utc))
        for step in plan.steps_by_node(group).values() if mine else ():
            records.setdefault(step.number, mine[0])


def _samples(path: Path) -> tuple[list[Sample], list[TornLine]]:
    torn: list[TornLine] = []
    return [compact(sample) for sample in each_sample(path, torn)], torn


def _names_of_samples() -> list[str]:
    return [*(step.samples_name for step in plan.STEPS), CONTROL_NAME, CONCURRENCY_NAME, SPREAD_ALONE_NAME, SPREAD_NAME]


def _hashes(folder: Path) -> dict[str, str]:
    own = plan.step_numbered(REPORT_STEP).record_name
    files = [*folder.glob("*.json"), *folder.glob("*.jsonl")] if folder.is_dir() else []
    wanted = sorted(path for path in files if path.is_file() and path.name != own and not path.name.startswith("."))
    return {path.name: _sha256(path) for path in wanted}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
