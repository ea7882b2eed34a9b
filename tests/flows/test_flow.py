"""The four literal commands of the plan against a rehearsal: fifteen records, a report, GO at a true 2.0."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import jsonschema
import pytest

from records.campaign import load_campaign
from records.plan import STEPS
from records.samples import read_conditions, read_samples
from rehearsal import cluster
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.plan import plan_ahead
from tests import PROJECT
from tests.support.fab import FAB, fab, marked

COMMANDS = (("preflight", "install", "start"), ("bench", "--runs", "5"), ("report",), ("cleanup",))
PROFILE = "llama-0015"
SPEEDUP = 2.0
Done = dict[tuple[str, ...], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bring up a rehearsal at a true speed-up so far beyond the target that a busy machine hides nothing of it."""
    folder = tmp_path_factory.mktemp("flow")
    cluster.up(folder, speedup=SPEEDUP)
    yield folder
    cluster.down(folder)


@pytest.fixture(scope="module")
def done(root: Path) -> Done:
    """Type the four commands, once for all tests of this file; the second anew where the machine stood still in it."""
    ended: Done = {}
    for words in COMMANDS:
        ended[words] = fab(*words, hosts=root / "hosts.yaml")
        if words[0] == "bench" and stood_still(root):
            again = fab(*words, "--fresh", hosts=root / "hosts.yaml")
            again.stdout = ended[words].stdout + again.stdout
            ended[words] = again
    return ended


def stood_still(root: Path) -> bool:
    """Tell whether a timed request of step 12 took twice its arm's usual: a rehearsal's lasts a fifth of a second."""
    samples = read_samples(root / "logs" / PROFILE / "12-bench-comparison.samples.jsonl")[0]
    timed = [s for s in samples if not s.warmup and s.total_s]
    usual = {arm: median(s.total_s or 0.0 for s in timed if s.arm == arm) for arm in {s.arm for s in timed}}
    return any((s.total_s or 0.0) > 2 * usual[s.arm] for s in timed)


pytestmark = pytest.mark.timeout(1200)


def test_every_command_ends_well(done: Done) -> None:
    """All four commands exit 0 and say nothing on stderr."""
    assert {words: (one.returncode, one.stderr) for words, one in done.items()} == dict.fromkeys(COMMANDS, (0, ""))


def test_each_step_has_its_summary_line(done: Done) -> None:
    """Each of the fifteen steps shows one line with its number, name and status, without colour in a pipe."""
    shown = "".join(one.stdout for one in done.values())
    assert all(f"{step.number:>2}  {step.name:<17} ok" in shown for step in STEPS)
    assert "\x1b" not in shown


def test_the_three_nodes_open_apis_are_two_warnings(done: Done) -> None:
    """Preflight has one firewall line for all three, start one word about what it opens; each is said once."""
    shown = done["preflight", "install", "start"].stdout
    assert re.findall(r"EXO's API on port \d+ of (.*) will have no password; let only the cluster in", shown) == [
        "srv1, srv2, rog"
    ]
    assert shown.count("EXO's API listens on every address") == 1


def test_fifteen_records_fit_their_schema(root: Path, done: Done) -> None:
    """Every step left a record that the published schema accepts, with commands, departures and no traceback."""
    schema = json.loads((PROJECT / "schemas" / "record.schema.json").read_text(encoding="utf-8"))
    records = load_campaign(root / "logs" / PROFILE).records
    assert list(records) == [step.number for step in STEPS]
    for step in STEPS:
        jsonschema.validate(json.loads((root / "logs" / PROFILE / step.record_name).read_bytes()), schema)
    assert {record.status for record in records.values()} <= {"ok", "already"}  # steps 9 and 10, where typed anew
    assert all(record.rehearsal and record.rehearsal["speedup"] == SPEEDUP for record in records.values())
    assert sum(len(record.deviations) for record in records.values()) >= 15


