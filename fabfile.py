"""EXO Phase 1: the plan's fifteen steps, their groups, and a few helpers of the operator. No logic lives here.

Every `fab` call reads all of this file, and `fab --list` nothing else: a task imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from invoke.collection import Collection

# Invoke forbids byte code before it loads this file, and every call would compile a hundred modules anew.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
from tasks.command_line import (  # noqa: E402
    NODES_HELP,
    PROJECT,
    check_bench,
    check_runs,
    command,
    explaining,
    nodes_named,
    operating,
    strictly,
    whole_number,
)


@command(options={"strict": "fail where a model pair of the profile in force cannot run"}, long=True)
def verify_python(c: Any, strict: bool = False) -> None:
    """Step 1: Verify every node: SSH, Python for the chosen EXO, Ollama, and whether the plan can work out."""
    from tasks.preflight import verify_python as step

    with operating(c) as lab:
        step(lab, strict=strict)


@command(long=True, lock=True)
def install_srv1(c: Any) -> None:
    """Step 2: Install EXO on ndnlinuxsrv1 in a venv of its own."""
    from tasks.install import install_srv1 as step

    with operating(c) as lab:
        step(lab)


@command(long=True, lock=True)
def install_srv2(c: Any) -> None:
    """Step 3: Install EXO on ndnlinuxsrv2 in a venv of its own."""
    from tasks.install import install_srv2 as step

    with operating(c) as lab:
        step(lab)


@command(long=True, lock=True)
def install_rog(c: Any) -> None:
    """Step 4: Install EXO on rog-flow-z13 and hear several witnesses about its Radeon under ROCm."""
    from tasks.install import install_rog as step

    with operating(c) as lab:
        step(lab)


@command(long=True, lock=True)
def start_srv1(c: Any) -> None:
    """Step 5: Start EXO on ndnlinuxsrv1 and wait until this very process serves."""
    from tasks.start import start_srv1 as step

    with operating(c) as lab:
        step(lab)


@command(long=True, lock=True)
def start_srv2(c: Any) -> None:
    """Step 6: Start EXO on ndnlinuxsrv2 and wait until this very process serves."""
    from tasks.start import start_srv2 as step

    with operating(c) as lab:
        step(lab)


@command(long=True, lock=True)
def start_rog(c: Any) -> None:
    """Step 7: Start EXO on rog-flow-z13 and say which device it really computes on."""
    from tasks.start import start_rog as step

    with operating(c) as lab:
        step(lab)


@command(long=True, lock=True)
def verify_cluster(c: Any) -> None:
    """Step 8: Prove the cluster: every node's own topology shows all nodes."""
    from tasks.start import verify_cluster as step

    with operating(c) as lab:
        step(lab)


@command(options={"anyway": "go on where the verdict could only be INVALID"}, long=True, lock=True)
def download_model(c: Any, anyway: bool = False) -> None:
    """Step 9: Make the model pair available and prove by one answer that the cluster serves it."""
    from tasks.benchmark.models import download_model as step

    with operating(c) as lab:
        step(lab, anyway=anyway)


@command(options={"anyway": "go on where the verdict could only be INVALID"}, long=True, lock=True)
def create_benchmark(c: Any, anyway: bool = False) -> None:
    """Step 10: Put the benchmark script on the bench node and measure its own error there."""
    from tasks.benchmark.instrument import create_benchmark as step

    with operating(c) as lab:
        step(lab, anyway=anyway)


@command(
    options={
        "runs": "freshly loaded runs of each Ollama (bench.baseline_runs of hosts.yaml when left out)",
        "fresh": "begin anew; what is there moves to the archive",
        "anyway": "go on where the verdict can only be INVALID",
    },
    long=True,
    lock=True,
)
def bench_baseline(c: Any, runs: str = "", anyway: bool = False, fresh: bool = False) -> None:
    """Step 11: Measure single-node Ollama alone."""
    from tasks.benchmark.steps import bench_baseline as step

    with operating(c) as lab:
        step(lab, runs=runs, fresh=fresh, anyway=anyway)


