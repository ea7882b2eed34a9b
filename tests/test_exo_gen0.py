"""EXO 0.0.x: every recorded answer of v0.0.15 drives the code that drives a cluster."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.exo import gen0, gen0_download, gen0_install, sources
from tasks.exo.interface import Refused, Reply, Request
from tasks.hosts import Exo, Pair, Ports
from tests.recorded import Performed, Server, ok, recorded

PEERS = {"srv1": "100.77.248.9", "srv2": "100.64.0.2", "rog": "100.93.122.109"}
NODES = list(PEERS)
LLAMA = Pair("llama-3.2-1b", "llama3.2:1b-instruct-fp16", "fp16", "F16")
DUMMY = Pair("dummy", "llama3.2:1b", "none", "Q8_0")
TINYGRAD: dict[str, dict[str, str]] = {"llama-3.2-1b": {}, "llama-3.2-3b": {}, "llama-3.1-8b": {}}


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
        node_flags={"rog": ["--inference-engine", "dummy"]},
        environment={"DEBUG": "1", "CLANG": "1"},
        node_environment={"rog": {"AMD": "1", "CLANG": "0"}},
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
    with pytest.raises(Refused, match="the topology cannot be read"):
        gen0.parse_topology(text, PEERS)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.from_regex(r'\{"nodes": \{.*\}, "peer_graph": \{.*\}\}'))
def test_topology_parser_never_fails_otherwise(text: str) -> None:
    """No input makes the parser raise anything but Refused."""
    try:
        gen0.parse_topology(text, PEERS)
    except Refused as error:
        assert error.needed and error.do


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
    assert (device, gen0.device_kind(device)) == ("Linux Box (AMD RADEON GRAPHICS), AMD RADEON GRAPHICS", "gpu")


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


@pytest.mark.parametrize("log", ["log_healthy.txt", "log_peer_lost.txt"])
def test_log_of_a_good_start_and_of_a_lost_peer_have_no_problem(log: str) -> None:
    """A healthy start is silent, and the tracebacks about a peer that is away heal by themselves."""
    assert gen0.log_problems(recorded("exo-0.0.x", log)) == []


def test_log_is_read_without_its_escapes_and_not_beyond_the_stop() -> None:
    """Colours and hyperlinks do not hide a line, and what a SIGTERM prints is no problem of the start."""
    assert gen0.log_problems("\x1b[31mError: x\x1b[0m \x1b]8;;http://a\x1b\\a\x1b]8;;\x1b\\") == ["Error: x a"]
    assert gen0.log_problems("Received exit signal SIGTERM...\nKeyError: 'x'") == []


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("\x1b[]8;\\^mErro: x\n0123")))
def test_log_reader_takes_any_text(log: str) -> None:
    """No log makes the reader raise."""
    assert isinstance(gen0.log_problems(log), list)


def cluster(pages: dict[str, list[tuple[float, str]]], post: Reply, models: dict[str, dict[str, str]]) -> Server:
    """Return a server whose nodes show the progress in `pages`: node -> (from that second on, JSON)."""

    def answer(node: str, request: Request, now_s: float) -> Reply:
        if request.path == "/initial_models":
            return ok(json.dumps(models))
        if request.path == "/download":
            return post
        assert request.path == "/v1/download/progress"
        shown = [text for since_s, text in pages.get(node, []) if since_s <= now_s]
        return ok(shown[-1] if shown else "{}")

    return answer


STARTED = ok(recorded("exo-0.0.x", "download_started.json"))


def test_make_ready_asks_every_node_and_follows_its_own_progress() -> None:
    """The model goes to every node; each is watched until it shows no download any more."""
    pages = {
        "srv1": [
            (1.0, recorded("exo-0.0.x", "progress_1s.json")),
            (2.0, recorded("exo-0.0.x", "progress_2s.json")),
            (3.0, "{}"),
        ]
    }
    done = Performed(gen0.make_ready(LLAMA, NODES, "srv1", 600), cluster(pages, STARTED, TINYGRAD))
    assert [a for a in done.asked if a[1] == "POST"] == [(node, "POST", "/download") for node in NODES]
    assert done.finding.downloaded["srv1"].startswith("9.8 MB in 9 files")
    assert "was there already" in done.finding.downloaded["rog"]
    assert "srv1 37 %, srv2 asks the hub" in done.progress[1]
    assert done.waited_s < 12


def test_make_ready_on_the_dummy_engine_has_nothing_to_download() -> None:
    """The recorded 500 of the dummy engine is no failure: it has no weights."""
    said = Reply(500, recorded("exo-0.0.x", "download_dummy_has_no_downloader.json"))
    models = json.loads(recorded("exo-0.0.x", "initial_models_dummy.json"))
    done = Performed(gen0.make_ready(DUMMY, NODES, "srv1", 600), cluster({}, said, models))
    assert (done.waited_s, set(done.finding.downloaded)) == (0.0, set(NODES))
    assert "dummy engine" in done.finding.downloaded["srv2"]


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (400, "download_unknown_id.json", "does not know a model"),
        (400, "download_mlx_only.json", "only for Apple's MLX"),
        (400, "download_no_model.json", "model parameter is required"),
    ],
)
def test_make_ready_refuses_what_the_engine_cannot_run(status: int, answer: str, words: str) -> None:
    """Each recorded refusal becomes words that name the models which do run."""
    said = Reply(status, recorded("exo-0.0.x", answer))
    models: dict[str, dict[str, str]] = {LLAMA.exo: {}}
    with pytest.raises(Refused, match=words) as caught:
        Performed(gen0.make_ready(LLAMA, NODES, "srv1", 600), cluster({}, said, models))
    if "parameter" not in words:
        assert "llama-3.2-3b" in caught.value.needed
        assert "hosts.yaml" in caught.value.do


def test_make_ready_refuses_an_mlx_only_model_before_any_download() -> None:
    """The engine's own list is asked first, so nothing is fetched for a model that cannot run."""
    qwen = Pair("qwen-2.5-3b", "qwen2.5:3b", "MLX 4-bit", "Q4_K_M")
    asked: list[str] = []

    def server(node: str, request: Request, now_s: float) -> Reply:
        asked.append(request.path)
        return ok(json.dumps(TINYGRAD))

    with pytest.raises(Refused, match=r"does not offer 'qwen-2.5-3b'"):
        Performed(gen0.make_ready(qwen, NODES, "srv1", 600), server)
    assert asked == ["/initial_models"]


