"""Step 11, and once the whole plan, on a genuine Ollama (OLLAMA, OLLAMA_GGUF) with what happens to one in a campaign.

EXO is the rehearsal's: what is proven here is what the product sees and says of Ollama.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from records.campaign import Campaign, load_campaign
from records.samples import read_samples
from rehearsal import cluster
from rehearsal.layout import Layout
from reports.checks.answers import errors, same_model
from reports.checks.prefill import no_cache, warm
from reports.checks.quiet import no_neighbour
from reports.verdict.decision import decide
from tasks.benchmark.models import ollama_models, seen_loaded
from tasks.benchmark.steps import bench_baseline
from tasks.errors import StepError
from tasks.inventory import load_inventory
from tasks.machines.lab import Lab
from tasks.ollama import api as ollama
from tasks.ollama.servers import ask_servers
from tasks.steps import StepNotes
from tests.real.ollama_server import (
    MODEL,
    OLLAMA_GGUF,
    OLLAMA_OTHER,
    OTHER,
    THINKING,
    TWIN,
    GenuineOllama,
    absent,
    again_and_again,
    once,
)
from tests.real.registry import PULLED, registry, without_digests
from tests.support.fab import fab

SAMPLES = "11-bench-baseline.samples.jsonl"

pytestmark = [pytest.mark.timeout(1800), pytest.mark.skipif(bool(absent()), reason=absent())]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Bring up the rehearsal's nodes; the one baseline is the genuine server on rog's address."""
    laid = cluster.up(tmp_path_factory.mktemp("ollama"))
    processes = laid.node("rog").sysroot / "proc"
    shutil.rmtree(processes)
    processes.symlink_to("/proc")  # where the genuine engine is seen
    change(laid)
    yield laid
    cluster.down(laid.root)


@pytest.fixture(scope="module")
def models(layout: Layout) -> GenuineOllama:
    """Make the models once."""
    server = genuine(layout)
    server.start()
    server.make_models()
    server.stop()
    return server


@pytest.fixture
def server(models: GenuineOllama) -> Iterator[GenuineOllama]:
    """Give the running server."""
    models.start()
    yield models
    models.stop()


@pytest.fixture
def lab(layout: Layout) -> Iterator[Lab]:
    """Give a Lab with logs of its own."""
    forget(layout)
    made = Lab(load_inventory(layout.hosts_file), layout.hosts_file)
    yield made
    made.close()
    change(layout)


def forget(layout: Layout) -> None:
    """Take away what was measured before."""
    for path in (layout.root / "logs").rglob("*.json*"):
        path.unlink()


def genuine(layout: Layout) -> GenuineOllama:
    """Return the server on rog's address."""
    return GenuineOllama(layout.root / "genuine", layout.node("rog").address, layout.ollama_port + 1)


def change(layout: Layout, model: str = MODEL, **baseline: Any) -> None:
    """Write the hosts file: one genuine baseline, short runs."""
    head, _, body = layout.hosts_file.read_text(encoding="utf-8").partition("\n")
    hosts = json.loads(body)
    hosts["ollama"] = {"rog": {"node": "rog", "url": genuine(layout).url} | baseline}
    pair = hosts["profiles"][hosts["profile"]]["models"]["small"]
    pair |= {"ollama": model, "ollama_precision": "Q4_1"}
    hosts["bench"] |= {"runs": 4, "max_tokens": 16, "requests": 2, "num_ctx": 1024, "request_timeout_s": 120}
    hosts["decision"] |= {"load_per_cpu": 50}  # whatever else this machine does
    layout.hosts_file.write_text(f"{head}\n{json.dumps(hosts)}\n", encoding="utf-8")


def reopened(layout: Layout, **baseline: Any) -> Lab:
    """Return a Lab on a changed hosts file, with logs of its own."""
    forget(layout)
    change(layout, **baseline)
    return Lab(load_inventory(layout.hosts_file), layout.hosts_file)


def asked(lab: Lab, count: int) -> bool:
    """Tell whether so many requests have ended."""
    return len(read_samples(lab.logs / SAMPLES)[0]) >= count


def measured(lab: Lab, runs: int = 1) -> Campaign:
    """Measure the baseline and return what was left."""
    bench_baseline(lab, runs=str(runs))
    return load_campaign(lab.logs)


def show(what: str, *words: str) -> None:
    """Print what was said, for the note of who ran this."""
    sys.stdout.write(f"\n[{what}] " + "\n    ".join(words) + "\n")