@command(
    options={
        "runs": "freshly loaded runs of each arm (bench.runs of hosts.yaml when left out)",
        "until_decided": "as many runs as it takes, with looks after 6, 12 and 18",
        "fresh": "begin anew; what is there moves to the archive",
        "anyway": "go on where the verdict can only be INVALID",
    },
    long=True,
    lock=True,
)
def bench_comparison(
    c: Any, runs: str = "", until_decided: bool = False, anyway: bool = False, fresh: bool = False
) -> None:
    """Step 12: Measure EXO and Ollama in one interleaved schedule."""
    from tasks.benchmark.steps import bench_comparison as step

    with operating(c) as lab:
        step(lab, runs=runs, until_decided=until_decided, fresh=fresh, anyway=anyway)


@command(
    options={
        "runs": "freshly loaded runs of each arm (bench.baseline_runs of hosts.yaml when left out)",
        "fresh": "begin anew; what is there moves to the archive",
        "anyway": "go on where the verdict can only be INVALID",
    },
    long=True,
    lock=True,
)
def bench_scale_up(c: Any, runs: str = "", anyway: bool = False, fresh: bool = False) -> None:
    """Step 13: Repeat with the large model, only if the comparison said GO."""
    from tasks.benchmark.steps import bench_scale_up as step

    with operating(c) as lab:
        step(lab, runs=runs, fresh=fresh, anyway=anyway)


@command(
    options={"html": "also write one self-contained HTML file", "commit": "commit docs/ as the plan's step does"},
    long=True,
)
def document_results(c: Any, html: bool = False, commit: bool = False) -> None:
    """Step 14: Write the report, its charts and the plan's text files."""
    from tasks.report import document_results as step

    with operating(c) as lab:
        step(lab, html=html, commit=commit)


@command(long=True, lock=True)
def stop_cluster(c: Any) -> None:
    """Step 15: Stop what we started, prove the ports free and Ollama unchanged."""
    from tasks.cleanup import stop_cluster as step

    with operating(c) as lab:
        step(lab)


@command("preflight", options={"strict": "fail where a model pair cannot run at all"})
def preflight_group(c: Any, strict: bool = False, json: bool = False) -> None:
    """Group: step 1, every node, its Python, Ollama, and whether the plan can work out."""
    from tasks import closing, preflight

    with operating(c) as lab:
        preflight.preflight_group(lab, strict=strict, as_json=json)
        closing.after_group("preflight", lab.finished)


@command("install", options=NODES_HELP, long=True, lock=True)
def install_group(c: Any, nodes: str = "") -> None:
    """Group: steps 2 to 4, EXO on every node, side by side."""
    from tasks import closing, install

    with operating(c) as lab:
        install.install_group(lab, nodes_named(lab, nodes))
        closing.after_group("install", lab.finished)


@command("start", options=NODES_HELP, long=True, lock=True)
def start_group(c: Any, nodes: str = "") -> None:
    """Group: steps 5 to 8, EXO running on every node and one cluster of them."""
    from tasks import closing, start

    with operating(c) as lab:
        start.start_group(lab, nodes_named(lab, nodes))
        closing.after_group("start", lab.finished)


@command(
    "bench",
    options={
        "runs": "freshly loaded runs an arm (benchmark.runs of hosts.yaml when left out)",
        "until_decided": "as many runs as it takes, with looks after 6, 12 and 18",
        "control": "instead: Ollama against itself, and how many runs that noise asks for",
        "concurrency": "instead: this many requests at once, e.g. 1,2,4; a separate experiment",
        "spread": "instead: one request on every Ollama at once, against the best alone; --runs counts its rounds",
        "anyway": "go on where the verdict can only be INVALID",
        "fresh": "begin anew; what is there moves to the archive",
    },
    long=True,
    lock=True,
)
def bench_group(
    c: Any,
    runs: str = "",
    until_decided: bool = False,
    control: bool = False,
    concurrency: str = "",
    spread: bool = False,
    anyway: bool = False,
    fresh: bool = False,
) -> None:
    """Group: steps 9 to 13, models, instrument, baseline, comparison, scale-up."""
    from tasks import closing
    from tasks.benchmark import steps as benchmark

    with operating(c) as lab:
        benchmark.bench_group(
            lab,
            runs,
            until_decided=until_decided,
            control=control,
            concurrency=concurrency,
            spread=spread,
            anyway=anyway,
            fresh=fresh,
        )
        closing.after_group("bench", lab.finished)
        closing.show_verdict(lab)


