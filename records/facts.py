"""What each step found, as frozen structs, one a step: the step fills one in, the report reads it back (decision 0001).

Nodes are named by their key in hosts.yaml, arms by `exo` or a baseline; what a node may fail to tell is None then.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

DeviceKind = Literal["gpu", "cpu", "unknown"]


class AmdNode(msgspec.Struct, frozen=True):
    """What a node has of that which EXO 0.0.x needs to compute on its AMD GPU."""

    driver: str
    """/sys/module/amdgpu/initstate: `live`, "" where the driver is not loaded."""
    kfd: str
    """`writable`, `missing`, or what `ls -l /dev/kfd` says where this user may not write to it."""
    wsl: bool
    """/dev/dxg is there: Windows' own Linux."""
    groups: list[str]
    rocm: str
    """Version of what lies in /opt/rocm, "" where it does not tell."""
    rocm_smi: str
    """Path of librocm_smi64.so where pyrsmi looks, "" where it is not."""
    comgr: str
    """Path of libamd_comgr, "" where there is none."""
    rocm_path: str
    """$ROCM_PATH where it is set and ROCm's runtime is not there, else ""."""
    vram_bytes: int
    """Carved out of the RAM on an APU; 0 where it is not told. By this EXO deals the layers."""
    gtt_bytes: int
    """Of the RAM that the GPU may borrow beside it."""

    @property
    def memory_bytes(self) -> int:
        """Return all memory that the GPU can have."""
        return self.vram_bytes + self.gtt_bytes


class NodePython(msgspec.Struct, frozen=True):
    """One node as it answered over SSH."""

    node: str
    host: str
    hostname: str
    os: str
    kernel: str
    cpu: str
    cpu_count: int
    memory_bytes: int
    disk_free_bytes: int
    python: str
    """Absolute path of the one that fits the EXO release."""
    python_version: str
    round_trip_s: float | None = None
    """Median round trip from the bench node to this node; None where it could not be measured."""
    amd: AmdNode | None = None
    """Where hosts.yaml names a GPU of AMD's."""
    rooms: dict[str, int] = {}
    """File system that EXO or its install writes to (by where it is mounted) -> bytes free on it."""
    python_overrides: list[str] = []
    """What stands in for pins of the EXO release that have no wheel for this Python."""


class OllamaState(msgspec.Struct, frozen=True):
    """One Ollama server as it stood at one moment."""

    arm: str
    url: str
    version: str | None
    models: dict[str, str]
    """Model name -> digest."""
    loaded: list[str] = []
    error: str | None = None
    boot: str = ""
    """The boot of its node, "" where that is not told."""
    started: str = ""
    """PID and start of the process that listens on its port, "" where the kernel does not tell this user."""


class Feasible(msgspec.Struct, frozen=True):
    """Whether one model pair can run on these nodes under one profile's EXO, and on which device."""

    profile: str
    pair: str
    exo_model: str
    ollama_model: str
    can_run: bool
    device: str
    equal_precision: bool
    reasons: list[str]
    """Why it cannot run, or what to expect; one sentence each."""
    cpu_only: bool = False
    """Every node computes on its CPU."""
    layers: dict[str, int] = {}
    """Node -> layers that EXO 0.0.x will deal to it, in the ring's order; empty where that is not known."""


class Preflight(msgspec.Struct, frozen=True):
    """Step 1."""

    nodes: dict[str, NodePython]
    ollama: dict[str, OllamaState]
    feasible: list[Feasible] = []
    go_unreachable_because: str = ""
    alternatives: list[str] = []
    network: dict[str, str] = {}
    """Per node: `direct`, `relayed (fra)`, or why it is not known."""
    relayed: list[str] = []
    """The ways of `network` that go through a relay server instead of directly."""

    def layers(self, profile: str) -> dict[str, int]:
        """Return the layers that each node will be dealt of the profile's small model; empty where it is not known."""
        return next((row.layers for row in self.feasible if (row.profile, row.pair) == (profile, "small")), {})


class Witness(msgspec.Struct, frozen=True):
    """One source's word about a GPU. `agrees` is None where it says nothing either way."""

    name: str
    said: str
    agrees: bool | None


class GpuTruth(msgspec.Struct, frozen=True):
    """What the witnesses on one node say about the GPU that hosts.yaml names."""

    node: str
    expected: str
    present: bool
    usable: bool | None
    """The driver is live, the user may write to /dev/kfd, and rocminfo does not fail."""
    witnesses: list[Witness]


