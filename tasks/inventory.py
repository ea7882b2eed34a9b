"""hosts.yaml -> frozen structs. The only file that reads YAML.

A mistake in the file is one InventoryError that names the file and the key path, before any connection is made.
`schemas/hosts.schema.json` is generated from these structs, so their docstrings are what an editor shows.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from reports.limits import Limits

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Count = Annotated[int, msgspec.Meta(ge=1)]


class InventoryError(Exception):
    """hosts.yaml cannot be used; the message names the file and the key path."""


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything in hosts.yaml: an unknown key is an error, not a surprise."""


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


class Ports(Strict, frozen=True):
    """Ports of one EXO generation; the same on all nodes."""

    api: Port = 52416
    peer: Port = 50051
    """0.0.x: --node-port. 1.x: --libp2p-port."""


class Exo(Strict, frozen=True):
    """Which EXO, from where, and how it is started."""

    release: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?[a-z0-9.-]*$")]
    """`0.0.15` or `1.0.71`: decides the generation, the Python version and the flags."""
    source: str
    """What is installed: `git+https://...@TAG`, a local directory, a wheel or an sdist. Never a bare name."""
    python: Annotated[str, msgspec.Meta(pattern=r"^([<>=!]=?[0-9.]+)(,[<>=!]=?[0-9.]+)*$")] | None = None
    """Python versions to accept, `>=3.12`; what the release needs when left out."""
    ports: Ports = Ports()
    extras: list[Name] = []
    """Extras of EXO's own package to install on every node; one that does not exist is an error."""
    overrides: list[str] = []
    """Requirements that replace what the release pins, e.g. `tinygrad>=0.11` or a local path."""
    flags: list[str] = []
    """Further start flags for every node."""
    environment: dict[str, str] = {}
    """Further environment for every node."""
    node_extras: dict[str, list[Name]] = {}
    """Per node, beside `extras`."""
    node_flags: dict[str, list[str]] = {}
    """Per node, after `flags`."""
    node_environment: dict[str, dict[str, str]] = {}
    """Per node, over `environment`: `AMD: "1"` for the Radeon."""
    install_timeout_s: Seconds = 1800
    start_timeout_s: Seconds = 120
    cluster_timeout_s: Seconds = 90
    download_timeout_s: Seconds = 7200


class Pair(Strict, frozen=True):
    """One model under the name each engine has for it."""

    exo: str
    ollama: str
    exo_precision: str
    """What EXO loads: `fp16`, `bf16`, `MLX 4-bit`."""
    ollama_precision: str
    """What Ollama's tag is: `F16`, `Q4_K_M`. Compared with what its server says."""
    download_bytes: int | None = None
    """Size of EXO's copy, for the disk check; per node that holds a full copy."""


class Models(Strict, frozen=True):
    """The model pairs of a profile."""

    small: Pair
    """Steps 9, 11 and 12."""
    large: Pair
    """Step 13, only if step 12 ended in GO."""


class Profile(Strict, frozen=True):
    """A release of EXO with models it can run on these machines."""

    title: str
    exo: Exo
    models: Models


class Baseline(Strict, frozen=True):
    """One single-node Ollama to compare with."""

    node: Name
    url: Annotated[str, msgspec.Meta(pattern=r"^http://[A-Za-z0-9.\-]+:[0-9]{1,5}$")]
    """As the bench node reaches it."""
    gpu: bool = False
    """Its node is meant to compute on its GPU."""


class Bench(Strict, frozen=True):
    """How the measurement is done."""

    node: Name
    """Where the benchmark script runs and from which every server is reached."""
    runs: Count = 5
    baseline_runs: Count = 3
    requests: Count = 3
    """Timed requests a run."""
    warmups: Annotated[int, msgspec.Meta(ge=0)] = 1
    max_tokens: Count = 128
    seed: int = 20260101
    request_timeout_s: Seconds = 900
    exo_reload: Literal["restart", "reload", "keep"] = "restart"
    """How EXO is loaded afresh for each run: restart the cluster, reload the model (1.x), or keep it loaded."""
    ollama_reload: Literal["reload", "keep"] = "reload"


class Rehearsal(Strict, frozen=True):
    """Written by the rehearsal alone: marks its hosts file, so that a report can never be taken for a real one."""

    speedup: float
    trap: str | None = None
    seed: int = 0


class Inventory(Strict, frozen=True):
    """All of hosts.yaml."""

    profile: Name
    """The profile in force; FABRIC_EXO_PROFILE=... switches for one call."""
    nodes: dict[Name, NodeSpec]
    ollama: dict[Name, Baseline]
    profiles: dict[Name, Profile]
    bench: Bench
    decision: Limits = Limits()
    rehearsal: Rehearsal | None = None


NODE_KEYS = ("srv1", "srv2", "rog")
"""The plan's three nodes; its steps are named after them."""


def load_inventory(path: Path, profile: str | None = None) -> Inventory:
    """Read and check `path`; `profile` overrides the one named in the file. Raises InventoryError."""
    inventory = _convert(path, _read_yaml(path))
    if profile:
        inventory = msgspec.structs.replace(inventory, profile=profile)
    problems = list(_contradictions(inventory))
    if problems:
        raise InventoryError(f"{path}: " + "; ".join(problems))
    return inventory


