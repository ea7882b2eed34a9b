"""EXO 0.0.x: flags, discovery, topology and logs, against what v0.0.15 was recorded to say."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.settings import Exo, NodeExo, Ports
from tasks.errors import StepError
from tasks.exo import gen0
from tests.support.recorded import recorded

PEERS = {"srv1": "100.77.248.9", "srv2": "100.64.0.2", "rog": "100.93.122.109"}
NODES = list(PEERS)


def exo(**fields: object) -> Exo:
    """Return a 0.0.15 from a folder, with `fields` over it."""
    return Exo(**({"release": "0.0.15", "source": "/srv/exo"} | fields))  # type: ignore[arg-type]


def test_launch_is_the_daemon_form_with_equal_ports_on_all_nodes() -> None:
    """A node starts without `run`, with its own id, manual discovery and the length fixed from here on."""
    launch = gen0.launch(exo(ports=Ports(52416, 50051)), "srv2", PEERS, "/h/venv/bin/exo", "/h/run", 128)
    assert launch.argv == shlex.split(
        "/h/venv/bin/exo --node-id srv2 --node-port 50051 --discovery-module manual"
        " --discovery-config-path /h/run/discovery.json --chatgpt-api-port 52416 --chatgpt-api-response-timeout 900"
        " --max-generate-tokens 128 --disable-tui"
    )
    assert launch.environment == {"PYTHONUNBUFFERED": "1"}
    assert launch.ports == (52416, 50051)
    assert "POST /quit" in launch.unwanted[0]


def test_launch_puts_the_nodes_own_flags_and_environment_last() -> None:
    """What hosts.yaml says for one node wins over what it says for all."""
    one = exo(
        flags=["--inference-engine", "tinygrad"],
        environment={"DEBUG": "1", "CLANG": "1"},
        nodes={"rog": NodeExo(flags=["--inference-engine", "dummy"], environment={"AMD": "1", "CLANG": "0"})},
    )
    rog = gen0.launch(one, "rog", PEERS, "/exo", "/run", 16)
    assert rog.argv[-4:] == ["--inference-engine", "tinygrad", "--inference-engine", "dummy"]
    assert rog.environment == {"PYTHONUNBUFFERED": "1", "DEBUG": "1", "CLANG": "0", "AMD": "1"}
    assert gen0.launch(one, "srv1", PEERS, "/exo", "/run", 16).environment["CLANG"] == "1"


def test_discovery_file_has_every_field_and_every_node_the_own_one_too() -> None:
    """A missing field or an absent own id is a silent one-node island."""
    launch = gen0.launch(exo(), "srv1", PEERS, "/exo", "/run", 16)
    peers = json.loads(launch.files["/run/discovery.json"])["peers"]
    assert set(peers) == set(PEERS)
    assert peers["rog"] == {
        "address": "100.93.122.109",
        "port": 50051,
        "device_capabilities": {
            "model": "Linux Box",
            "chip": "Unknown Chip",
            "memory": 8192,
            "flops": {"fp32": 0, "fp16": 0, "int8": 0},
        },
    }
    others = [gen0.launch(exo(), node, PEERS, "/exo", "/run", 16).files for node in NODES]
    assert others[0] == others[1] == others[2]


def test_topology_of_a_formed_cluster() -> None:
    """Three nodes and all six edges are read from the recorded answer, with the device in EXO's own words."""
    topology = gen0.parse_topology(recorded("exo-0.0.x", "topology_three_nodes.json"), PEERS)
    assert set(topology.nodes) == {"srv1", "srv2", "srv3"}
    assert len(topology.edges) == 6
    assert ("srv1", "srv3") in topology.edges
    assert gen0.device_kind(topology.nodes["srv1"]) == "cpu"


def test_topology_of_an_island() -> None:
    """A node that nobody found answers too, alone."""
    topology = gen0.parse_topology(recorded("exo-0.0.x", "topology_island.json"), PEERS)
    assert (set(topology.nodes), topology.edges) == ({"srv3"}, frozenset())


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"nodes": 3}', '{"peer_graph": {"a": [{}]}}', "[" * 3000])
def test_topology_that_is_none_is_refused(text: str) -> None:
    """Whatever else listens on the port, the answer is a refusal in words and no traceback."""
    with pytest.raises(StepError, match="the topology cannot be read"):
        gen0.parse_topology(text, PEERS)


