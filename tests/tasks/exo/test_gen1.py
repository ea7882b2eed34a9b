"""EXO 1.x: flags, topology and chat, against what v1.0.71 was recorded to say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.settings import Exo, Ports
from tasks.errors import StepError
from tasks.exo import gen1
from tasks.machines.wire import Reply
from tests.support.recorded import ok, recorded
from tests.support.recorded_1x import IDS, MODEL

PEERS = {"srv1": "10.99.0.1", "srv2": "10.99.0.2", "rog": "10.99.0.3"}
QWEN = "mlx-community/Qwen2.5-3B-Instruct-4bit"


def exo(**fields: object) -> Exo:
    """Return a 1.0.71 from git, with `fields` over it."""
    base = {
        "release": "1.0.71",
        "source": "git+https://github.com/exo-explore/exo@v1.0.71",
        "ports": Ports(52415, 4001),
    }
    return Exo(**(base | fields))  # type: ignore[arg-type]


def test_launch_gives_every_joining_node_one_link_to_the_first() -> None:
    """Peers that know each other's addresses are redialled for ever: the first is kept master, the others join it."""
    launch = gen1.launch(exo(), "rog", PEERS, "/h/venv/bin/exo", "/h/run", 128)
    assert launch.argv == [
        "/h/venv/bin/exo",
        *("--api-port", "52415", "--libp2p-port", "4001", "--bootstrap-peers", "/ip4/127.0.0.1/tcp/4003"),
    ]
    assert (launch.files, launch.ports) == ({}, (52415, 4001))
    assert "49153" in " ".join(launch.unwanted)
    first = gen1.launch(exo(), "srv1", PEERS, "/h/venv/bin/exo", "/h/run", 128)
    assert first.argv[-1] == "--force-master"
    assert "--bootstrap-peers" not in first.argv


def test_links_are_a_star_and_come_back_one_after_the_other() -> None:
    """Each has a port of its own and both ends' APIs to wait for; a release without libp2p has none."""
    links = gen1.links(exo(), PEERS)
    assert [(link.node, link.peer, link.port, link.target) for link in links] == [
        ("srv2", "srv1", 4002, "10.99.0.1:4001"),
        ("rog", "srv1", 4003, "10.99.0.1:4001"),
    ]
    assert links[1].answer_first == ("http://10.99.0.3:52415/node_id", "http://10.99.0.1:52415/node_id")
    assert links[1].again_after_s - links[0].again_after_s >= 10
    assert gen1.links(exo(release="1.0.72"), PEERS) == []


@pytest.mark.parametrize("release", ["1.0.72", "1.1.0", "1.1"])
def test_launch_refuses_what_has_no_explicit_peers_over_tailscale(release: str) -> None:
    """After 1.0.71 peers are found by multicast alone, which Tailscale does not carry; a LAN is fine."""
    tailnet = PEERS | {"rog": "100.93.122.109"}
    with pytest.raises(StepError, match=r"rog 100\.93\.122\.109") as caught:
        gen1.launch(exo(release=release), "srv1", tailnet, "/exo", "/run", 16)
    assert "1.0.71" in caught.value.problem.needed
    assert "--zenoh-port" in gen1.launch(exo(release=release), "srv1", PEERS, "/exo", "/run", 16).argv


def test_launch_refuses_releases_that_cannot_be_told_their_peers() -> None:
    """1.0.68 and before have no --bootstrap-peers."""
    with pytest.raises(StepError, match="no --bootstrap-peers"):
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


@settings(max_examples=150)
@given(st.text() | st.from_regex(r'\{"topology": \{"nodes": \[.*\]\}, "instances": \{.*\}\}'))
def test_topology_parser_never_fails_otherwise(text: str) -> None:
    """No input makes the parser raise anything but StepError."""
    try:
        gen1.parse_topology(text, PEERS)
    except StepError as error:
        assert error.problem.do


def test_chat_is_read_and_its_errors_are_told() -> None:
    """The recorded answer, the recorded 404 without an instance, and a wrong model."""
    answer = gen1.parse_chat(ok(recorded("exo-1.x", "chat.json")), MODEL)
    assert (answer.output_tokens, answer.finish_reason) == (8, "length")
    assert gen1.parse_chat(ok(recorded("exo-1.x", "chat_bench.json")), MODEL).output_tokens is None
    with pytest.raises(StepError, match="no instance of"):
        gen1.parse_chat(Reply(404, recorded("exo-1.x", "chat_no_instance.json")), MODEL)
    with pytest.raises(StepError, match="answered, with HTTP 200"):
        gen1.parse_chat(ok(recorded("exo-1.x", "chat.json")), QWEN)
    with pytest.raises(StepError, match="no answer"):
        gen1.parse_chat(Reply(0, "refused"), MODEL)


def test_chat_request_fixes_the_length() -> None:
    """1.x honours max_tokens of a request."""
    request = gen1.chat_request(MODEL, "Say hello.", 1, 900)
    assert request.body is not None
    assert (request.body["max_tokens"], request.body["stream"], request.timeout_s) == (1, False, 900)
