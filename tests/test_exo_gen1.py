"""EXO 1.x: the recorded states of v1.0.71 drive the code that adds, downloads, places and deletes."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.exo import gen1, gen1_install
from tasks.exo.interface import Refused, Reply, Request
from tasks.hosts import Exo, Pair, Ports
from tests.recorded import Performed, ok, recorded

PEERS = {"srv1": "10.99.0.1", "srv2": "10.99.0.2", "rog": "10.99.0.3"}
NODES = list(PEERS)
MODEL = "mlx-community/Llama-3.2-1B-Instruct-4bit"
QWEN = "mlx-community/Qwen2.5-3B-Instruct-4bit"
IDS = {
    "srv1": "12D3KooWW7GMXOL26CUP5257SSJ7RVF2HP7S3QVWKJT7SQ7VPQ5V",
    "srv2": "12D3KooWC5L7MRWCB2PZ7L5LRYDLUZDWV5NXRMMVK2AQ5MZ7F3WX",
    "rog": "12D3KooW6TI4Z2P5BPFGWDJCBE6SDAXTC2AIOC4675UTNEP56TDN",
}


def pair(model: str = MODEL) -> Pair:
    """Return a pair for `model`."""
    return Pair(model, "llama3.2:1b", "MLX 4-bit", "Q4_K_M")


def exo(**fields: object) -> Exo:
    """Return a 1.0.71 from git, with `fields` over it."""
    base = {
        "release": "1.0.71",
        "source": "git+https://github.com/exo-explore/exo@v1.0.71",
        "ports": Ports(52415, 4001),
    }
    return Exo(**(base | fields))  # type: ignore[arg-type]


class Cluster:
    """A dumb 1.x cluster: holds a recorded state and moves through recorded runner states as seconds pass."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = json.loads(recorded("exo-1.x", "state_idle.json"))
        self.instance: dict[str, Any] = json.loads(recorded("exo-1.x", "instance.json"))
        self.runners = [json.loads(line) for line in recorded("exo-1.x", "runners.jsonl").splitlines()]
        self.known = [MODEL]
        self.ignored_placings = 0
        self.placed_s: float | None = None
        self.vanishes = False
        self.add = ok("{}")
        self.hook: Callable[[float], None] = lambda _: None

    def __call__(self, node: str, request: Request, now_s: float) -> Reply:
        """Answer as the recorded cluster does."""
        path = request.path.partition("?")[0]
        if path == "/node_id":
            return ok(json.dumps(IDS[node]))
        if path == "/v1/models":
            return ok(json.dumps({"object": "list", "data": [{"id": model} for model in self.known]}))
        if path == "/models/add":
            return self.add
        if path == "/instance/previews":
            return ok(recorded("exo-1.x", "previews.json"))
        if path == "/download/start":
            return ok("{}")
        if path == "/place_instance":
            if self.ignored_placings:
                self.ignored_placings -= 1
            else:
                self.placed_s = now_s
            return ok(recorded("exo-1.x", "place_200.json"))
        if request.method == "DELETE":
            self.placed_s, self.state["instances"] = None, {}
            return ok("{}")
        assert path == "/state"
        self.hook(now_s)
        return ok(json.dumps(self._state(now_s)))

    def _state(self, now_s: float) -> dict[str, Any]:
        state = copy.deepcopy(self.state)
        if self.placed_s is not None:
            at = min(int(now_s - self.placed_s), len(self.runners) - 1)
            state["runners"] = self.runners[at]
            if not (self.vanishes and at == len(self.runners) - 1):
                state["instances"] = self.instance
        return state


def forget(cluster: Cluster, model: str = MODEL) -> None:
    """Make the recorded state one in which nobody has downloaded `model`."""
    for entries in cluster.state["downloads"].values():
        for entry in entries:
            done = entry.get("DownloadCompleted")
            if done and next(iter(done["shardMetadata"].values()))["modelCard"]["modelId"] == model:
                entry["DownloadPending"] = entry.pop("DownloadCompleted")