def active(inventory: Inventory) -> Profile:
    """Return the profile in force."""
    return inventory.profiles[inventory.profile]


def campaign_id(inventory: Inventory) -> str:
    """Return 12 hex digits that change whenever anything that bears on a measurement changes in hosts.yaml."""
    relevant = [inventory.nodes, inventory.ollama, active(inventory), inventory.bench, inventory.decision]
    return hashlib.sha256(msgspec.json.encode(relevant, order="sorted")).hexdigest()[:12]


def hosts_schema() -> dict[str, Any]:
    """Return the JSON Schema of hosts.yaml."""
    return msgspec.json.schema(Inventory)


def _read_yaml(path: Path) -> Any:
    import yaml

    class UniqueKeys(yaml.SafeLoader):
        """Plain YAML, but a key given twice is an error instead of a silent last one wins."""

    def mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = loader.construct_object(key)
            if name in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key '{name}' is given twice", key.start_mark)
            seen.add(name)
        return loader.construct_mapping(node, deep=True)

    UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        raise InventoryError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InventoryError(f"{path}: cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}" if mark else "somewhere"
        raise InventoryError(f"{path}: {where}: {error.problem}") from error
    except (yaml.YAMLError, TypeError) as error:
        raise InventoryError(f"{path}: not YAML: {error}") from error


def _convert(path: Path, raw: Any) -> Inventory:
    try:
        return msgspec.convert(raw, Inventory)
    except msgspec.ValidationError as error:
        said = str(error)
        match = re.fullmatch(r"(?s)(.*) - at `(?:key in )?\$\.?(.*)`", said)
        reason, key = (match.group(1), match.group(2)) if match else (said, "")
        raise InventoryError(f"{path}: {key or 'top level'}: {reason}") from error


def _contradictions(inventory: Inventory) -> list[str]:
    """Find what the types cannot say; each entry starts with the key path it is about."""
    found: list[str] = []
    names = set(inventory.nodes)
    if names != set(NODE_KEYS):
        found.append(f"nodes: has {sorted(names)}, the plan's steps need exactly {list(NODE_KEYS)}")
    if inventory.profile not in inventory.profiles:
        found.append(f"profile: '{inventory.profile}' is not one of profiles ({', '.join(inventory.profiles)})")
    found += _bad_nodes(inventory.nodes)
    if not inventory.ollama:
        found.append("ollama: needs at least one baseline")
    for arm, baseline in inventory.ollama.items():
        if baseline.node not in names:
            found.append(f"ollama.{arm}.node: '{baseline.node}' is not one of nodes")
        if arm == "exo":
            found.append("ollama.exo: this name is kept for the EXO side; call the baseline otherwise")
    if inventory.bench.node not in names:
        found.append(f"bench.node: '{inventory.bench.node}' is not one of nodes")
    for key, profile in inventory.profiles.items():
        found += _bad_profile(key, profile, names)
    return found


def _bad_nodes(nodes: dict[str, NodeSpec]) -> list[str]:
    found = []
    doors: dict[tuple[str, int], str] = {}
    addresses: dict[str, str] = {}
    for key, node in nodes.items():
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._:\-]*[A-Za-z0-9])?", node.host):
            found.append(f"nodes.{key}.host: '{node.host}' is not a host name")
        door = (node.host, node.port or 22)
        if door in doors:
            found.append(f"nodes.{key}: the same machine as nodes.{doors[door]} ({node.host}, port {door[1]})")
        doors[door] = key
        if node.address is None:
            continue
        try:
            ipaddress.IPv4Address(node.address)
        except ValueError:
            found.append(f"nodes.{key}.address: '{node.address}' is not an IPv4 address")
        if node.address in addresses:
            found.append(f"nodes.{key}.address: the same as nodes.{addresses[node.address]}.address")
        addresses[node.address] = key
    return found


def _bad_profile(key: str, profile: Profile, nodes: set[str]) -> list[str]:
    found = []
    exo = profile.exo
    if exo.ports.api == exo.ports.peer:
        found.append(f"profiles.{key}.exo.ports: api and peer are both {exo.ports.api}")
    if re.fullmatch(r"exo(\[.*\])?([=<>~!].*)?", exo.source.strip()):
        found.append(
            f"profiles.{key}.exo.source: '{exo.source}' would install the Yeast Epigenome Project's tool;"
            " give a git URL with a tag, a directory, a wheel or an sdist"
        )
    for field in ("node_extras", "node_flags", "node_environment"):
        for name in getattr(exo, field):
            if name not in nodes:
                found.append(f"profiles.{key}.exo.{field}.{name}: not one of nodes")
    for size in ("small", "large"):
        pair: Pair = getattr(profile.models, size)
        for engine in ("exo", "ollama"):
            if not getattr(pair, engine).strip():
                found.append(f"profiles.{key}.models.{size}.{engine}: is empty; every model needs an id per engine")
    return found
