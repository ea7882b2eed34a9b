"""What our own part of a step costs, on a rehearsal: starting, a campaign beside its requests, records, many nodes."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.metronome import PROJECT
from benchmarks.waiting import FAB, Row, cpu_s, fab
from records.campaign import load_campaign
from records.plan import steps_by_node
from rehearsal import cluster
from reports.stats.time_spent import time_spent

MANY = 30
PROFILE = "llama-0015"


def own_part(rounds: int) -> list[Row]:
    """Rehearse the plan up to step 12 on three nodes, then preflight on MANY."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "rehearsal"
        cluster.up(root)
        try:
            fab(root / "hosts.yaml", "preflight", "install")
            rows = [_starting(root, rounds), *_campaign(root)]
            few_s = _preflight_s(root, rounds)
        finally:
            cluster.down(root)
        many = Path(name) / "many"
        cluster.up(many, nodes=MANY)
        try:
            ratio = _preflight_s(many, rounds) / few_s
        finally:
            cluster.down(many)
    what = f"`fab preflight` of {MANY} nodes against 3, processor time of `fab` (the nodes work side by side)"
    return [*rows, Row(what, f"{ratio:.2f}x", "<= 3x", ratio <= 3)]


def _starting(root: Path, rounds: int) -> Row:
    """Take the slowest of three nodes that are started side by side, less the time until its own process served."""
    took, steps = [], steps_by_node("start").items()
    for _ in range(rounds):
        fab(root / "hosts.yaml", "start")
        campaign = load_campaign(root / "logs" / PROFILE)
        took.append(max(campaign.records[s.number].elapsed_s - campaign.started[key].ready_s for key, s in steps))
        fab(root / "hosts.yaml", "stop-cluster")
    seconds = statistics.median(took)
    return Row("`fab start` of a node, beside EXO's own time", f"{seconds:.2f} s", "<= 0.4 s", seconds <= 0.4)


def _campaign(root: Path) -> list[Row]:
    """Run the comparison once; tell what of its time was neither a request nor loading, and how large it is."""
    fab(root / "hosts.yaml", "start", "download-model", "create-benchmark", "bench-comparison", "--runs", "5")
    logs = root / "logs" / PROFILE
    spent = time_spent(load_campaign(logs), 12)
    assert spent, "the comparison ran in one call"
    share = spent.rest_s / spent.elapsed_s
    kilobytes = [(logs / f"12-bench-comparison.{end}").stat().st_size / 1000 for end in ("json", "samples.jsonl")]
    return [
        Row(
            "a rehearsed campaign's time that is neither a request nor loading",
            f"{share:.0%}, {spent.rest_s / spent.runs:.2f} s a run",
            "<= 3%",
            share <= 0.03,
        ),
        Row("record of step 12 beside its samples", f"{kilobytes[0]:.0f} kB beside {kilobytes[1]:.0f} kB", "-", None),
    ]


def _preflight_s(root: Path, rounds: int) -> float:
    fab(root / "hosts.yaml", "preflight")
    command = ["env", f"FABRIC_EXO_INVENTORY={root / 'hosts.yaml'}", FAB, "preflight"]
    return min(cpu_s(command, PROJECT) for _ in range(rounds))