class ComputeFailure(msgspec.Struct, frozen=True):
    """One thing that an engine cannot do on a node."""

    stage: str
    """`import`, `rocm-smi`, `read-only array`, `fp16 mask`, `matmul`, `thread-local stream`."""
    said: str
    """The engine's own words."""
    cause: str
    remedy: str


class ComputeProbe(msgspec.Struct, frozen=True):
    """What EXO's engine did on a node when it was asked to compute, in EXO's own Python and environment."""

    node: str
    engine: str
    """`tinygrad` or `mlx`."""
    device: str
    """The engine's name of the device it chose; "" where it did not get that far."""
    works: bool
    seconds: float
    stages: dict[str, float]
    """Stage -> seconds."""
    versions: dict[str, str]
    failures: list[ComputeFailure] = []

    @property
    def kind(self) -> DeviceKind:
        """What the engine's own name of its device says: tinygrad's `AMD` or `CPU`, mlx's `Device(cpu, 0)`."""
        on_cpu = re.search(r"\b(CPU|CLANG|LLVM|X86|PYTHON|NPY)\b", self.device, re.IGNORECASE)
        return "unknown" if not self.device else "cpu" if on_cpu else "gpu"

    @property
    def words(self) -> str:
        """The device and what computed on it, in one line."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        did = "computed" if self.works else "could not compute"
        return f"{self.engine} {did} on {self.device or 'no device'} in {self.seconds:.1f} s ({versions})"


class Installed(msgspec.Struct, frozen=True):
    """Steps 2, 3 and 4: the EXO of one node."""

    node: str
    release: str
    generation: str
    """`0.0.x` or `1.x`, as the node's own `exo --help` tells."""
    source: str
    revision: str
    """Commit of the source where it is git, else the SHA-256 of the installed files."""
    venv: str
    exo: str
    """Absolute path of the executable."""
    python_version: str
    packages: dict[str, str] = {}
    """Versions that decide speed and device: tinygrad, mlx, numpy, ..."""
    gpu: GpuTruth | None = None
    probe: ComputeProbe | None = None
    """None where EXO's dummy engine was chosen, and in records from before there was a probe."""
    python_overrides: list[str] = []
    """What stands in for pins of the release that have no wheel for this Python."""


class Started(msgspec.Struct, frozen=True):
    """Steps 5, 6 and 7: the EXO process of one node."""

    node: str
    node_id: str
    pid: int
    start_ticks: int
    """Field 22 of /proc/PID/stat: with the PID it names one process for good."""
    command: str
    api_port: int
    log: str
    ready_s: float
    device: str
    """EXO's own words about where it computes."""
    device_kind: DeviceKind
    gpu_expected: bool = False


class NodeView(msgspec.Struct, frozen=True):
    """The cluster as one node sees it."""

    node: str
    sees: list[str]
    edges: int
    complete: bool
    formed_s: float | None
    devices: dict[str, str] = {}


class Cluster(msgspec.Struct, frozen=True):
    """Step 8. Complete = every node's own topology has all nodes and N(N-1) edges."""

    nodes: dict[str, NodeView]
    expected_nodes: list[str]
    expected_edges: int
    complete: bool
    stood_s: float = 0.0
    """For how long all nodes were complete together, with no election, no crash and no new connection."""
    joined_by: dict[str, str] = {}
    """1.x: node -> how it came in: `link to srv1`, or `multicast` where EXO's own discovery reached it."""
    joins: dict[str, int] = {}
    """1.x: node -> how often it was started until it was in; more than once where it ended at its change of master."""
    elections: dict[str, int] = {}
    """1.x: node -> elections in its log since its start."""
    connections: dict[str, int] = {}
    """Node -> established connections of its peer port at the end of that time."""


StopMethod = Literal["TERM", "KILL", "not running"]
"""The signal that ended a process; `not running` where there was none to end."""


class Ended(msgspec.Struct, frozen=True):
    """A process of ours that cleanup ended although no note led to it."""

    pid: int
    command: str


class Stopped(msgspec.Struct, frozen=True):
    """What cleanup did on one node."""

    node: str
    was_running: bool
    how: StopMethod
    stopped_s: float
    ports_free: dict[str, bool]
    left: list[str]
    """What stays on the node on purpose (the venv, downloaded models), with its size."""
    held_by: dict[str, str] = {}
    """Port -> who listens on it after cleanup; not ours, and not touched."""
    ended: list[Ended] = []
    """Processes of ours that no note led to: of another profile, or of an interrupted install or run."""
    removed: list[str] = []
    """Temporary files of ours that were removed."""


