"""Checks of what was compared: the software, the cluster, the devices, the weights. Each is one pure function."""

from __future__ import annotations

from collections.abc import Iterable

from records import plan
from records.campaign import Campaign
from reports.checks.check import Check, Status
from reports.checks.evidence import (
    conditions_by_run,
    first_few,
    schedule_samples,
    unreadable_of,
)
from reports.stats.runs import is_good

FEW_TOKENS = 10
"""A GPU whose engine cannot build llama's mask answers prompts of about three tokens all the same."""
SIXTEEN_BIT = {"f16", "fp16", "float16", "half"}


def right_software(campaign: Campaign, step: int) -> Check:
    """Tell whether every node has the EXO that hosts.yaml names, and each Ollama stayed the version that it was."""
    why = "Another program of that name, or another revision on one node, would be measured as if it were EXO."
    profile = campaign.settings_of(step).profile
    wanted = profile.exo.release if profile else None
    installed = list(campaign.installed.values())
    lacking = [
        f"step {missing.number}: {_why_missing(campaign, missing.number)}"
        for node in campaign.settings_of(step).nodes or plan.steps_by_node("install")
        for missing in [plan.node_step("install", node)]
        if node not in campaign.installed
    ]
    evidence = "; ".join(
        f"{exo.node}: EXO {exo.release} ({exo.generation}), revision {exo.revision[:12]}" for exo in installed
    )
    wrong = [f"{exo.node} has {exo.release}, not {wanted}" for exo in installed if wanted and exo.release != wanted]
    for what, values in (
        ("revisions", {exo.revision for exo in installed}),
        ("generations", {exo.generation for exo in installed}),
    ):
        if len(values) > 1:
            wrong.append(f"the nodes run different {what}")
    ollama = _ollama_versions(campaign, step)
    wrong += [f"{arm}: Ollama was {' and then '.join(told)}" for arm, told in ollama.items() if len(told) > 1]
    evidence = "; ".join(
        [
            *([evidence] if evidence else []),
            *(f"{arm}: Ollama {' and then '.join(told) or 'not told'}" for arm, told in ollama.items()),
        ]
    )
    if wrong:
        return Check("right software", "fatal", f"{'; '.join(wrong)} ({evidence})", why)
    if lacking:
        return Check("right software", "unknown", "; ".join([*lacking, evidence] if evidence else lacking), why)
    return Check("right software", "pass", evidence, why)


def whole_cluster(campaign: Campaign, step: int) -> Check:
    """Tell whether every node's own topology had every node, at the start, before each EXO run and at the end."""
    name, why = "whole cluster", "A node that dropped out makes the measured cluster another one than the plan's."
    benchmark = campaign.benchmark(step)
    bad: list[str] = []
    for (_, run), notes in sorted(conditions_by_run(campaign, step).items()):
        for note in notes:
            bad += [
                f"before EXO run {run}: not on {node}" for node, whole in note.topology_complete.items() if not whole
            ]
            bad += [
                f"after EXO run {run}: not on {node}"
                for node, whole in note.topology_complete_after.items()
                if not whole
            ]
    if benchmark is not None:
        for when, seen in (("start", benchmark.topology_start), ("end", benchmark.topology_end)):
            bad += [f"at the {when}: not on {node}" for node, whole in seen.items() if not whole]
    if bad:
        return Check(name, "fatal", "the topology was not complete " + first_few(bad), why)
    if benchmark is None:
        whole = campaign.cluster is not None and campaign.cluster.complete
        evidence = "step 8 saw it whole" if whole else "step 8 did not see it whole"
        evidence = first_few(unreadable_of(campaign, [8])) or evidence
        return Check(name, "unknown", f"{evidence}; step {step} has not ended", why)
    nodes = sorted(campaign.settings_of(step).nodes or benchmark.topology_start)
    untold = [n for n in nodes if n not in benchmark.topology_start or n not in benchmark.topology_end]
    if untold or not nodes:
        return Check(name, "unknown", f"not told by {', '.join(untold) or 'any node'}", why)
    runs = sum(bool(note.topology_complete) for note in campaign.conditions.get(step, []))
    return Check(name, "pass", f"complete on {', '.join(nodes)} at start and end, and before {runs} EXO runs", why)