def progress(cluster: Cluster, name: str, **fields: object) -> None:
    """Put every node's download of MODEL into the state `name` with `fields`."""
    for entries in cluster.state["downloads"].values():
        for entry in entries:
            inner = next(iter(entry.values()))
            if next(iter(inner["shardMetadata"].values()))["modelCard"]["modelId"] == MODEL:
                entry.clear()
                entry[name] = inner | fields


def test_launch_tells_every_other_node_by_its_address() -> None:
    """MDNS does not cross Tailscale: the peers are libp2p addresses, the own one left out."""
    launch = gen1.launch(exo(), "srv2", PEERS, "/h/venv/bin/exo", "/h/run", 128)
    assert launch.argv == [
        "/h/venv/bin/exo",
        *("--api-port", "52415", "--libp2p-port", "4001"),
        *("--bootstrap-peers", "/ip4/10.99.0.3/tcp/4001,/ip4/10.99.0.1/tcp/4001"),
    ]
    assert (launch.files, launch.ports) == ({}, (52415, 4001))
    assert "49153" in " ".join(launch.unwanted)


@pytest.mark.parametrize("release", ["1.0.72", "1.1.0", "1.1"])
def test_launch_refuses_what_has_no_explicit_peers_over_tailscale(release: str) -> None:
    """After 1.0.71 peers are found by multicast alone, which Tailscale does not carry; a LAN is fine."""
    tailnet = PEERS | {"rog": "100.93.122.109"}
    with pytest.raises(Refused, match=r"rog 100\.93\.122\.109") as caught:
        gen1.launch(exo(release=release), "srv1", tailnet, "/exo", "/run", 16)
    assert "1.0.71" in caught.value.needed
    assert "--zenoh-port" in gen1.launch(exo(release=release), "srv1", PEERS, "/exo", "/run", 16).argv


def test_launch_refuses_releases_that_cannot_be_told_their_peers() -> None:
    """1.0.68 and before have no --bootstrap-peers."""
    with pytest.raises(Refused, match="no --bootstrap-peers"):
        gen1.launch(exo(release="1.0.68"), "srv1", PEERS, "/exo", "/run", 16)


def test_topology_finds_every_node_by_its_address() -> None:
    """Random ids become the keys of hosts.yaml, and all six edges are there."""
    topology = gen1.parse_topology(recorded("exo-1.x", "state_idle.json"), PEERS)
    assert set(topology.nodes) == set(PEERS)
    assert topology.edges == {(a, b) for a in PEERS for b in PEERS if a != b}
    assert topology.nodes["rog"] == "Unknown Model, Unknown Chip, Linux"
    assert gen1.device_kind(topology.nodes["rog"]) == "cpu"


def test_topology_of_a_single_node_is_found_by_its_interface() -> None:
    """Before any edge exists, the own address among its interfaces tells who it is."""
    state = json.loads(recorded("exo-1.x", "state_idle.json"))
    state["topology"] = {"nodes": [IDS["srv2"]], "connections": {}}
    topology = gen1.parse_topology(json.dumps(state), PEERS)
    assert (set(topology.nodes), topology.edges) == ({"srv2"}, frozenset())


def test_topology_keeps_the_id_of_a_stranger() -> None:
    """A node with none of our addresses keeps EXO's own id, so the cluster is not taken for complete."""
    topology = gen1.parse_topology(recorded("exo-1.x", "state_idle.json"), {"srv1": "10.99.0.1"})
    assert set(topology.nodes) == {"srv1", IDS["srv2"], IDS["rog"]}


def test_topology_counts_a_connection_only_where_an_answer_came() -> None:
    """A sink without a single connection is no edge."""
    state = json.loads(recorded("exo-1.x", "state_idle.json"))
    state["topology"]["connections"][IDS["srv1"]][IDS["srv2"]] = []
    assert ("srv1", "srv2") not in gen1.parse_topology(json.dumps(state), PEERS).edges


@settings(max_examples=150, deadline=None)
@given(st.text() | st.from_regex(r'\{"topology": \{"nodes": \[.*\]\}, "instances": \{.*\}\}'))
def test_topology_parser_never_fails_otherwise(text: str) -> None:
    """No input makes the parser raise anything but Refused."""
    try:
        gen1.parse_topology(text, PEERS)
    except Refused as error:
        assert error.do