class Cleaned(msgspec.Struct, frozen=True):
    """Step 15."""

    nodes: dict[str, Stopped]
    ollama_before: dict[str, OllamaState]
    ollama_after: dict[str, OllamaState]
    ollama_unchanged: bool
    ollama_changes: list[str]
    not_looked_at: dict[str, str] = {}
    """Node -> why nothing is known of it: it was off or did not answer."""
    ollama_restarts: list[str] = []
    """What others did since preflight that leaves it the same Ollama: started it or its node anew, pulled a model."""


class OllamaModel(msgspec.Struct, frozen=True):
    """One baseline's model as its server describes it."""

    arm: str
    model: str
    digest: str
    quantization: str | None
    parameter_size: str | None
    size_bytes: int | None
    """Of its file."""
    size_vram_bytes: int | None = None
    """0 means it runs on the CPU; None where the model was not loaded when asked."""
    memory_bytes: int | None = None
    """Its footprint in memory, context included; None where it was not loaded when asked, and in older records."""
    context_length: int | None = None
    load_s: float | None = None
    """What loading it took in step 9."""


class ModelReady(msgspec.Struct, frozen=True):
    """Step 9: the model pair is on the nodes and the cluster answers under the right name."""

    pair: str
    exo_model: str
    exo_answered: str
    exo_precision: str
    first_answer_s: float
    downloaded: dict[str, str]
    """Node -> what is there, in words ("3.2 GB, 9 of 9 files")."""
    ollama: dict[str, OllamaModel]
    first_answer_tokens: int | None = None
    """None where the server does not count them, and in records of before."""


class Calibration(msgspec.Struct, frozen=True):
    """The instrument's own error at one speed of a server whose truth is known."""

    tokens_per_s: Annotated[float, msgspec.Meta(gt=0)]
    tokens_per_frame: int
    requests: int
    first_token_error_mean_s: float
    first_token_error_p99_s: float
    inter_token_error_mean_s: float
    inter_token_error_p99_s: float
    rate_error_mean_fraction: float
    rate_error_p99_fraction: float


class ScriptReady(msgspec.Struct, frozen=True):
    """Step 10."""

    node: str
    path: str
    sha256: str
    python_version: str
    calibration: list[Calibration]


RULE = "rounds"
"""The rule by which a comparison is judged, as its record names it: round by round (docs/methodology.md)."""


class Benchmark(msgspec.Struct, frozen=True):
    """Steps 11, 12 and 13: what was measured; the samples themselves lie beside the record."""

    pair: str
    exo_model: str | None
    """None in step 11, which measures Ollama alone."""
    ollama_model: str
    arms: list[str]
    runs: int
    requests: int
    warmups: int
    max_tokens: int
    seed: int
    order: list[str]
    """The schedule in the order it ran, `arm:run`."""
    reload: dict[str, str]
    """Arm -> how its model was loaded afresh for each run: what was seen, not what was asked for."""
    devices: dict[str, str]
    """Arm -> where it computed, in the server's own words."""
    gpu_claims: dict[str, bool] = {}
    """Arm -> whether hosts.yaml says that it computes on a GPU."""
    gpu_kinds: dict[str, DeviceKind] = {}
    topology_start: dict[str, bool] = {}
    topology_end: dict[str, bool] = {}
    ollama: dict[str, OllamaModel] = {}
    exo_precision: str = ""
    resumed: int = 0
    """Finished runs that an earlier, interrupted call had left."""
    until_decided: bool = False
    """`--until-decided`: as many rounds as it takes, with three looks."""
    rule: str = ""
    """RULE at the time of planning; empty in records from before there was one rule."""
    num_ctx: int | None = None
    """Context that both Ollamas were told to use; None in older records."""
    ollama_versions: dict[str, list[str]] = {}
    """Arm -> the version its server told before the first run and after the last."""


class Skipped(msgspec.Struct, frozen=True):
    """A step that was left out on purpose."""

    reason: str


class Documented(msgspec.Struct, frozen=True):
    """Step 14."""

    verdict: str
    files: list[str]
    commit: str | None = None


RESULTS: dict[int, type[msgspec.Struct]] = {
    1: Preflight,
    **dict.fromkeys((2, 3, 4), Installed),
    **dict.fromkeys((5, 6, 7), Started),
    8: Cluster,
    9: ModelReady,
    10: ScriptReady,
    **dict.fromkeys((11, 12, 13), Benchmark),
    14: Documented,
    15: Cleaned,
}
"""Step number -> what its record's result is where the step was not skipped."""