def test_make_ready_refuses_a_download_that_stands_still() -> None:
    """EXO leaves a broken download in the progress for ever; its bytes tell."""
    pages = {node: [(1.0, recorded("exo-0.0.x", "progress_1s.json").replace("srv1", node))] for node in NODES}
    with pytest.raises(Refused, match="stands still at 37 % for 180 s"):
        Performed(gen0.make_ready(LLAMA, NODES, "srv1", 7200), cluster(pages, STARTED, TINYGRAD))


def test_make_ready_ends_with_its_time() -> None:
    """A download that moves but is too slow ends with the time-out and says how far each node is."""

    def server(node: str, request: Request, now_s: float) -> Reply:
        if request.path == "/initial_models":
            return ok(json.dumps(TINYGRAD))
        if request.path == "/download":
            return STARTED
        return ok(json.dumps({node: {"downloaded_bytes": now_s, "total_bytes": 1000, "total_files": 9}}))

    with pytest.raises(Refused, match=r"not downloaded after 60 s: srv1 6 %"):
        Performed(gen0.make_ready(LLAMA, NODES, "srv1", 60), server)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 200, 400, 404, 500]), st.text(max_size=40)), min_size=1, max_size=8))
def test_make_ready_ends_or_refuses_whatever_is_answered(replies: list[tuple[int, str]]) -> None:
    """No sequence of answers makes the flow raise anything but Refused, or go on for ever."""
    turn = iter(range(10_000_000))

    def server(node: str, request: Request, now_s: float) -> Reply:
        return Reply(*replies[next(turn) % len(replies)])

    try:
        Performed(gen0.make_ready(LLAMA, NODES, "srv1", 300), server)
    except Refused as error:
        assert error.found


def test_unload_says_that_it_cannot() -> None:
    """0.0.x keeps a model until it ends; nothing is asked of it."""
    done = Performed(gen0.unload(LLAMA, NODES, "srv1", 60), lambda *_: ok("{}"))
    assert (done.asked, set(done.finding.downloaded)) == ([], set(NODES))


