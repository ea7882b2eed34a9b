"""hosts.yaml -> frozen structs. The only file that reads YAML.

A mistake in the file is one InventoryError that names the file and the key path, before any connection is made.
`schemas/hosts.schema.json` is generated from the same structs.
"""

from __future__ import annotations

import ast
import codecs
import datetime
import hashlib
import ipaddress
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from records import settings
from records.settings import Exo, Inventory, NodeExo, NodeSpec, Profile
from tasks.hosts_mistakes import hint, located, named, ratio_hint, unknown_keys, value_at
from tasks.redact import secret_flags, secret_query

PROMPT_ROOM = 256
"""Tokens that a prompt of ours may take with any model's chat template; the longest seen was 89."""


class InventoryError(Exception):
    """hosts.yaml cannot be used; the message names the file and the key path."""


MOST_RATIO = 10
"""A larger target is a percentage that was written as a ratio."""


def load_inventory(path: Path, profile: str | None = None) -> Inventory:
    """Read and check `path`; `profile` overrides the one named in the file. Raises InventoryError."""
    raw, lines = _read_yaml(path)
    inventory = _convert(path, raw, lines)
    if profile:
        inventory = msgspec.structs.replace(inventory, profile=profile)
    _refuse(path, _contradictions(inventory), lines)
    return inventory


def active(inventory: Inventory) -> Profile:
    """Return the profile in force."""
    return inventory.profiles[inventory.profile]


def campaign_id(inventory: Inventory) -> str:
    """Return 12 hex digits that change whenever anything that bears on a measurement changes in hosts.yaml."""
    relevant = [inventory.nodes, inventory.ollama, active(inventory), inventory.bench, inventory.decision]
    return hashlib.sha256(msgspec.json.encode(relevant, order="sorted")).hexdigest()[:12]


def hosts_schema() -> dict[str, Any]:
    """Return the JSON Schema of hosts.yaml, with what `records/settings.py` says below each key as its description."""
    schema = msgspec.json.schema(Inventory)
    said = _said_of_keys(Path(settings.__file__))
    for name, kind in schema["$defs"].items():
        for key, described in kind.get("properties", {}).items():
            if words := said.get((name, key)):
                described["description"] = words
    return schema


def _said_of_keys(path: Path) -> dict[tuple[str, str], str]:
    """Return the text below each field of each class in a module: Python itself forgets it."""
    said = {}
    for kind in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(kind, ast.ClassDef):
            continue
        for field, below in itertools.pairwise(kind.body):
            match field, below:
                case ast.AnnAssign(target=name), ast.Expr(value=ast.Constant(value=str(words))):
                    said[kind.name, ast.unparse(name)] = " ".join(words.split())
    return said


