"""What hosts.yaml may say, as frozen structs. Their docstrings are what an editor shows, through the JSON Schema.

An unknown key is an error everywhere. `tasks.inventory` reads the file and finds what types alone cannot.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Count = Annotated[int, msgspec.Meta(ge=1)]
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything in hosts.yaml: an unknown key is an error, not a surprise."""


class Limits(Strict, frozen=True):
    """What counts as faster, how sure the verdict must be, and where a measurement stops being valid."""

    target_ratio: Annotated[float, msgspec.Meta(gt=0)] = 1.30
    """GO needs EXO's rate over Ollama's to be at least this."""
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.95
    """Of each one-sided bound."""
    length_tolerance: Fraction = 0.05
    """Largest relative difference of the arms' mean output lengths."""
    failed_fraction: Fraction = 0.05
    """Largest share of an arm's timed requests that may fail."""
    instrument_fraction: Fraction = 0.01
    """Largest self-calibration error, relative to what was measured."""
    load_per_cpu: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    """Largest one-minute load average per CPU just before a run."""


class Gpu(Strict, frozen=True):
    """The GPU that a node is meant to compute on."""

    name: str
    """As people call it: `Radeon 8060S`."""
    gfx: str
    """The compiler's name of it, which rocminfo tells: `gfx1151`."""
    pci_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
    """Vendor and device, `1002:1586`."""


class NodeSpec(Strict, frozen=True):
    """One machine."""

    host: str
    """What `ssh` is given: a host name, an address or an alias in ssh_config."""
    local: bool = False
    """This very machine: commands run in a local shell instead of over SSH."""
    port: Port | None = None
    """SSH port; ssh_config's, else 22."""
    user: str | None = None
    """SSH user; ssh_config's, else the current one."""
    identity_file: str | None = None
    """Private key to offer; ssh_config's and the agent's otherwise."""
    known_hosts: str | None = None
    """Host keys to trust instead of ~/.ssh/known_hosts."""
    address: str | None = None
    """IPv4 address by which the other nodes reach this one; asked from Tailscale on the node when left out."""
    gpu: Gpu | None = None
    """The GPU that this node is meant to compute on; none where it is left out."""


class Ports(Strict, frozen=True):
    """Ports of one EXO generation; the same on all nodes."""

    api: Port = 52416
    """Of the HTTP API that answers chats."""
    peer: Port = 50051
    """0.0.x: --node-port. 1.x: --libp2p-port."""


class NodeExo(Strict, frozen=True):
    """What one node needs beside what all nodes get: a CPU and an AMD GPU want different packages."""

    overrides: list[str] = []
    """Beside `exo.overrides`; one for the same package stands instead of it."""
    extras: list[Name] = []
    """Beside `exo.extras`: `amd-gpu` for the Radeon."""
    environment: dict[str, str] = {}
    """Over `exo.environment`: `AMD: "1"` for the Radeon."""
    flags: list[str] = []
    """After `exo.flags`."""
    ports: Ports | None = None
    """Instead of `exo.ports`, where a port is taken there, or several nodes share a machine. 1.x needs one `api` port
    everywhere."""


class Exo(Strict, frozen=True):
    """Which EXO, from where, and how it is started."""

    release: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?[a-z0-9.-]*$")]
    """`0.0.15` or `1.0.71`: decides the generation, the Python version and the flags."""
    source: str
    """What is installed: `git+https://...@TAG`, a local directory, a wheel or an sdist. Never a bare name."""
    python: Annotated[str, msgspec.Meta(pattern=r"^([<>=!]=?[0-9.]+)(,[<>=!]=?[0-9.]+)*$")] | None = None
    """Python versions to accept, `>=3.12`; what the release needs when left out."""
    ports: Ports = Ports()
    """On every node that has none of its own in `nodes`."""
    extras: list[Name] = []
    """Extras of EXO's own package to install on every node; one that does not exist is an error."""
    overrides: list[str] = []
    """Requirements that replace what the release pins, e.g. `tinygrad==0.10.2` or a local path."""
    flags: list[str] = []
    """Further start flags for every node."""
    environment: dict[str, str] = {}
    """Further environment for every node."""
    nodes: dict[str, NodeExo] = {}
    """What single nodes need beside all that."""
    install_timeout_s: Seconds = 1800
    """After which one command of an install is ended."""
    start_timeout_s: Seconds = 120
    """Within which a started EXO must answer on its port."""
    cluster_timeout_s: Seconds = 180
    """Within which every node must see all nodes."""
    stands_s: Seconds = 10
    """How long all nodes must be complete together, without an election or a new connection, before it counts."""
    download_timeout_s: Seconds = 7200
    """Within which the model must be on the nodes."""