def test_samples_are_complete_and_interleaved(root: Path, done: Done) -> None:
    """Step 12 holds 5 runs of 3 timed requests and a warm-up for each of three arms, no arm in one block."""
    file = root / "logs" / PROFILE / "12-bench-comparison.samples.jsonl"
    samples, torn = read_samples(file)
    assert torn == []
    counts = {(s.arm, s.warmup): 0 for s in samples}
    for sample in samples:
        counts[sample.arm, sample.warmup] += 1
        assert sample.error is None
    assert counts == {(arm, w): 5 if w else 15 for arm in ("exo", "srv1", "rog") for w in (True, False)}
    order = list(dict.fromkeys((s.arm, s.run) for s in samples))
    assert sum(a[0] == b[0] for a, b in pairwise(order)) < len(order) - 3
    schema = json.loads((PROJECT / "schemas" / "sample.schema.json").read_text(encoding="utf-8"))
    for line in file.read_text(encoding="utf-8").splitlines():
        jsonschema.validate(json.loads(line), schema)


def test_the_arms_that_do_not_run_are_out_of_memory(root: Path, done: Done) -> None:
    """Before each run every other arm was unloaded, and before each EXO run the cluster was whole."""
    notes, _ = read_conditions(root / "logs" / PROFILE / "12-bench-comparison.conditions.jsonl")
    assert len(notes) == 15
    assert all(note.neighbours_loaded == [] for note in notes)
    assert all(
        note.topology_complete == dict.fromkeys(("srv1", "srv2", "rog"), True) for note in notes if note.arm == "exo"
    )
    assert all(note.ollama_size_vram_bytes for note in notes if note.arm == "rog")


def test_a_true_speedup_of_two_is_go(root: Path, done: Done) -> None:
    """The report says GO with an interval that holds the true 2.0, under a banner that says it is a rehearsal."""
    results = json.loads((root / "docs" / "exo-phase1-results.json").read_text(encoding="utf-8"))
    assert results["decision"]["verdict"] == "GO"
    against_rog = next(c for c in results["decision"]["comparisons"] if c["baseline"] == "rog")
    assert against_rog["lower"] < 1.05 * SPEEDUP
    assert against_rog["upper"] > 0.95 * SPEEDUP
    text = (root / "docs" / "exo-phase1-results.md").read_text(encoding="utf-8")
    assert text.index("REHEARSAL") < text.index("GO")


def test_report_names_existing_charts_and_files(root: Path, done: Done) -> None:
    """Every chart the report links exists as SVG and PNG, and the plan's two text files are there."""
    docs = root / "docs"
    text = (docs / "exo-phase1-results.md").read_text(encoding="utf-8")
    charts = sorted(docs.glob("charts/*.svg"))
    assert len(charts) >= 2
    assert all(f"charts/{chart.name}" in text and chart.with_suffix(".png").is_file() for chart in charts)
    assert "llama-3.2-3b" in (docs / "benchmark-results-qwen3b.txt").read_text(encoding="utf-8")
    assert (docs / "benchmark-results-qwen32b.txt").is_file()


def test_rendering_again_gives_the_same_bytes(root: Path, done: Done) -> None:
    """`fab report` twice on the same logs leaves the same files, byte for byte, and --gate exits 0 for GO."""
    once = fab("report", hosts=root / "hosts.yaml")
    before = {path: path.read_bytes() for path in (root / "docs").rglob("*") if path.is_file()}
    again = fab("report", "--gate", hosts=root / "hosts.yaml")
    assert (once.returncode, again.returncode) == (0, 0)
    assert {path: path.read_bytes() for path in (root / "docs").rglob("*") if path.is_file()} == before


def test_cleanup_leaves_the_nodes_and_ollama_alone(root: Path, done: Done) -> None:
    """After cleanup no EXO of ours runs, its ports are free, both Ollama answer with the models they had."""
    cleaned = load_campaign(root / "logs" / PROFILE).records[15].result
    assert cleaned["ollama_unchanged"] is True
    assert all(free for node in cleaned["nodes"].values() for free in node["ports_free"].values())
    assert [line for line in marked(root) if "/venv/bin/exo" in line] == []
    assert len([line for line in marked(root) if "rehearsal.ollama" in line]) == 2