@command(
    "report",
    options={
        "html": "also write one self-contained HTML file",
        "commit": "commit docs/ as the plan's step 14 does",
        "gate": "exit 0 GO, 10 NO-GO, 11 INCONCLUSIVE, 12 INVALID",
    },
)
def report_group(c: Any, html: bool = False, commit: bool = False, gate: bool = False) -> None:
    """Group: step 14, the report and its charts."""
    from tasks import report

    with operating(c) as lab:
        report.report_group(lab, html=html, commit=commit, gate=gate)


@command("cleanup", lock=True)
def cleanup_group(c: Any) -> None:
    """Group: step 15, stop what we started and prove Ollama unchanged."""
    from tasks import cleanup, closing

    with operating(c) as lab:
        cleanup.stop_cluster(lab)
        closing.after_group("cleanup", lab.finished)


@command("history", options={"restore": "bring this one back; what is there now moves to the archive"})
def show_history(c: Any, restore: str = "") -> None:
    """List the campaigns in logs/ and their archives, each with its verdict; or bring an archived one back."""
    from tasks import history

    with operating(c) as lab:
        history.history(lab, restore)


@command("uninstall", options={"models": "also what EXO downloaded", "yes": "do not ask"}, lock=True)
def uninstall_nodes(c: Any, models: bool = False, yes: bool = False) -> None:
    """Remove everything of ours from the nodes, after showing it with its sizes; downloaded models only if told."""
    from tasks import uninstall

    with operating(c) as lab:
        uninstall.uninstall(lab, models=models, yes=yes)


@command(options={"nodes": NODES_HELP["nodes"], "full": "commands in full, not their first line"})
def plan(c: Any, nodes: str = "", full: bool = False, json: bool = False) -> None:
    """Show what every step would run, write, ask and download, without opening a connection."""
    from tasks import plan as planning

    with operating(c) as lab:
        planning.show_plan(lab, nodes_named(lab, nodes), full=full, as_json=json)


@command(options=NODES_HELP)
def status(c: Any, nodes: str = "", json: bool = False) -> None:
    """Show what runs now on every node, what each Ollama holds, and how far the campaign is."""
    from tasks import console
    from tasks import status as now

    with operating(c) as lab:
        found = now.status(lab, nodes_named(lab, nodes))
        console.document(found) if json else now.show(found)


@command(
    positional=["node"],
    options={"node": "one node; all of them when left out", "lines": "how many lines", "follow": "go on until Ctrl-C"},
)
def logs(c: Any, node: str = "", lines: str = "40", follow: bool = False) -> None:
    """Show the end of EXO's log on the nodes."""
    from tasks import status as now

    with operating(c) as lab:
        now.show_logs(lab, node, whole_number("lines", lines) or 40, follow=follow)


@command(options={"output": "the file to write (hosts.yaml when left out)"})
def init(c: Any, output: str = "hosts.yaml") -> None:
    """Write a hosts.yaml of your own after four questions, with what ssh_config and Tailscale know."""
    from tasks.init import write_hosts_file

    with explaining():
        write_hosts_file(Path(output).expanduser())


@command(
    options={"strict": "fail where a pair of the profile in force cannot run, or GO cannot be reached"},
)
def feasibility(c: Any, strict: bool = False, json: bool = False) -> None:
    """Show what can run on these nodes and what is in the way of a GO; a part of preflight, alone."""
    from tasks import preflight

    with operating(c) as lab:
        preflight.feasibility(lab, strict=strict, as_json=json)


@command(positional=["old", "new"], options={"old": "logs folder of the earlier campaign", "new": "of the later one"})
def compare(c: Any, old: str, new: str) -> None:
    """Put two campaigns side by side with the verdict's own statistics."""
    from tasks import report

    with explaining():
        report.show_comparison(Path(old), Path(new))


@command()
def version(c: Any) -> None:
    """Print this program's version and commit, and the EXO that each profile names."""
    from tasks import console
    from tasks import version as this

    console.text(this.program(PROJECT))  # whatever is wrong with the hosts file
    with operating(c) as lab:
        console.text(this.releases(lab.inventory))