def _read_yaml(path: Path) -> tuple[Any, dict[str, int]]:
    """Return what the file says, and the line of each key path in it."""
    import yaml

    class UniqueKeys(yaml.SafeLoader):
        """Plain YAML, but a key given twice and 0022, which is 18 there, are errors instead of silent surprises."""

    def mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                words = "a value that begins with { or [ goes in quotes"
                raise yaml.MarkedYAMLError(None, None, words, key.start_mark)
            if key.tag == "tag:yaml.org,2002:merge":
                continue  # `<<`, which construct_mapping sees to
            name = loader.construct_object(key)
            if name in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key '{name}' is given twice", key.start_mark)
            seen.add(name)
        return loader.construct_mapping(node, deep=True)

    def number(loader: UniqueKeys, node: yaml.ScalarNode) -> int:
        value = int(loader.construct_yaml_int(node))
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", node.value):
            words = f"{node.value} is the number {value} in YAML; write it in plain digits, or a text in quotes"
            raise yaml.MarkedYAMLError(None, None, words, node.start_mark)
        return value

    UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    UniqueKeys.add_constructor("tag:yaml.org,2002:int", number)
    text = ""
    try:
        text = _text_of(path)
        raw = yaml.load(text, Loader=UniqueKeys)  # noqa: S506 - a SafeLoader
        return raw, dict(_lines_of(yaml.compose(text, Loader=yaml.SafeLoader)))
    except FileNotFoundError as error:
        raise InventoryError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InventoryError(f"{path}: cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}" if mark else "somewhere"
        more = "; indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        if mark and "\xa0" in "".join(text.splitlines()[max(0, mark.line - 1) : mark.line + 1]):
            more = "; a no-break space stands there, or on the line before: write a plain one"
        raise InventoryError(f"{path}: {where}: {error.problem}{more}") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        found = f"line {line}: character {error.character:#x} cannot stand there"
        raise InventoryError(f"{path}: {found}; save the file as plain text in UTF-8") from error
    except (yaml.YAMLError, TypeError) as error:
        raise InventoryError(f"{path}: not YAML: {error}") from error


def _text_of(path: Path) -> str:
    """Return the file's text, whatever mark an editor has put before it. Raises InventoryError with the line."""
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InventoryError(f"{path}: line {line}: not UTF-8: {error.reason}; save the file as UTF-8") from error


_NODE_KEYS_OF_BEFORE = ("overrides", "extras", "environment", "flags", "ports")


def _keys_of_before(raw: Any) -> Iterator[str]:
    """Yield the keys of 0.2 for what single nodes need, each with where that is written now."""
    profiles = raw.get("profiles") if isinstance(raw, dict) else None
    for name, profile in profiles.items() if isinstance(profiles, dict) else ():
        exo = profile.get("exo") if isinstance(profile, dict) else None
        for key in _NODE_KEYS_OF_BEFORE:
            if isinstance(exo, dict) and (old := f"node_{key}") in exo:
                nodes = ", ".join(map(str, exo[old])) if isinstance(exo[old], dict) else "NODE"
                yield (
                    f"profiles.{name}.exo.{old}: this key is gone; write what a node needs as `{key}` into"
                    f" profiles.{name}.exo.nodes.NODE (here for {nodes})"
                )


def _lines_of(node: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield every key path of a YAML tree with the line that it is on, counted from 1."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = f"{path}.{key.value}" if path else str(key.value)
            yield below, key.start_mark.line + 1
            yield from _lines_of(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield f"{path}[{number}]", value.start_mark.line + 1
            yield from _lines_of(value, f"{path}[{number}]")


def _refuse(path: Path, mistakes: list[str], lines: dict[str, int]) -> None:
    """Raise InventoryError with every one of `mistakes`, each with its line; nothing where there is none."""
    if mistakes:
        raise InventoryError(f"{path}: " + "; ".join(located(mistake, lines) for mistake in mistakes))


def _convert(path: Path, raw: Any, lines: dict[str, int]) -> Inventory:
    _refuse(path, list(_keys_of_before(raw)) or list(unknown_keys(raw)), lines)
    try:
        return msgspec.convert(raw, Inventory)
    except msgspec.ValidationError as error:
        said = str(error)
        match = re.fullmatch(r"(?s)(.*) - at `(?:key` in `)?\$\.?(.*)`", said)
        reason, key = (match.group(1), match.group(2)) if match else (said, "")
        where = named(raw, key)
        value = value_at(raw, where)
        meant = hint(where, value)
        if reason.startswith("Expected `str") and isinstance(value, (bool, int, float, datetime.date)):
            meant = "put it in quotes"
        mistake = f"{where or 'top level'}: {reason}" + (f"; {meant}" if meant else "")
        raise InventoryError(f"{path}: {located(mistake, lines)}") from error


def _contradictions(inventory: Inventory) -> list[str]:
    """Find what the types cannot say; each entry starts with the key path it is about."""
    mistakes: list[str] = []
    names = set(inventory.nodes)
    if len(names) < 2:
        mistakes.append("nodes: has fewer than two; a cluster needs two at least")
    if inventory.profile not in inventory.profiles:
        mistakes.append(f"profile: '{inventory.profile}' is not one of profiles ({', '.join(inventory.profiles)})")
    mistakes += _bad_nodes(inventory.nodes)
    target = inventory.decision.target_ratio
    if target > MOST_RATIO:
        mistakes.append(f"decision.target_ratio: {target:g} would be {target:g} times as fast; {ratio_hint(target)}")
    if not inventory.ollama:
        mistakes.append("ollama: needs at least one baseline")
    for arm, baseline in inventory.ollama.items():
        if baseline.node not in names:
            mistakes.append(f"ollama.{arm}.node: '{baseline.node}' is not one of nodes")
        if arm == "exo":
            mistakes.append("ollama.exo: this name is kept for the EXO arm; call the baseline otherwise")
    least = inventory.bench.max_tokens + PROMPT_ROOM
    if inventory.bench.num_ctx < least:
        mistakes.append(
            f"bench.num_ctx: {inventory.bench.num_ctx} tokens hold no prompt and {inventory.bench.max_tokens} tokens"
            f" of answer; at least {least} do"
        )
    if inventory.bench.node not in names:
        mistakes.append(f"bench.node: '{inventory.bench.node}' is not one of nodes")
    for key, profile in inventory.profiles.items():
        mistakes += _bad_profile(key, profile, names)
    return mistakes


def _not_a_host(key: str, host: str) -> str:
    """Return why `host` is nothing to give to ssh; "" where it is a name or an address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return ""
    named = re.fullmatch(r"(?:ssh://)?(?:([^@:/]+)@)?\[?([^@\[\]]*?)\]?(?::(\d{1,5}))?/?", host)
    user, name, port = named.groups() if named else (None, host, None)
    if (user or port or name != host) and re.fullmatch(r"[A-Za-z0-9:][A-Za-z0-9.:_-]*", name):
        more = [f"nodes.{key}.user: {user}"] if user else []
        more += [f"nodes.{key}.port: {port}"] if port else []
        return f"'{host}' is more than a host; write {', '.join([f'nodes.{key}.host: {name}', *more])}"
    return "" if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?", host) else f"'{host}' is not a host name"


def _bad_nodes(nodes: dict[str, NodeSpec]) -> list[str]:
    mistakes = []
    doors: dict[tuple[str, int], str] = {}
    addresses: dict[str, str] = {}
    for key, node in nodes.items():
        if wrong := _not_a_host(key, node.host):
            mistakes.append(f"nodes.{key}.host: {wrong}")
        door = (node.host.rstrip(".").lower(), node.port or 22)
        if door in doors:
            mistakes.append(f"nodes.{key}: the same machine as nodes.{doors[door]} ({node.host}, port {door[1]})")
        doors[door] = key
        if node.address is None:
            continue
        try:
            given = ipaddress.IPv4Address(node.address)
            if given.is_unspecified or given.is_multicast or given.is_reserved:
                mistakes.append(f"nodes.{key}.address: {given} is no address of one machine")
        except ValueError:
            why = " (EXO is told IPv4 addresses; `tailscale ip -4` shows it)" if ":" in node.address else ""
            mistakes.append(f"nodes.{key}.address: '{node.address}' is not an IPv4 address{why}")
        if node.address in addresses:
            mistakes.append(f"nodes.{key}.address: the same as nodes.{addresses[node.address]}.address")
        addresses[node.address] = key
    return mistakes


def _bad_profile(key: str, profile: Profile, nodes: set[str]) -> list[str]:
    mistakes = []
    exo = profile.exo
    own = {name: node.ports for name, node in exo.nodes.items() if node.ports}
    for path, ports in {"ports": exo.ports, **{f"nodes.{n}.ports": p for n, p in own.items()}}.items():
        if ports.api == ports.peer:
            mistakes.append(f"profiles.{key}.exo.{path}: api and peer are both {ports.api}")
    if exo.release.startswith("1.") and any(ports.api != exo.ports.api for ports in own.values()):
        mistakes.append(f"profiles.{key}.exo.nodes: EXO 1.x needs the same api port on every node")
    if re.fullmatch(r"exo(\[.*\])?([=<>~!].*)?", exo.source.strip()):
        mistakes.append(
            f"profiles.{key}.exo.source: '{exo.source}' would install the Yeast Epigenome Project's tool;"
            " give a git URL with a tag, a directory, a wheel or an sdist"
        )
    parts: dict[str, Exo | NodeExo] = {"exo": exo, **{f"exo.nodes.{name}": own for name, own in exo.nodes.items()}}
    for path, part in parts.items():
        mistakes += [
            f"profiles.{key}.{path}.flags: {flag} would stand in the node's list of processes for all to read;"
            " give it in environment"
            for flag in secret_flags(part.flags)
        ]
        mistakes += [
            f"profiles.{key}.{path}.environment: '{name}' is no name of a variable"
            for name in part.environment
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
        ]
        sources = [*part.overrides, *([exo.source] if part is exo else [])]
        if any(secret_query(text) for text in sources):
            mistakes.append(
                f"profiles.{key}.{path}: a secret in a URL's query would stand in the node's list of processes for"
                " all to read; give it as https://user:password@..."
            )
    mistakes += [f"profiles.{key}.exo.nodes.{name}: not one of nodes" for name in exo.nodes if name not in nodes]
    for size, pair in profile.models.by_size.items():
        for engine, model in (("exo", pair.exo), ("ollama", pair.ollama)):
            if not model.strip():
                mistakes.append(f"profiles.{key}.models.{size}.{engine}: is empty; every model needs an id per engine")
    return mistakes