def test_make_ready_with_everything_downloaded_places_and_waits_for_every_runner() -> None:
    """The recorded placement is ready only when all three of its runners are."""
    done = Performed(gen1.make_ready(pair(), NODES, "srv1", 600), Cluster())
    assert done.finding.instance == "39cf0bf4-cf95-4511-a481-20832fe8cd91"
    assert set(done.finding.downloaded) == set(NODES)
    assert "complete" in done.finding.downloaded["rog"]
    assert done.bodies[done.asked.index(("srv1", "POST", "/place_instance"))] == {
        "model_id": MODEL,
        "sharding": "Pipeline",
        "instance_meta": "MlxRing",
        "min_nodes": 3,
    }
    assert [a for a in done.asked if a[2] == "/download/start"] == []
    assert any("WarmingUp" in text for text in done.progress)
    assert done.waited_s >= 5


def test_make_ready_places_again_where_200_led_to_nothing() -> None:
    """An accepted placement that never shows is repeated, as the recorded one had to be."""
    cluster = Cluster()
    cluster.ignored_placings = 2
    done = Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    assert sum(a[2] == "/place_instance" for a in done.asked) == 3
    cluster = Cluster()
    cluster.ignored_placings = 10_000
    with pytest.raises(Refused, match="no instance ever appeared"):
        Performed(gen1.make_ready(pair(), NODES, "srv1", 6000), cluster)


def test_make_ready_keeps_a_whole_instance_and_deletes_a_smaller_one() -> None:
    """Run twice it says so at once; an instance over fewer nodes is replaced."""
    cluster = Cluster()
    cluster.placed_s = -100.0
    again = Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    assert not any(a[2] == "/place_instance" for a in again.asked)
    cluster = Cluster()
    small = json.loads(recorded("exo-1.x", "instance.json"))
    inner = next(iter(small.values()))["MlxRingInstance"]["shardAssignments"]
    inner["nodeToRunner"] = dict(list(inner["nodeToRunner"].items())[:1])
    cluster.state["instances"] = {"small": next(iter(small.values()))}
    done = Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    assert ("srv1", "DELETE", "/instance/small") in done.asked
    assert done.finding.instance == "39cf0bf4-cf95-4511-a481-20832fe8cd91"


def test_make_ready_refuses_a_failed_runner_with_its_message_and_the_pin() -> None:
    """The recorded failure of the locked mlx names the cause and the override; older runners' failures do not count."""
    cluster = Cluster()
    cluster.instance = json.loads(recorded("exo-1.x", "instance_failing.json"))
    cluster.runners = [json.loads(line) for line in recorded("exo-1.x", "runners_failing.jsonl").splitlines()]
    with pytest.raises(Refused, match="new_thread_local_stream") as caught:
        Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    assert "GenerationBatch" not in caught.value.found
    assert "mlx==0.31.2" in caught.value.do


def test_make_ready_refuses_an_instance_that_vanishes() -> None:
    """Losing a node deletes the instance without any failed runner."""
    cluster = Cluster()
    cluster.runners = cluster.runners[:2]
    cluster.vanishes = True
    with pytest.raises(Refused, match="was deleted while it was loading"):
        Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)


def test_make_ready_downloads_on_every_node_and_follows_it() -> None:
    """Each node is told to download by its own id, and the progress is shown until all are complete."""
    cluster = Cluster()
    forget(cluster)

    def move(now_s: float) -> None:
        if 0 < now_s < 4:
            progress(
                cluster,
                "DownloadOngoing",
                downloadProgress={"total": {"inBytes": 4e9}, "downloaded": {"inBytes": now_s * 1e9}},
            )
        elif now_s >= 4:
            progress(cluster, "DownloadCompleted", total={"inBytes": 4e9})

    cluster.hook = move
    done = Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    starts = [body for asked, body in zip(done.asked, done.bodies, strict=True) if asked[2] == "/download/start"]
    assert {body["targetNodeId"] for body in starts} == set(IDS.values())
    assert all("PipelineShardMetadata" in body["shardMetadata"] for body in starts)
    assert "srv1 50 %, srv2 50 %, rog 50 %" in done.progress
    assert done.finding.downloaded["srv2"] == "4.0 GB, complete"