def test_chat_answer_of_the_right_model() -> None:
    """The recorded answer of three nodes is read with its tokens."""
    answer = gen0.parse_chat(ok(recorded("exo-0.0.x", "chat_llama.json")), "llama-3.2-1b")
    assert (answer.model, answer.output_tokens, answer.finish_reason) == ("llama-3.2-1b", 24, "length")


def test_chat_answered_by_another_model_is_refused_with_both_names() -> None:
    """HTTP 200 from the default model is the trap; only the answer's `model` tells."""
    with pytest.raises(Refused, match=r"asked for 'qwen2.5:3b' and 'llama-3.2-1b' answered, with HTTP 200"):
        gen0.parse_chat(ok(recorded("exo-0.0.x", "chat_other_model_answered.json")), "qwen2.5:3b")


@pytest.mark.parametrize(
    ("status", "answer", "model", "words"),
    [
        (400, "chat_unsupported_tinygrad.json", "qwen-2.5-3b", "TinygradDynamicShardInferenceEngine cannot run"),
        (400, "chat_unsupported_fallback_dummy.json", "qwen2.5:3b", "fell back to 'llama-3.2-1b'"),
        (500, "chat_peer_dead.json", "dummy", "a peer of the entry node is gone"),
    ],
)
def test_chat_errors_are_told_in_words(status: int, answer: str, model: str, words: str) -> None:
    """Each recorded error says what it means and what to type."""
    with pytest.raises(Refused) as caught:
        gen0.parse_chat(Reply(status, recorded("exo-0.0.x", answer)), model)
    assert words in caught.value.found
    assert caught.value.do


@pytest.mark.parametrize("status", [0, 408, 500])
def test_chat_without_an_answer_is_refused(status: int) -> None:
    """No answer, EXO's own time-out and its bare 500 are refusals."""
    with pytest.raises(Refused):
        gen0.parse_chat(Reply(status, "500 Internal Server Error\n\nServer got itself in trouble"), "dummy")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([0, 200, 400, 500]), st.text() | st.from_regex(r'\{"model": "m", "choices": \[.*\]\}'))
def test_chat_parser_never_fails_otherwise(status: int, text: str) -> None:
    """No reply makes the parser raise anything but Refused."""
    try:
        gen0.parse_chat(Reply(status, text), "m")
    except Refused as error:
        assert error.needed


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("git+https://github.com/exo-explore/exo@v0.0.15-alpha", "git"),
        ("/srv/exo", "folder"),
        ("~/exo", "folder"),
        ("/srv/exo-0.0.1-py3-none-any.whl", "file"),
        ("/srv/exo-0.0.1.tar.gz", "file"),
        ("https://host/exo-0.0.1.tar.gz", "file"),
    ],
)
def test_source_kinds(source: str, kind: str) -> None:
    """Every form that hosts.yaml allows is told from the others."""
    assert sources.kind_of(source) == kind


@pytest.mark.parametrize(
    ("source", "url", "reference"),
    [
        ("git+https://github.com/exo-explore/exo@v1.0.71", "https://github.com/exo-explore/exo", "v1.0.71"),
        ("git+ssh://git@host/exo.git", "ssh://git@host/exo.git", None),
        ("git+ssh://git@host/exo.git@main#egg=exo", "ssh://git@host/exo.git", "main"),
        ("git+file:///srv/exo@feature/x", "file:///srv/exo", "feature/x"),
    ],
)
def test_git_addresses(source: str, url: str, reference: str | None) -> None:
    """The tag is told from a user name before the host."""
    assert sources.git_address(source) == (url, reference)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("tinygrad>=0.11", "tinygrad>=0.11"),
        ("tinygrad @ file:///wheels/t.whl", "tinygrad @ file:///wheels/t.whl"),
        ("/srv/tinygrad", "tinygrad @ file:///srv/tinygrad"),
        ("/srv/tinygrad-0.11.0-py3-none-any.whl", "tinygrad @ file:///srv/tinygrad-0.11.0-py3-none-any.whl"),
        ("/srv/mlx-cpu-0.31.2.tar.gz", "mlx-cpu @ file:///srv/mlx-cpu-0.31.2.tar.gz"),
    ],
)
def test_override_lines(override: str, line: str) -> None:
    """A local path gets the name that uv wants before it; the path has it."""
    assert gen0_install.override_line(override) == line