def ports_of(exo: Exo, node: str) -> Ports:
    """Return the ports of EXO on one node."""
    return exo_on(exo, node).ports


def exo_on(exo: Exo, node: str) -> Exo:
    """Return `exo` as one node gets it: what hosts.yaml says for this node is merged into what it says for all."""
    own = exo.nodes.get(node, NodeExo())
    replaced = {override_name(text) for text in own.overrides}
    return msgspec.structs.replace(
        exo,
        overrides=[*(text for text in exo.overrides if override_name(text) not in replaced), *own.overrides],
        extras=[*exo.extras, *(extra for extra in own.extras if extra not in exo.extras)],
        environment=exo.environment | own.environment,
        flags=[*exo.flags, *own.flags],
        ports=own.ports or exo.ports,
        nodes={},
    )


def override_name(override: str) -> str:
    """Return the distribution that an override replaces: `tinygrad` of `tinygrad>=0.11` and of `~/tinygrad-0.11.0.whl`.

    The name of a wheel or an sdist is in its file name; a folder is named after its last part.
    """
    text = override.strip()
    if text.startswith(("/", "~/")):
        return re.split(r"-\d|\.(?:zip|tar|whl)", text.rstrip("/").rpartition("/")[2])[0].lower().replace("_", "-")
    return re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-")


class ModelPair(Strict, frozen=True):
    """One model under the name each engine has for it."""

    exo: str
    """The id that EXO knows it by, `llama-3.2-3b`."""
    ollama: str
    """Its name and tag in Ollama, `llama3.2:3b-instruct-fp16`."""
    exo_precision: str
    """What EXO loads: `fp16`, `bf16`, `MLX 4-bit`."""
    ollama_precision: str
    """What Ollama's tag is: `F16`, `Q4_K_M`. Compared with what its server says."""
    download_bytes: int | None = None
    """Size of EXO's copy, for the disk check; per node that holds a full copy."""


class Models(Strict, frozen=True):
    """The model pairs of a profile."""

    small: ModelPair
    """Steps 9, 11 and 12."""
    large: ModelPair
    """Step 13, only if step 12 ended in GO."""

    @property
    def by_size(self) -> dict[str, ModelPair]:
        """Both pairs by their key in hosts.yaml."""
        return {"small": self.small, "large": self.large}


class Profile(Strict, frozen=True):
    """A release of EXO with models it can run on these machines."""

    title: str
    """What the report calls this profile."""
    exo: Exo
    """Which EXO, and how it is installed and started."""
    models: Models
    """The models that are compared."""


class Baseline(Strict, frozen=True):
    """One single-node Ollama to compare with."""

    node: Name
    """The node of `nodes` that it runs on."""
    url: Annotated[str, msgspec.Meta(pattern=r"^http://[A-Za-z0-9.\-]+:[0-9]{1,5}$")]
    """As the bench node reaches it."""
    gpu: bool = False
    """Its node is meant to compute on its GPU."""