def test_make_ready_refuses_a_failed_and_a_stalled_download() -> None:
    """`DownloadFailed` is told with its message, and bytes that stand still for three minutes are a failure."""
    cluster = Cluster()
    progress(cluster, "DownloadFailed", errorMessage="No space left on device")
    with pytest.raises(Refused, match="No space left on device"):
        Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    cluster = Cluster()
    ongoing = {"total": {"inBytes": 4e9}, "downloaded": {"inBytes": 1e9}}
    progress(cluster, "DownloadOngoing", downloadProgress=ongoing)
    with pytest.raises(Refused, match=r"stands still at 1\.0 GB of 4\.0 GB"):
        Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)


def test_make_ready_adds_a_model_that_has_no_card() -> None:
    """Qwen2.5 has no card in 1.0.71: it is added, and a placement preview tells its metadata."""
    cluster = Cluster()
    cluster.state["downloads"] = {}
    placed = json.dumps(cluster.instance).replace(MODEL, QWEN)
    cluster.instance = json.loads(placed)

    def complete(now_s: float) -> None:
        if now_s >= 2:
            base = json.loads(recorded("exo-1.x", "state_idle.json").replace(MODEL, QWEN))
            cluster.state["downloads"] = base["downloads"]

    cluster.hook = complete
    done = Performed(gen1.make_ready(pair(QWEN), NODES, "srv1", 600), cluster)
    assert ("srv1", "POST", "/models/add") in done.asked
    assert any(a[2].startswith("/instance/previews?model_id=mlx-community%2FQwen2.5") for a in done.asked)


def test_make_ready_without_the_hub_says_so() -> None:
    """The recorded refusal of /models/add names the hub."""
    cluster = Cluster()
    cluster.add = Reply(400, recorded("exo-1.x", "models_add_no_hub.json"))
    with pytest.raises(Refused, match="Cannot connect to host huggingface"):
        Performed(gen1.make_ready(pair(QWEN), NODES, "srv1", 600), cluster)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 200, 200, 200, 404, 500]),
            st.sampled_from(['"id"', "{}", "[]", "x", '{"data": [{"id": "m"}]}', '{"instances": {"a": {}}}']),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_flows_end_or_refuse_whatever_is_answered(replies: list[tuple[int, str]]) -> None:
    """No sequence of answers makes a flow raise anything but Refused, or go on for ever."""
    turn = iter(range(10_000_000))

    def server(node: str, request: Request, now_s: float) -> Reply:
        return Reply(*replies[next(turn) % len(replies)])

    for flow in (gen1.make_ready, gen1.unload):
        try:
            Performed(flow(pair("m"), NODES, "srv1", 300), server)
        except Refused as error:
            assert error.found


def test_unload_deletes_every_instance_and_waits_until_it_is_gone() -> None:
    """The model leaves the memory; what lies on disk stays."""
    cluster = Cluster()
    cluster.placed_s = -100.0
    done = Performed(gen1.unload(pair(), NODES, "srv1", 60), cluster)
    assert ("srv1", "DELETE", "/instance/39cf0bf4-cf95-4511-a481-20832fe8cd91") in done.asked
    assert done.asked[-1] == ("srv1", "GET", "/state")
    nothing = Performed(gen1.unload(pair(), NODES, "srv1", 60), Cluster())
    assert all(a[1] == "GET" for a in nothing.asked)