def test_a_healthy_server_has_no_fatal_check(layout: Layout, server: GenuineOllama, lab: Lab) -> None:
    """All fifteen steps with a genuine baseline: no check is fatal, and the constant overhead stands in the report."""
    done = fab("preflight", "install", "start", "bench", "report", "cleanup", hosts=layout.hosts_file, timeout_s=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    campaign = load_campaign(lab.logs)
    decision = decide(campaign)
    version = server.ask("GET", "/api/version")[1]["version"]
    fatal = {check.name: check.evidence for check in decision.checks if check.status == "fatal"}
    told = {check.name: check for check in decision.checks}
    show(f"healthy {version}", decision.headline, *(f"{c.name}: {c.status}: {c.evidence}" for c in decision.checks))
    assert fatal == {}
    assert "before each prompt" in told["warm"].evidence
    assert campaign.benchmark(12).ollama_versions["rog"] == [version, version]  # type: ignore[union-attr]
    assert campaign.cleaned is not None
    assert campaign.cleaned.ollama_changes == []


def test_the_name_in_capitals_and_a_server_that_keeps_nothing(layout: Layout, models: GenuineOllama) -> None:
    """Names ignore case, and OLLAMA_KEEP_ALIVE=0 does not reload between requests: each of ours says how long."""
    models.start(OLLAMA_KEEP_ALIVE="0")
    lab = reopened(layout, model=MODEL.upper())
    try:
        campaign = measured(lab, 2)
    finally:
        lab.close()
        models.stop()
        change(layout)
    found = [check(campaign, 11) for check in (same_model, warm, no_cache, no_neighbour, errors)]
    show("capitals, keep-alive 0", *(f"{c.name}: {c.status}: {c.evidence}" for c in found))
    assert [c.status for c in found if c.name in ("same model", "warm", "no neighbour")] == ["pass"] * 3
    assert campaign.benchmark(11).reload == {"rog": "reload"}  # type: ignore[union-attr]


def test_another_name_of_the_file_is_let_go_of(server: GenuineOllama, lab: Lab) -> None:
    """A model loaded under another name of its file is unloaded under that name, and loaded afresh."""
    server.load(TWIN, -1)
    campaign = measured(lab)
    assert campaign.benchmark(11).reload == {"rog": "reload"}  # type: ignore[union-attr]
    assert campaign.conditions[11][0].load_s


def test_whoever_pins_the_file_is_named_first(server: GenuineOllama, lab: Lab) -> None:
    """A client that loads the file again and again under another name is named before anything is measured."""
    server.load(TWIN)
    with again_and_again(lambda: server.load(TWIN)), pytest.raises(StepError) as caught:
        bench_baseline(lab, runs="1")
    show("pinned", str(caught.value), caught.value.problem.do)
    assert TWIN in caught.value.problem.found
    assert not (lab.logs / SAMPLES).exists()


def test_a_neighbour_in_a_run_is_named(server: GenuineOllama, lab: Lab) -> None:
    """Another model that appears and stays ends the campaign at that moment, by name; the lost run is in the data."""
    with once(lambda: asked(lab, 1), lambda: server.load(OTHER, -1)), pytest.raises(StepError) as caught:
        measured(lab)
    show("neighbour", str(caught.value), caught.value.problem.do)
    assert f"{OTHER} in memory" in caught.value.problem.found


@pytest.mark.parametrize("harm", ["runner killed", "server restarted"])
def test_a_run_that_broke_is_measured_again(harm: str, server: GenuineOllama, lab: Lab) -> None:
    """The run is lost, told once with its reason, and measured again as a whole; cleanup would see the restart."""
    before = ask_servers(lab)["rog"]

    def restart() -> None:
        server.stop()
        server.start()

    act = server.kill_runner if harm == "runner killed" else restart
    with once(lambda: asked(lab, 1) and bool(server.runners()), act):
        campaign = measured(lab)
    found = errors(campaign, 11)
    show(harm, f"{found.status}: {found.evidence}", *ollama.touched(before, ask_servers(lab)["rog"]))
    assert found.status == "warn"
    assert [s.attempt for s in campaign.samples[11] if not s.lost] == [2] * 3
    assert [note.attempt for note in campaign.conditions[11]] == [1, 2]
    if harm == "server restarted":
        assert "rog: its process was started anew" in ollama.touched(before, ask_servers(lab)["rog"])


def test_a_model_that_is_deleted_is_told_with_its_server(server: GenuineOllama, lab: Lab) -> None:
    """The model is gone for good: the repeat cannot be loaded, and the message names arm, address and Ollama's log."""
    server.command("cp", MODEL, "gone:135m")
    pair = lab.profile.models.small
    assert pair.ollama == MODEL
    with once(lambda: asked(lab, 1), lambda: server.command("rm", MODEL)), pytest.raises(StepError) as caught:
        measured(lab, 2)
    server.command("cp", "gone:135m", MODEL)
    server.command("rm", "gone:135m")
    show("deleted", str(caught.value), caught.value.problem.do)
    words = f"{caught.value} {caught.value.problem.do}"
    assert all(word in words for word in ("rog", server.url, f"ollama pull {MODEL}"))
    assert "EXO" not in words


def test_the_cpu_under_a_gpu_claim_is_said_first(layout: Layout, server: GenuineOllama) -> None:
    """A CPU-only server under `gpu: true` is refused when its model is loaded once, with the remedy."""
    lab = reopened(layout, gpu=True)
    pair = lab.profile.models.small
    try:
        with pytest.raises(StepError) as caught:
            seen_loaded(lab, StepNotes(9), pair, ollama_models(lab, pair))
    finally:
        lab.close()
        change(layout)
    show("CPU under a GPU claim", str(caught.value), caught.value.problem.do)
    assert server.url in caught.value.problem.found
    assert "OLLAMA_IGPU_ENABLE=1" in caught.value.problem.do


def test_what_is_asked_is_the_context_of_the_runner(server: GenuineOllama, lab: Lab) -> None:
    """bench.num_ctx reaches the server, and what /api/ps tells of it stands in the record."""
    campaign = measured(lab)
    told = {m.context_length for note in campaign.conditions[11] for m in note.memory_after["rog"]}
    assert told <= {1024, None}
    assert Path(lab.logs / SAMPLES).exists()


def test_another_clients_request_shows_in_the_queue(server: GenuineOllama, lab: Lab) -> None:
    """Another client's long answer of the measured model keeps a request of ours waiting in line, and that is told."""
    with once(lambda: asked(lab, 1), lambda: server.say(MODEL, 48, num_ctx=1024)):
        campaign = measured(lab)
    found = no_neighbour(campaign, 11)
    show("another client's request", f"{found.status}: {found.evidence}")
    assert found.status == "warn"
    assert "as in a queue" in found.evidence


def test_a_model_made_anew_ends_the_campaign(server: GenuineOllama, lab: Lab) -> None:
    """A model that is another one from run 2 on is told at that moment, with both digests."""
    with (
        once(lambda: asked(lab, 2), lambda: server.make(MODEL, more="PARAMETER seed 7\n")),
        pytest.raises(StepError) as caught,
    ):
        measured(lab, 2)
    server.make(MODEL)
    show("made anew", str(caught.value), caught.value.problem.do)
    assert "rog had another model of that name from run 2 on" in caught.value.problem.found


def test_an_upgrade_ends_the_campaign(server: GenuineOllama, lab: Lab) -> None:
    """A server of another version that takes the place of the first one is told at that moment, with both versions."""
    if not OLLAMA_OTHER:
        pytest.skip("OLLAMA_OTHER names no other version")

    def upgrade() -> None:
        server.stop()
        server.start(OLLAMA_OTHER)

    with once(lambda: asked(lab, 2), upgrade), pytest.raises(StepError) as caught:
        measured(lab, 2)
    show("upgraded", str(caught.value), caught.value.problem.do)
    assert "rog: Ollama was " in caught.value.problem.found


def test_a_neighbour_that_takes_the_place_costs_the_run(layout: Layout, models: GenuineOllama) -> None:
    """With OLLAMA_MAX_LOADED_MODELS=1 a neighbour puts our model out in a run: it is lost and measured again."""
    models.start(OLLAMA_MAX_LOADED_MODELS="1")
    lab = reopened(layout)
    try:
        with once(lambda: asked(lab, 1), lambda: models.load(OTHER)):
            campaign = measured(lab)
    finally:
        lab.close()
        models.stop()
    found = errors(campaign, 11)
    show("one model at a time", f"{found.status}: {found.evidence}")
    assert found.status == "warn"
    assert [s.attempt for s in campaign.samples[11] if not s.lost] == [2] * 3


def test_an_engine_without_its_ollama_is_named(server: GenuineOllama, lab: Lab) -> None:
    """The server is killed alone and started again: the engine that it left is named with its PID."""
    left: list[int] = []

    def die() -> None:
        left.extend(server.runners())
        server.die_alone()
        server.start()

    try:
        with once(lambda: asked(lab, 1) and bool(server.runners()), die), pytest.raises(StepError) as caught:
            measured(lab)
    finally:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    show("engine left behind", str(caught.value), caught.value.problem.do)
    assert f"(end it: kill {left[0]})" in str(caught.value)


def test_thoughts_are_output_like_any_other(layout: Layout, server: GenuineOllama) -> None:
    """A model that thinks all the time it is given answers with no word but `thinking`: tokens and times are theirs."""
    server.make("thinker:135m", template=THINKING)
    said = server.ask("POST", "/api/generate", {"model": "thinker:135m", "prompt": "Why?", "stream": False,
                                                "options": {"num_predict": 8, "num_ctx": 1024}})[1]  # fmt: skip
    lab = reopened(layout, model="thinker:135m")
    try:
        campaign = measured(lab, 2)
    finally:
        lab.close()
        server.command("rm", "thinker:135m")
        change(layout)
    samples = campaign.samples[11]
    show("thinking", str({k: said.get(k) for k in ("response", "thinking")}), repr(samples[-1].text_head))
    assert (bool(said["thinking"]), said["response"]) == (True, "")
    assert [(s.error, s.output_tokens, bool(s.text_head)) for s in samples] == [(None, 16, True)] * 6
    assert all(s.first_token_s < s.last_token_s <= s.total_s for s in samples)  # type: ignore[operator]
    assert errors(campaign, 11).status == "pass"


def test_a_model_that_is_pulled_in_a_run_is_a_neighbours_work(server: GenuineOllama, lab: Lab) -> None:
    """Another client pulls a model while ours is measured: no run is lost to it, and cleanup would name what is new."""
    before = ask_servers(lab)["rog"]
    pulled: list[tuple[int, Any]] = []
    with registry(Path(OLLAMA_GGUF).read_bytes().replace(b"HuggingFace", b"HuggingPull", 1)) as address:
        name = f"{address.removeprefix('http://')}/{PULLED}"
        asking = {"model": f"{address}/{PULLED}", "insecure": True, "stream": False}
        with once(lambda: asked(lab, 1), lambda: pulled.append(server.ask("POST", "/api/pull", asking))):
            campaign = measured(lab, 2)
    told = ollama.touched(before, ask_servers(lab)["rog"])
    server.command("rm", name)
    found = [check(campaign, 11) for check in (same_model, errors, no_neighbour)]
    show("pulled", str(pulled), *told, *(f"{c.name}: {c.status}: {c.evidence}" for c in found))
    assert pulled == [(200, {"status": "success"})]
    assert told == [f"rog: {name} is new"]
    assert [c.status for c in found if c.name != "no neighbour"] == ["pass"] * 2


def test_a_memory_without_digests_is_known_by_its_files(layout: Layout, server: GenuineOllama) -> None:
    """Where /api/ps tells no digest the file's other name is found through /api/show, let go of, and loaded afresh."""
    server.load(TWIN, -1)
    with without_digests(server.url, server.address) as url:
        lab = reopened(layout, url=url)
        try:
            campaign = measured(lab)
        finally:
            lab.close()
            change(layout)
    note = campaign.conditions[11][0]
    show("no digests", str(note.memory_before))
    assert campaign.benchmark(11).reload == {"rog": "reload"}  # type: ignore[union-attr]
    assert [(m.name, m.digest) for m in note.memory_before["rog"]] == [(MODEL, "")]
    assert [check(campaign, 11).status for check in (same_model, errors)] == ["pass"] * 2


def test_a_server_that_listens_on_loopback_alone(layout: Layout, models: GenuineOllama) -> None:
    """As Ollama listens where nobody sets OLLAMA_HOST: asked from another machine it is refused with what to set."""
    at_home = GenuineOllama(layout.root / "genuine", "127.0.0.1", models.port)
    at_home.start()
    try:
        done = fab("preflight", hosts=layout.hosts_file)
    finally:
        at_home.stop()
    show("listens on loopback alone", done.stderr)
    assert done.returncode == 1
    assert models.url in done.stderr
    assert "OLLAMA_HOST=0.0.0.0" in done.stderr