def test_tools_are_only_those_that_are_used() -> None:
    """A node needs git where something is cloned, and nowhere else."""
    assert gen0_install.tools(exo()) == ()
    assert gen0_install.tools(exo(source="git+https://h/exo@v1")) == ("git",)
    assert gen0_install.tools(exo(overrides=["tinygrad @ git+https://h/t@x"])) == ("git",)


def test_every_value_of_hosts_yaml_is_quoted(tmp_path: Path) -> None:
    """A source or an override with shell characters is one word for the shell, never a command."""
    evil = "/srv/$(touch pwned); touch pwned; `touch pwned` 'x'"
    plan = gen0_install.install_plan(
        exo(source=evil, overrides=["a; touch pwned", "/b$(touch pwned)"], extras=["x$(touch pwned)"]),
        "srv1",
        f"{tmp_path}/home $(touch pwned) '",
        "/none/$(touch pwned)",
    )
    for command in [*(step.command for step in plan.steps), plan.revision]:
        ran = subprocess.run(
            ["/bin/bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert "syntax error" not in ran.stderr
    assert not list(tmp_path.rglob("pwned"))


def test_linux_models_are_those_the_recorded_engine_offers() -> None:
    """The list shown to people is a part of what v0.0.15's tinygrad engine says it supports."""
    said = recorded("exo-0.0.x", "chat_unsupported_tinygrad.json")
    assert all(f"'{model}'" in said for model in gen0_download.LINUX_MODELS)
    assert "qwen" not in said.split("Supported models")[1]


def bash(command: str) -> subprocess.CompletedProcess[str]:
    """Run an installation's command as a node does."""
    return subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a wheel called exo with one extra by hand, so that no index is needed to build it."""
    import zipfile

    path = tmp_path_factory.mktemp("wheel") / "exo-0.0.1-py3-none-any.whl"
    files = {
        "exo/__init__.py": "",
        "exo/main.py": "def run():\n    print('usage: exo --chatgpt-api-port')\n",
        "exo-0.0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: exo\nVersion: 0.0.1\nProvides-Extra: amd-gpu\n",
        "exo-0.0.1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "exo-0.0.1.dist-info/entry_points.txt": "[console_scripts]\nexo = exo.main:run\n",
    }
    files["exo-0.0.1.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files) + "exo-0.0.1.dist-info/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_install_really_installs_converges_and_tells_its_revision(wheel: Path, tmp_path: Path) -> None:
    """Run twice, the steps leave one EXO in a venv of its own, with the same digest both times."""
    one = exo(source=str(wheel), node_extras={"rog": ["amd-gpu"]})
    plan = gen0_install.install_plan(one, "rog", f"{tmp_path}/home with space", sys.executable)
    revisions = []
    for _ in range(2):
        for step in plan.steps:
            ran = bash(step.command)
            assert ran.returncode == 0, (step.title, ran.stderr)
        revisions.append(bash(plan.revision).stdout.strip())
    assert revisions[0] == revisions[1]
    assert len(revisions[0]) == 64
    assert "--chatgpt-api-port" in bash(f"{shlex.quote(plan.exo)} --help").stdout


def test_install_fails_on_an_extra_that_does_not_exist_and_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    """Where pip only warns and exits 0, the step exits 3 with pip's line last, and EXO is not there."""
    plan = gen0_install.install_plan(exo(source=str(wheel), extras=["amd"]), "rog", str(tmp_path), sys.executable)
    codes = [(ran := bash(step.command)).returncode for step in plan.steps]
    assert codes == [0, 3]
    assert "does not provide the extra 'amd'" in ran.stderr.splitlines()[-1]
    assert not Path(plan.exo).exists()
    assert bash(plan.revision).returncode != 0


def test_copying_a_source_leaves_its_builds_behind(tmp_path: Path) -> None:
    """EXO is built in a copy without history and leftovers; a folder that is not there is named."""
    for name in ("exo/main.py", ".git/HEAD", "build/lib/old.py", "exo.egg-info/PKG-INFO"):
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text("x")
    assert bash(sources.copy_folder(f"{tmp_path}/from", f"{tmp_path}/to")).returncode == 0
    found = sorted(str(p.relative_to(tmp_path / "to")) for p in (tmp_path / "to").rglob("*") if p.is_file())
    assert found == ["exo/main.py"]
    missing = bash(sources.copy_folder(f"{tmp_path}/none", f"{tmp_path}/to"))
    assert missing.returncode == 2
    assert "there is no folder" in missing.stderr