def test_chat_is_read_and_its_errors_are_told() -> None:
    """The recorded answer, the recorded 404 without an instance, and a wrong model."""
    answer = gen1.parse_chat(ok(recorded("exo-1.x", "chat.json")), MODEL)
    assert (answer.output_tokens, answer.finish_reason) == (8, "length")
    assert gen1.parse_chat(ok(recorded("exo-1.x", "chat_bench.json")), MODEL).output_tokens is None
    with pytest.raises(Refused, match="no instance of"):
        gen1.parse_chat(Reply(404, recorded("exo-1.x", "chat_no_instance.json")), MODEL)
    with pytest.raises(Refused, match="answered, with HTTP 200"):
        gen1.parse_chat(ok(recorded("exo-1.x", "chat.json")), QWEN)
    with pytest.raises(Refused, match="no answer"):
        gen1.parse_chat(Reply(0, "refused"), MODEL)


def test_chat_request_fixes_the_length() -> None:
    """1.x honours max_tokens of a request."""
    request = gen1.chat_request(MODEL, "Say hello.", 1, 900)
    assert request.body is not None
    assert (request.body["max_tokens"], request.body["stream"], request.timeout_s) == (1, False, 900)


def test_install_names_all_tools_and_converges_step_by_step() -> None:
    """From git: fetch, dashboard, locked environment with the extra `cpu`, and the overrides last of all."""
    plan = gen1.install_plan(exo(overrides=["mlx==0.31.2"]), "srv1", "/h", "/usr/bin/python3.13")
    assert plan.tools == ("git", "uv", "cargo", "node", "npm")
    commands = [step.command for step in plan.steps]
    assert "refs" not in commands[1]
    assert re.search(r"fetch .* origin v1\.0\.71", commands[1])
    assert "npm ci" in commands[2]
    assert "--frozen" in commands[3]
    assert "--extra cpu" in commands[3]
    assert "--override /h/overrides.txt mlx==0.31.2" in commands[4]
    assert (plan.exo, plan.python) == ("/h/venv/bin/exo", "/h/venv/bin/python")


def test_install_of_a_wheel_needs_no_build_tools() -> None:
    """A wheel brings dashboard and bindings built: it is installed as 0.0.x is."""
    plan = gen1.install_plan(exo(source="/srv/exo-1.0.71-py3-none-any.whl"), "srv1", "/h", "/usr/bin/python3.13")
    assert plan.tools == ()
    assert "pip install" in plan.steps[-1].command


def test_fetching_goes_to_the_tag_from_any_state(tmp_path: Path) -> None:
    """A tag, then a commit, then a changed file: the checkout is what was asked for each time."""

    def run(command: str, cwd: Path = tmp_path) -> str:
        ran = subprocess.run(
            ["/bin/bash", "-c", command], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    origin = tmp_path / "origin repo"
    origin.mkdir()
    identity = "-c user.name=t -c user.email=t@example.org -c commit.gpgsign=false"
    run(f"git init -q . && echo 1 > f && git add f && git {identity} commit -qm 1 && git tag v1", origin)
    run(f"echo 2 > f && git {identity} commit -qam 2", origin)
    first, second = run("git rev-parse v1", origin), run("git rev-parse HEAD", origin)
    home = f"{tmp_path}/home"
    source = f"git+file://{origin}"
    for reference, expected in (("@v1", first), (f"@{second}", second), ("", second), ("@v1", first)):
        plan = gen1.install_plan(exo(source=source + reference), "srv1", home, "/usr/bin/python3")
        run(f"mkdir -p {home}")
        run(plan.steps[1].command)
        assert run(plan.revision) == expected
        (tmp_path / "home" / "src" / "f").write_text("changed")


def test_versions_of_the_tools_are_checked_together(tmp_path: Path) -> None:
    """Every tool that is too old is named in one line, with what is needed."""
    for name, said in (("uv", "uv 0.7.2 (abc)"), ("node", "v16.20.0"), ("cargo", "cargo 1.80.0 (stable)")):
        tool = tmp_path / ".local" / "bin" / name
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(f"#!/bin/sh\necho '{said}'\n")
        tool.chmod(0o755)
    command = gen1_install.install_plan(exo(), "srv1", "/h", "/usr/bin/python3").steps[0].command
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(["/bin/bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 7
    for words in ("uv 0.7.2 (>= 0.8.6)", "node 16.20.0 (>= 18)", "Rust nightly"):
        assert words in ran.stderr