class Bench(Strict, frozen=True):
    """How the measurement is done."""

    node: Name
    """Where the benchmark script runs and from which every server is reached."""
    runs: Count = 6
    """Freshly loaded runs of each arm in step 12; `fab bench --runs N` overrides it."""
    baseline_runs: Count = 3
    """Likewise in steps 11 and 13."""
    requests: Count = 3
    """Timed requests a run."""
    warmups: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Requests before the timed ones of a run; kept in the data, without a vote."""
    max_tokens: Count = 128
    """The same output length for both engines."""
    num_ctx: Count = 4096
    """Context of Ollama's models. Its own default depends on the machine's memory: 4096 here, 262144 there."""
    seed: int = 20260101
    """Of the order of the arms and of the prompts."""
    request_timeout_s: Seconds = 900
    """After which a request has failed."""
    exo_reload: Literal["restart", "reload", "keep"] = "restart"
    """How EXO is loaded afresh for each run: restart what holds the model (0.0.x: EXO; 1.x: its runners, which is the
    same as reload), reload the model (1.x), or keep it loaded."""
    ollama_reload: Literal["reload", "keep"] = "reload"
    """How Ollama is loaded afresh for each run."""


class Rehearsal(Strict, frozen=True):
    """Written by the rehearsal alone: marks its hosts file, so that a report can never be taken for a real one."""

    speedup: float
    """True ratio of EXO's rate over the best Ollama's."""
    trap: str | None = None
    """The trap that was laid."""
    seed: int = 0
    """Of the noise."""
    drift: float = 0.0
    """Relative change of all engines' rates over the rehearsal's first minutes."""


class Inventory(Strict, frozen=True):
    """All of hosts.yaml."""

    profile: Name
    """The profile in force; FABRIC_EXO_PROFILE=... switches for one call."""
    nodes: dict[Name, NodeSpec]
    """The machines, under the names that tasks and report call them by."""
    ollama: dict[Name, Baseline]
    """The single-node baselines, under the names of their arms."""
    profiles: dict[Name, Profile]
    """Releases of EXO with the models they can run here."""
    bench: Bench
    """How the measurement is done."""
    decision: Limits = Limits()
    """What GO takes, and where a measurement stops being valid."""
    rehearsal: Rehearsal | None = None
    """Written by the rehearsal alone."""


class BenchInForce(msgspec.Struct, frozen=True):
    """How the measurement was to be done; None where an older record does not tell."""

    node: str | None = None
    runs: int | None = None
    requests: int | None = None


class ExoInForce(msgspec.Struct, frozen=True):
    """Which EXO was asked for."""

    release: str | None = None


class ProfileInForce(msgspec.Struct, frozen=True):
    """The profile under which a step ran."""

    title: str = ""
    exo: ExoInForce = ExoInForce()


class BaselineInForce(msgspec.Struct, frozen=True):
    """One single-node Ollama as it was named; `node` is where it runs."""

    node: str | None = None


class Settings(msgspec.Struct, frozen=True):
    """What a report reads of the hosts.yaml that was in force when a step ran. A section that is not told is None.

    A record carries more of it, for people. Unlike hosts.yaml itself it is read leniently: a key that this version
    does not know is another version's, and only the limits, on which a verdict rests, must be understood in full.
    """

    limits: Limits | None = None
    bench: BenchInForce | None = None
    profile: ProfileInForce | None = None
    nodes: dict[str, dict[str, Any]] | None = None
    ollama: dict[str, BaselineInForce] | None = None

    def or_else(self, other: Settings) -> Settings:
        """Return these settings with the sections that they do not tell taken from `other`."""
        return Settings(
            limits=self.limits or other.limits,
            bench=self.bench or other.bench,
            profile=self.profile or other.profile,
            nodes=self.nodes or other.nodes,
            ollama=self.ollama or other.ollama,
        )

    def node_of(self, arm: str) -> str | None:
        """Return the node that a baseline's server runs on."""
        baseline = (self.ollama or {}).get(arm)
        return baseline.node if baseline else None


def settings_carried(inventory: Inventory) -> dict[str, Any]:
    """Return what a record carries of hosts.yaml, as plain JSON; `Settings` is read from it."""
    carried: dict[str, Any] = msgspec.to_builtins(
        {
            "limits": inventory.decision,
            "bench": inventory.bench,
            "profile": inventory.profiles[inventory.profile],
            "nodes": {
                key: {"host": spec.host, "address": spec.address, "gpu": spec.gpu}
                for key, spec in inventory.nodes.items()
            },
            "ollama": inventory.ollama,
        }
    )
    return carried