def test_steps_converge(root: Path, done: Done) -> None:
    """Typed again, an install and a cleanup find everything as it should be and say `already`."""
    for task, number in (("install-srv1", 2), ("stop-cluster", 15)):
        again = fab(task, hosts=root / "hosts.yaml")
        assert (again.returncode, again.stderr) == (0, "")
        assert load_campaign(root / "logs" / PROFILE).records[number].status == "already"
    samples = (root / "logs" / PROFILE / "12-bench-comparison.samples.jsonl").read_bytes()
    again = fab("bench", hosts=root / "hosts.yaml")  # the cluster is down: a finished campaign asks no machine
    assert (again.returncode, again.stderr) == (0, "")
    assert re.findall(r"bench-\S+ +already", again.stdout) != []
    assert "fab bench --fresh" in again.stdout
    assert (root / "logs" / PROFILE / "12-bench-comparison.samples.jsonl").read_bytes() == samples


def test_the_plan_is_what_was_run(root: Path, done: Done) -> None:
    """What `fab plan` says will be run was run, word for word, and no file was written that it had not named.

    Only digests, tokens and the numbers of processes, which nobody knows before, are left out of account; of a
    benchmark, the script's runs are compared.
    """

    def plain(text: str) -> str:
        text = re.sub(r"\b[0-9a-f]{64}\b|REVISION", "DIGEST", text)
        text = re.sub(r"\.environment-([0-9a-f]{16}|TOKEN)", ".environment", text)
        return re.sub(r'"parts": {.*}', '"parts": {}', text)

    hosts = root / "hosts.yaml"
    lab = Lab(load_inventory(hosts), hosts)
    records = load_campaign(lab.logs).records
    for ahead in plan_ahead(lab).steps:
        if records[ahead.step].status != "ok":
            continue
        ran = {(command.host, plain(command.command)) for command in records[ahead.step].commands}
        certain = {(a.node, plain(a.text)) for a in ahead.actions if a.kind == "run" and not a.when}
        named = {(a.node, plain(a.text)) for a in ahead.actions if a.kind == "write"}
        told = {(node, m[1]) for node, text in ran if (m := re.fullmatch(r"write \\d+ bytes to (.*)", text))}
        assert (ahead.name, certain - ran, told - named) == (ahead.name, set(), set())
        assert ahead.step not in range(2, 5) or {text for _, text in ran} & {
            plain(a.text) for a in ahead.actions if "unless it is there" in a.when
        }


def test_two_campaigns_side_by_side(root: Path, done: Done) -> None:
    """`fab compare` of a campaign with itself finds no difference, and a folder without one is one message."""
    logs = root / "logs" / PROFILE
    same = fab("compare", str(logs), str(logs))
    assert (same.returncode, same.stderr) == (0, "")
    assert "REHEARSAL" in same.stdout
    none = fab("compare", str(logs), str(root / "nodes"))
    assert none.returncode == 1
    assert "Traceback" not in none.stderr


