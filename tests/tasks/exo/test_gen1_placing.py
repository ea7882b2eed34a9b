"""EXO 1.x: the recorded states of v1.0.71 drive the code that adds, downloads, places and deletes."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.settings import ModelPair
from tasks.errors import StepError
from tasks.exo import gen1
from tasks.exo.interface import StuckPlacementError
from tasks.machines.wire import Reply, Request
from tests.support.recorded import Performed, recorded
from tests.support.recorded_1x import IDS, MODEL, Cluster, forget, progress

NODES = ["srv1", "srv2", "rog"]
QWEN = "mlx-community/Qwen2.5-3B-Instruct-4bit"


def pair(model: str = MODEL) -> ModelPair:
    """Return a pair for `model`."""
    return ModelPair(model, "llama3.2:1b", "MLX 4-bit", "Q4_K_M")


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
    with pytest.raises(StepError, match="no instance ever appeared"):
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
    with pytest.raises(StepError, match="new_thread_local_stream") as caught:
        Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    assert "GenerationBatch" not in caught.value.problem.found
    assert "mlx==0.31.2" in caught.value.problem.do


def test_make_ready_refuses_an_instance_that_vanishes() -> None:
    """Losing a node deletes the instance without any failed runner."""
    cluster = Cluster()
    cluster.runners = cluster.runners[:2]
    cluster.vanishes = True
    with pytest.raises(StepError, match="was deleted while it was loading"):
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
    assert done.finding.downloaded["srv2"] == "4.00 GB, complete"


def test_make_ready_refuses_a_failed_and_a_stalled_download() -> None:
    """`DownloadFailed` is told with its message, and bytes that stand still for three minutes are a failure."""
    cluster = Cluster()
    progress(cluster, "DownloadFailed", errorMessage="No space left on device")
    with pytest.raises(StepError, match="No space left on device"):
        Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    cluster = Cluster()
    ongoing = {"total": {"inBytes": 4e9}, "downloaded": {"inBytes": 1e9}}
    progress(cluster, "DownloadOngoing", downloadProgress=ongoing)
    with pytest.raises(StepError, match=r"stands still at 1\.00 GB of 4\.00 GB"):
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
    with pytest.raises(StepError, match="Cannot connect to host huggingface"):
        Performed(gen1.make_ready(pair(QWEN), NODES, "srv1", 600), cluster)


@settings(max_examples=60)
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
    """No sequence of answers makes a flow raise anything but StepError, or go on for ever."""
    turn = iter(range(10_000_000))

    def server(node: str, request: Request, now_s: float) -> Reply:
        return Reply(*replies[next(turn) % len(replies)])

    for flow in (gen1.make_ready, gen1.unload):
        try:
            Performed(flow(pair("m"), NODES, "srv1", 300), server)
        except StepError as error:
            assert error.problem.found


def test_unload_deletes_every_instance_and_waits_until_it_is_gone() -> None:
    """The model leaves the memory; what lies on disk stays."""
    cluster = Cluster()
    cluster.placed_s = -100.0
    done = Performed(gen1.unload(pair(), NODES, "srv1", 60), cluster)
    assert ("srv1", "DELETE", "/instance/39cf0bf4-cf95-4511-a481-20832fe8cd91") in done.asked
    assert done.asked[-1] == ("srv1", "GET", "/state")
    nothing = Performed(gen1.unload(pair(), NODES, "srv1", 60), Cluster())
    assert all(a[1] == "GET" for a in nothing.asked)


def runner_states(names: tuple[str, ...], **told: object) -> dict[str, object]:
    """Return the states of the recorded instance's runners, in its own order of the nodes."""
    tagged = next(iter(Cluster().instance.values()))
    runners = next(iter(tagged.values()))["shardAssignments"]["nodeToRunner"]
    return {runner: {name: told} for runner, name in zip(runners.values(), names, strict=True)}


def cluster_of_names() -> Cluster:
    """Return a cluster whose recorded instance lies on the very nodes that answer: srv1, srv2, rog in its order."""
    cluster = Cluster()
    text = json.dumps(cluster.instance)
    recorded_ids = next(iter(next(iter(cluster.instance.values())).values()))["shardAssignments"]["nodeToRunner"]
    for old, node in zip(recorded_ids, NODES, strict=True):
        text = text.replace(old, IDS[node])
    cluster.instance = json.loads(text)
    return cluster


@pytest.mark.parametrize(
    ("states", "longest_s"),
    [
        (("RunnerIdle", "RunnerConnecting", "RunnerIdle"), 8),
        (("RunnerConnected", "RunnerIdle", "RunnerIdle"), 60),
        (("RunnerReady", "RunnerWarmingUp", "RunnerReady"), 60),
        (("RunnerLoaded", "RunnerWarmingUp", "RunnerLoaded"), 300),
    ],
)
def test_a_placement_that_does_not_move_is_deleted_and_named(states: tuple[str, ...], longest_s: int) -> None:
    """`Idle, Connecting, Idle` was seen for six minutes: it is deleted after 8 s, and said who does what.

    `Ready, WarmingUp, Ready` was seen after a link was cut for 20 s: a runner's last word was lost.
    """
    cluster = cluster_of_names()
    cluster.runners = [runner_states(states)]
    words = rf"did not get on: for {longest_s} s .*srv2 {states[1].removeprefix('Runner')}"
    with pytest.raises(StuckPlacementError, match=words) as caught:
        Performed(gen1.make_ready(pair(), NODES, "srv1", 7200), cluster)
    assert "fab cleanup start download-model" in caught.value.problem.do
    assert cluster.placed_s is None


def test_a_failed_runner_may_heal() -> None:
    """EXO starts a runner again up to five times; one killed was ready after 12 s."""
    cluster = cluster_of_names()
    failed = runner_states(("RunnerReady", "RunnerFailed", "RunnerReady"), errorMessage="Terminated (signal=9)")
    cluster.runners = [failed] * 12 + [runner_states(("RunnerReady",) * 3)]
    done = Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    assert done.finding.instance == "39cf0bf4-cf95-4511-a481-20832fe8cd91"
    assert any("srv2 Failed" in text for text in done.progress)


@pytest.mark.parametrize("library", ["libmlx.so", "libcublasLt.so.13"])
def test_a_missing_library_names_the_extra_that_brings_it(library: str) -> None:
    """The CUDA build of mlx on a machine without CUDA ended one owner's trial."""
    cluster = Cluster()
    said = f"{library}: cannot open shared object file: No such file or directory"
    cluster.runners = [runner_states(("RunnerReady", "RunnerFailed", "RunnerReady"), errorMessage=said)] * 2
    cluster.vanishes = True
    with pytest.raises(StepError, match=re.escape(said)) as caught:
        Performed(gen1.make_ready(pair(), NODES, "srv1", 600), cluster)
    assert library in caught.value.problem.needed
    assert "[cpu]" in caught.value.problem.do