def device(campaign: Campaign, step: int) -> Check:
    """Tell whether every arm that hosts.yaml puts on a GPU computed there.

    EXO's arm: its engine computed on that GPU when it was installed, and answered prompts of more than a few tokens,
    which is where a GPU that does not work fails. EXO's topology proves nothing: it says AMD because AMD=1 was set. Nor
    does a GPU that reads 0 % busy say that it was not used: a stage of a pipeline waits for the others most of the
    time (16 of 20 readings were 0 on a ring that worked). An Ollama tells what it holds in the GPU's memory.
    """
    name, why = "device", "An arm that computed on a CPU is slower than the machine it is compared as."
    benchmark = campaign.benchmark(step)
    if benchmark is None:
        fallen = _on_the_cpu(campaign, step, [a for a, b in (campaign.settings_of(step).ollama or {}).items() if b.gpu])
        return Check(name, "fatal" if fallen else "unknown", first_few(fallen) or f"step {step} has not ended", why)
    evidence = "; ".join(f"{arm}: {benchmark.devices.get(arm, 'not told')}" for arm in benchmark.arms)
    wrong: list[str] = []
    untold: list[str] = []
    odd: list[str] = []
    untold += [
        f"{arm} did not tell where it computed"
        for arm in benchmark.arms
        if arm != "exo"
        and not benchmark.gpu_claims.get(arm)
        and benchmark.gpu_kinds.get(arm) == "unknown"
        and not _offloaded(campaign, step, arm)
    ]
    if "exo" in benchmark.arms:
        wrong, unproven, proof = _exo_devices(campaign, step)
        untold += unproven
        evidence = "; ".join([evidence, *proof])
        if benchmark.gpu_claims.get("exo") and benchmark.gpu_kinds.get("exo") == "cpu":
            wrong.append("exo computed on its CPU")
    for arm in (arm for arm in benchmark.arms if arm != "exo" and benchmark.gpu_claims.get(arm)):
        kind = benchmark.gpu_kinds.get(arm, "unknown")
        if kind == "cpu":
            wrong.append(f"{arm} computed on its CPU")
        elif kind == "unknown":
            untold.append(f"{arm} should be on a GPU and did not tell")
        parts = _offloaded(campaign, step, arm)
        wrong += _on_the_cpu(campaign, step, [arm])
        if any(0 < part < 0.99 for part in parts):
            odd.append(f"{arm}: only {min(parts):.0%} of the model was on the GPU")
    found: dict[Status, list[str]] = {"fatal": wrong, "unknown": untold, "warn": odd}
    for status, findings in found.items():
        if findings:
            return Check(name, status, f"{first_few(findings)} ({evidence})", why)
    return Check(name, "pass", evidence or "no arm claims a GPU", why)


def same_weights(campaign: Campaign, step: int) -> Check:
    """Tell whether both engines loaded weights of one precision, and every baseline the same ones."""
    name, why = (
        "same weights",
        "At batch 1 a token costs about its bytes of weights: another precision is another race.",
    )
    benchmark = campaign.benchmark(step)
    if benchmark is None or "exo" not in benchmark.arms:
        return Check(name, "unknown", f"step {step} has not ended", why, essential=False)
    exo = benchmark.exo_precision
    models = {arm: model for arm, model in sorted(benchmark.ollama.items()) if arm in benchmark.arms}
    evidence = f"EXO {benchmark.exo_model} ({exo or 'not told'}); " + "; ".join(
        f"{arm} {model.model} ({model.quantization or 'not told'})" for arm, model in models.items()
    )
    if not exo or not models or any(model.quantization is None for model in models.values()):
        return Check(name, "unknown", evidence, why, essential=False)
    if len({_precision(exo), *(_precision(model.quantization or "") for model in models.values())}) > 1:
        return Check(name, "warn", f"the precisions differ: {evidence}", why, essential=False)
    if len({model.digest for model in models.values()}) > 1:
        return Check(name, "warn", f"the baselines hold different files of that name: {evidence}", why, essential=False)
    return Check(name, "pass", evidence, why, essential=False)


def one_campaign(campaign: Campaign, step: int) -> Check:
    """Tell whether everything was measured under one hosts.yaml, and all of it for real or all of it in rehearsal."""
    name, why = "one campaign", "Numbers taken under different settings do not add up to one measurement."
    labels = sorted({sample.campaign for sample in schedule_samples(campaign, step)})
    if len(labels) > 1:
        return Check(name, "fatal", f"the samples of step {step} are of {len(labels)}: {first_few(labels)}", why)
    records = {n: r for n, r in campaign.records.items() if n <= step}
    if len({r.rehearsal is None for r in records.values()}) > 1:
        return Check(name, "fatal", "some steps ran in a rehearsal and some on the real nodes", why)
    unread = unreadable_of(campaign, range(1, step + 1))
    if unread:
        return Check(name, "unknown", first_few(unread), why)
    if step not in records:
        return Check(name, "unknown", f"step {step} has left no record", why)
    others = [f"step {n}" for n, r in sorted(records.items()) if r.campaign != records[step].campaign]
    if others:
        evidence = f"hosts.yaml was changed between {', '.join(others)} and step {step}"
        return Check(name, "warn", evidence, why)
    return Check(name, "pass", f"one hosts.yaml ({records[step].campaign or 'no mark'})", why)