@settings(max_examples=150)
@given(st.text() | st.from_regex(r'\{"nodes": \{.*\}, "peer_graph": \{.*\}\}'))
def test_topology_parser_never_fails_otherwise(text: str) -> None:
    """No input makes the parser raise anything but StepError."""
    try:
        gen0.parse_topology(text, PEERS)
    except StepError as error:
        assert error.problem.needed and error.problem.do


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Linux Box (Device: CLANG), Unknown Chip (Device: CLANG)", "cpu"),
        ("Linux Box (Device: CPU)", "cpu"),
        ("Linux Box (Device: LLVM)", "cpu"),
        ("Linux Box (Device: AMD)", "gpu"),
        ("Linux Box (Device: GPU)", "gpu"),
        ("Linux Box (Device: HIP)", "gpu"),
        ("Linux Box (AMD RADEON GRAPHICS), AMD RADEON GRAPHICS", "gpu"),
        ("Linux Box (NVIDIA GEFORCE RTX 4090), NVIDIA GEFORCE RTX 4090", "gpu"),
        ("Linux Box, Unknown Chip", "unknown"),
        ("Linux Box (Device: WHATEVER)", "unknown"),
        ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "unknown"),
        ("", "unknown"),
    ],
)
def test_device_kind(text: str, kind: str) -> None:
    """The device that tinygrad chose decides; a processor that is called after its GPU decides nothing."""
    assert gen0.device_kind(text) == kind


def test_device_text_of_an_amd_gpu_survives_exos_missing_f_string() -> None:
    """On AMD, 0.0.15 sends the literal `{gpu_name}` as model and the name as chip."""
    said = '{"nodes": {"rog": {"model": "Linux Box ({gpu_name})", "chip": "AMD RADEON GRAPHICS"}}, "peer_graph": {}}'
    device = gen0.parse_topology(said, PEERS).nodes["rog"]
    assert (device, gen0.device_kind(device)) == ("Linux Box (AMD RADEON GRAPHICS)", "gpu")


@pytest.mark.parametrize(
    ("model", "chip", "text"),
    [
        ("Linux Box (Device: CPU)", "Unknown Chip (Device: CPU)", "Linux Box (Device: CPU)"),
        ("Linux Box (NVIDIA H200)", "NVIDIA H200", "Linux Box (NVIDIA H200)"),
        ("Linux Box", "Unknown Chip", "Linux Box"),
        ("", "Unknown Chip", "Unknown Chip"),
        ("Mac Studio", "Apple M2 Ultra", "Mac Studio, Apple M2 Ultra"),
    ],
)
def test_a_device_is_named_once(model: str, chip: str, text: str) -> None:
    """The chip is added only where it says more than the model does; the memory by which layers are dealt is read."""
    said = json.dumps({"nodes": {"rog": {"model": model, "chip": chip, "memory": 512}}, "peer_graph": {}})
    topology = gen0.parse_topology(said, PEERS)
    assert (topology.nodes["rog"], topology.memory_bytes["rog"]) == (text, 512 * 2**20)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("log_second_start.txt", "address already in use"),
        ("log_amd_without_pyrsmi.txt", "ModuleNotFoundError: No module named 'pyrsmi'"),
        ("log_one_shot_run.txt", "Error: Model name is required"),
    ],
)
def test_log_of_a_failed_start_names_its_reason(log: str, words: str) -> None:
    """The recorded logs of bad starts each show the line that says why."""
    assert any(words in line for line in gen0.log_problems(recorded("exo-0.0.x", log)))


@pytest.mark.parametrize("log", ["log_healthy.txt", "log_peer_lost.txt", "log_peer_restarted.txt"])
def test_log_of_a_good_start_and_of_a_lost_peer_have_no_problem(log: str) -> None:
    """A healthy start is silent, and the tracebacks about a peer that is away heal by themselves."""
    assert gen0.log_problems(recorded("exo-0.0.x", log)) == []


def test_log_is_read_without_its_escapes_and_not_beyond_the_stop() -> None:
    """Colours and hyperlinks do not hide a line, and what a SIGTERM prints is no problem of the start."""
    assert gen0.log_problems("\x1b[31mError: x\x1b[0m \x1b]8;;http://a\x1b\\a\x1b]8;;\x1b\\") == ["Error: x a"]
    assert gen0.log_problems("Received exit signal SIGTERM...\nKeyError: 'x'") == []


@settings(max_examples=100)
@given(st.text(alphabet=st.sampled_from("\x1b[]8;\\^mErro: x\n0123")))
def test_log_reader_takes_any_text(log: str) -> None:
    """No log makes the reader raise."""
    assert isinstance(gen0.log_problems(log), list)