@command()
def trust_hosts(c: Any) -> None:
    """Show the nodes' host keys and add those you confirm to known_hosts."""
    from tasks.trust import trust_hosts as show_and_ask

    with operating(c) as lab:
        show_and_ask(lab)


_REHEARSAL_HELP = {
    "speedup": "true ratio of EXO's rate over the best Ollama's",
    "noise": "standard deviation of a run's log rate",
    "trap": "reproduce one of docs/traps.md",
    "seed": "of the noise",
    "generation": "0 for EXO 0.0.15, 1 for EXO 1.0.71",
    "nodes": "how many, the plan's three when left out",
    "drift": "relative change of all engines' rates over four minutes, -0.2 for a laptop that warms up",
    "root": "folder of the rehearsal (.rehearsal when left out)",
}


@command(options=_REHEARSAL_HELP | {"html": "also write the HTML report"}, long=True)
def rehearse(
    c: Any,
    speedup: str = "1.5",
    noise: str = "0.02",
    trap: str = "",
    seed: str = "0",
    generation: str = "0",
    nodes: str = "3",
    drift: str = "0",
    root: str = "",
    html: bool = False,
) -> None:
    """Run all fifteen steps on an embedded cluster of known speed."""
    from tasks import rehearse as rehearsal

    with explaining():
        rehearsal.rehearse(
            _root(root), rehearsal.RehearsalOptions(speedup, noise, trap, seed, generation, nodes, drift), html
        )


@command(options=_REHEARSAL_HELP)
def rehearsal_up(
    c: Any,
    speedup: str = "1.5",
    noise: str = "0.02",
    trap: str = "",
    seed: str = "0",
    generation: str = "0",
    nodes: str = "3",
    drift: str = "0",
    root: str = "",
) -> None:
    """Start the embedded cluster and print how to use it."""
    from tasks import console
    from tasks import rehearse as rehearsal

    with explaining():
        hosts = rehearsal.bring_up(
            _root(root), rehearsal.RehearsalOptions(speedup, noise, trap, seed, generation, nodes, drift)
        )
        console.text(
            f"{nodes} nodes are up; now type:\n  export FABRIC_EXO_INVENTORY={hosts}\n  fab preflight install start"
        )


@command(options={"root": "folder of the rehearsal"})
def rehearsal_down(c: Any, root: str = "") -> None:
    """Stop the embedded cluster; its logs and report stay."""
    from tasks import console
    from tasks import rehearse as rehearsal

    with explaining():
        stopped = rehearsal.take_down(_root(root))
        console.text("\n".join(f"stopped {process}" for process in stopped) or "nothing was running")


def _root(named: str) -> Path:
    from tasks.rehearse import ROOT

    return Path(named).expanduser().resolve() if named else ROOT


def _check_rehearsal(
    root: str, speedup: str, noise: str, trap: str, seed: str, generation: str, nodes: str, drift: str, **_: object
) -> None:
    from tasks import rehearse as rehearsal

    rehearsal.check(_root(root), rehearsal.RehearsalOptions(speedup, noise, trap, seed, generation, nodes, drift))


strictly(
    {"bench": check_bench}
    | dict.fromkeys(("bench-baseline", "bench-comparison", "bench-scale-up"), check_runs)
    | dict.fromkeys(("rehearse", "rehearsal-up"), _check_rehearsal)
)
ns = Collection()
ns.configure({"exo": {"inventory": "hosts.yaml", "profile": ""}})
for _task in (
    verify_python,
    install_srv1,
    install_srv2,
    install_rog,
    start_srv1,
    start_srv2,
    start_rog,
    verify_cluster,
    download_model,
    create_benchmark,
    bench_baseline,
    bench_comparison,
    bench_scale_up,
    document_results,
    stop_cluster,
):
    ns.add_task(_task)
for _task in (preflight_group, install_group, start_group, bench_group, report_group, cleanup_group):
    ns.add_task(_task)
for _task in (
    plan,
    status,
    logs,
    init,
    compare,
    feasibility,
    show_history,
    uninstall_nodes,
    trust_hosts,
    rehearse,
    rehearsal_up,
    rehearsal_down,
    version,
):
    ns.add_task(_task)