def ollama_unaffected(campaign: Campaign, step: int) -> Check:
    """Tell whether Ollama's models, version and health after cleanup are those before."""
    name, why = "Ollama unaffected", "The plan promises that Ollama stays as it is."
    cleaned, unread = campaign.cleaned, unreadable_of(campaign, [15])
    if unread:
        return Check(name, "unknown", first_few(unread), why, essential=False)
    if cleaned is None:
        return Check(
            name, "unknown", f"known after `fab cleanup` (verdict on step {step} stands)", why, essential=False
        )
    if not cleaned.ollama_before and not cleaned.ollama_changes:
        return Check(name, "unknown", "what it was like before `fab preflight` is not known", why, essential=False)
    if cleaned.ollama_restarts and not cleaned.ollama_changes:
        return Check(name, "warn", first_few(cleaned.ollama_restarts), why, essential=False)
    if not cleaned.ollama_unchanged:
        evidence = first_few(cleaned.ollama_changes) or "its state is not the one before"
        return Check(name, "fatal", evidence, why, essential=False)
    evidence = "; ".join(
        f"{arm}: {len(s.models)} models, version {s.version}" for arm, s in cleaned.ollama_after.items()
    )
    return Check(name, "pass", f"unchanged ({evidence})", why, essential=False)


def _ollama_versions(campaign: Campaign, step: int) -> dict[str, list[str]]:
    """Return the versions that each Ollama told, in their order: at the start, before each run, and at the end."""
    benchmark = campaign.benchmark(step)
    around = benchmark.ollama_versions if benchmark else {}
    told = {arm: versions[:1] for arm, versions in around.items()}
    for note in campaign.conditions.get(step, []):
        if note.ollama_version:
            told.setdefault(note.arm, []).append(note.ollama_version)
    for arm, versions in around.items():
        told[arm] += versions[1:]
    return {arm: [*dict.fromkeys(filter(None, versions))] for arm, versions in told.items()}


def _why_missing(campaign: Campaign, step: int) -> str:
    """Return why a step has no result that could be checked."""
    unread, record = campaign.unreadable_step(step), campaign.records.get(step)
    if unread:
        return f"its record cannot be read ({unread.words})"
    return record.trouble if record and record.errors else "not recorded"


def _on_the_cpu(campaign: Campaign, step: int, arms: Iterable[str]) -> list[str]:
    """Name the Ollamas of which runs had nothing of the model on the GPU."""
    runs: dict[str, list[str]] = {}
    for note in campaign.conditions.get(step, []):
        if note.arm in arms and note.ollama_size_vram_bytes == 0 and not note.lost:
            runs.setdefault(note.arm, []).append(str(note.run))
    return [
        f"{arm}: its server held nothing of the model on the GPU (size_vram 0) in run {', '.join(dict.fromkeys(of))}"
        for arm, of in runs.items()
    ]


def _offloaded(campaign: Campaign, step: int, arm: str) -> list[float]:
    """Return the share of the model on the GPU before each of an Ollama arm's runs, where its server told."""
    return [
        note.ollama_size_vram_bytes / (note.ollama_size_bytes or max(1, note.ollama_size_vram_bytes))
        for note in campaign.conditions.get(step, [])
        if note.arm == arm and note.ollama_size_vram_bytes is not None
    ]


def _exo_devices(campaign: Campaign, step: int) -> tuple[list[str], list[str], list[str]]:
    """Return what is wrong, what is not known and what is proven about EXO's nodes that should compute on a GPU."""
    steps = [s.number for group in ("install", "start") for s in plan.steps_by_node(group).values()]
    wrong, untold, proof = [], unreadable_of(campaign, steps), []
    expected = [started for started in campaign.started.values() if started.gpu_expected]
    for started in expected:
        exo = campaign.installed.get(started.node)
        probe = exo.probe if exo else None
        if started.device_kind == "cpu" or (probe and probe.kind == "cpu"):
            wrong.append(f"EXO on {started.node} computes on its CPU")
        elif probe is None or not probe.works:
            again = plan.command_for("install", started.node)
            untold.append(f"no compute probe has proven the GPU of {started.node}: {again} asks it")
        if probe:
            proof.append(f"probe on {started.node}: {probe.words}")
    if expected:
        longest = max(_answered_prompts(campaign, step), default=0)
        if longest <= FEW_TOKENS:
            untold.append(f"EXO answered no prompt that is known to have more than {FEW_TOKENS} tokens")
        else:
            proof.append(f"EXO answered prompts of up to {longest} tokens")
    return wrong, untold, proof


def _answered_prompts(campaign: Campaign, step: int) -> list[int]:
    """Return the lengths of the prompts that EXO answered, where any arm told them: EXO 0.0.15 does not."""
    samples = schedule_samples(campaign, step)
    tokens = {s.prompt_sha256: s.prompt_tokens for s in samples if s.prompt_sha256 and s.prompt_tokens}
    answered = [s for s in samples if s.engine == "exo" and is_good(s)]
    return [s.prompt_tokens or tokens.get(s.prompt_sha256, 0) for s in answered]


def _precision(name: str) -> str:
    plain = name.strip().lower()
    return "16-bit float" if plain in SIXTEEN_BIT else plain