@pytest.mark.long
def test_requests_at_once_are_a_separate_experiment(root: Path, done: Done) -> None:
    """After the verdict, `fab bench --concurrency` shows aggregate rates, labelled, and moves no verdict.

    EXO 0.0.15 answers three at once wrongly with HTTP 200; only the comparison with the text alone tells.
    """
    started = fab("start", hosts=root / "hosts.yaml")
    assert started.returncode == 0, started.stderr
    together = fab("bench", "--concurrency", "1,2,3", hosts=root / "hosts.yaml")
    assert (together.returncode, together.stderr) == (0, "")
    assert "SEPARATE EXPERIMENT" in together.stdout
    assert re.search(r"^exo +2 +0 .* as alone$", together.stdout, re.MULTILINE)
    assert re.search(r"^exo +3 +0 .* 3 of 3 differ from the text alone$", together.stdout, re.MULTILINE)
    assert re.search(r"^srv1 +3 +0 .* as alone$", together.stdout, re.MULTILINE)
    assert fab("report", "--gate", hosts=root / "hosts.yaml").returncode == 0
    assert "Texts unlike the single-stream text" in (root / "docs/exo-phase1-results.md").read_text(encoding="utf-8")
    assert fab("cleanup", hosts=root / "hosts.yaml").returncode == 0
    late = fab("bench-comparison", "--runs", "3", hosts=root / "hosts.yaml")
    assert late.returncode == 1
    assert "measured with other options" in late.stderr
    assert fab("report", "--gate", hosts=root / "hosts.yaml").returncode == 0
    dead = fab("bench", "--concurrency", "1", hosts=root / "hosts.yaml")
    assert dead.returncode == 1
    assert re.search(r"^exo +1 +1 .* not comparable: failed alone: no connection", dead.stdout, re.MULTILINE)
    assert re.search(r"^exo: could not go on\.\n +found: +no connection to", dead.stderr)


def test_status_when_all_is_done(root: Path, done: Done) -> None:
    """`fab status` tells of every node that its EXO does not run and what each Ollama has, and of the campaign."""
    told = fab("status", "--json", hosts=root / "hosts.yaml")
    assert (told.returncode, told.stderr) == (0, "")
    status = json.loads(told.stdout)
    jsonschema.validate(status, json.loads((PROJECT / "schemas" / "status.schema.json").read_text(encoding="utf-8")))
    nodes = status["nodes"]
    assert {key: (node["reachable"], node["pid"]) for key, node in nodes.items()} == dict.fromkeys(nodes, (True, None))
    assert list(nodes) == ["srv1", "srv2", "rog"]
    assert {step["step"] for step in status["steps"] if step["status"] in ("ok", "already")} >= set(range(1, 13))
    shown = fab("status", hosts=root / "hosts.yaml")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(key in shown.stdout for key in ("srv1", "srv2", "rog"))


def test_status_names_who_is_at_work(root: Path, done: Done) -> None:
    """While another `fab` waits for an answer it holds the lock of every node, and status says so, once."""
    environment = os.environ | {"FABRIC_EXO_INVENTORY": str(root / "hosts.yaml")}
    with subprocess.Popen(
        [FAB, "uninstall"], cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert any(line.startswith("rog: remove") for line in other.stdout)
        shown = fab("status", hosts=root / "hosts.yaml")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert re.search(
            rf"^in use by `fab uninstall` of \S+, PID {other.pid}, since .* \(srv1, srv2, rog\)$",
            shown.stdout,
            re.MULTILINE,
        )
        other.communicate("no\n", timeout=60)
    assert other.returncode == 0


def test_uninstall_asks_and_leaves_nothing_of_ours(root: Path, done: Done) -> None:
    """With nobody at the keyboard nothing goes; told `--yes`, all of ours does, after it was listed; then none is."""
    ours = [root / "nodes" / key / "home" / ".exo-phase1" for key in ("srv1", "srv2", "rog")]
    asked = fab("uninstall", hosts=root / "hosts.yaml")
    assert (asked.returncode, "nothing was removed" in asked.stdout) == (0, True)
    assert all(folder.is_dir() for folder in ours)
    told = fab("uninstall", "--models", "--yes", hosts=root / "hosts.yaml")
    assert (told.returncode, told.stderr) == (0, "")
    assert all(re.search(rf"^{folder.parts[-3]}: remove +.*\.exo-phase1", told.stdout, re.MULTILINE) for folder in ours)
    assert not any(folder.exists() for folder in ours)
    assert "nothing of ours" in fab("uninstall", "--yes", hosts=root / "hosts.yaml").stdout
    assert not any(folder.exists() for folder in ours)
