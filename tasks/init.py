"""`fab init`: a hosts.yaml of one's own after four questions, with what ~/.ssh/config and `tailscale status` know."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from records.files import write_whole
from tasks import console
from tasks.command_line import PROJECT
from tasks.decode import decode
from tasks.errors import StepError
from tasks.inventory import load_inventory

SSH_CONFIG = Path("~/.ssh/config")
_DEFAULT_PORT = 11434


class _Peer(msgspec.Struct, frozen=True):
    HostName: str = ""
    DNSName: str = ""
    TailscaleIPs: list[str] | None = None
    OS: str = ""


class _Status(msgspec.Struct, frozen=True):
    Self: _Peer | None = None
    Peer: dict[str, _Peer] | None = None


def write_hosts_file(path: Path, ask: Callable[[str], str] = input, ssh_config: Path = SSH_CONFIG) -> None:
    """Ask, write `path` and check it. Raises StepError where it is there already or an answer makes no sense."""
    if path.exists():
        raise StepError("is there already", "a name that is free", "fab init --output mine.yaml", who=str(path))
    aliases = ssh_aliases(ssh_config.expanduser())
    tailnet = tailscale_addresses(_tailscale())
    if aliases:
        console.text(f"~/.ssh/config knows: {', '.join(aliases)}")
    if tailnet:
        console.text("Tailscale knows: " + ", ".join(f"{host} {address}" for host, address in tailnet.items()))
    console.text("Four questions; what stands in brackets is taken where nothing is typed.")
    hosts = _words(_asked(ask, "1. Which machines, as ssh is given them? (two or more)", " ".join(aliases[:3])))
    local = _asked(ask, "2. Which of them is this very machine? (- for none)", hosts[0] if hosts else "-")
    gpu = _asked(ask, "3. Which has the GPU to compute on? (- for none)", "-")
    ollama = _words(_asked(ask, "4. On which does Ollama run?", " ".join(hosts)))
    try:
        content = hosts_file(hosts, None if local == "-" else local, None if gpu == "-" else gpu, ollama, tailnet)
    except ValueError as error:
        raise StepError(str(error), "names out of the first answer", "fab init", who="fab init") from error
    write_whole(path, content.encode())
    load_inventory(path)
    console.text(f"wrote {path}; every key is explained in schemas/hosts.schema.json, which editors show")
    console.next_is("fab trust-hosts" if path.name == "hosts.yaml" else f"FABRIC_EXO_INVENTORY={path} fab trust-hosts")


def hosts_file(
    hosts: list[str], local: str | None, gpu: str | None, ollama: list[str], tailnet: Mapping[str, str]
) -> str:
    """Return the text of a hosts.yaml for these machines: the shipped profiles, with nodes and baselines of one's own.

    Raises ValueError where a name is none of `hosts`, or there are fewer than two.
    """
    if len(hosts) < 2:
        raise ValueError("fewer than two machines")
    strange = [name for name in (local, gpu, *ollama) if name and name not in hosts]
    if strange or not ollama:
        raise ValueError(f"{', '.join(strange) or 'no machine with Ollama'}: none of {', '.join(hosts)}")
    keys = node_keys(hosts)
    shipped = (PROJECT / "hosts.yaml").read_text(encoding="utf-8")
    nodes = "".join(_node(keys[host], host, host == local, host == gpu, tailnet.get(host)) for host in hosts)
    servers = "".join(_server(keys[host], host, host == local, host == gpu, tailnet.get(host)) for host in ollama)
    bench = keys[local or hosts[0]]
    text = _replaced(shipped, "nodes", f"nodes:\n{nodes}\n")
    text = _replaced(text, "ollama", f"ollama:\n{servers}\n")
    text = re.sub(r"(?m)^bench:\n  node: \S+", f"bench:\n  node: {bench}", text)
    return _own_nodes(text, keys, gpu)


def node_keys(hosts: Iterable[str]) -> dict[str, str]:
    """Return a short key for each host: its first label in small letters, numbered where two are alike."""
    keys: dict[str, str] = {}
    for host in hosts:
        name = re.sub(r"[^a-z0-9-]", "-", host.partition(".")[0].lower()).strip("-")[:28]
        name = name if re.match(r"[a-z]", name) and name != "exo" else f"n{name}"
        number = 2
        key = name
        while key in keys.values():
            key, number = f"{name}-{number}", number + 1
        keys[host] = key
    return keys


def ssh_aliases(path: Path) -> list[str]:
    """Return the names that an ssh_config gives, without patterns; [] where there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    named = [word for line in lines if (m := re.match(r"\s*Host[\s=]+(.*)", line, re.I)) for word in m[1].split()]
    return list(dict.fromkeys(word.strip('"') for word in named if not re.search(r"[*?!#]", word)))


def tailscale_addresses(printed: str) -> dict[str, str]:
    """Return the IPv4 address of each Linux host in what `tailscale status --json` printed; {} for anything else.

    A host goes by its name in the tailnet, which is its own alone: several may call themselves `ubuntu`.
    """
    try:
        status = decode(printed, _Status)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {}
    peers = [peer for peer in (status.Self, *(status.Peer or {}).values()) if peer and peer.OS in ("linux", "")]
    addresses = {
        peer.DNSName.partition(".")[0] or peer.HostName: next((ip for ip in peer.TailscaleIPs or [] if "." in ip), "")
        for peer in peers
    }
    return {name: address for name, address in addresses.items() if name and address}


def _tailscale() -> str:
    try:
        done = subprocess.run(["tailscale", "status", "--json"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _asked(ask: Callable[[str], str], question: str, default: str) -> str:
    try:
        return ask(f"{question} [{default}] ").strip() or default
    except EOFError:
        raise StepError("nobody answers here", "a terminal", "type fab init there", who="fab init") from None


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(re.split(r"[,\s]+", text.strip()))) if text.strip() else []


def _node(key: str, host: str, local: bool, gpu: bool, address: str | None) -> str:
    lines = [f"  {key}:", f"    host: {json.dumps(host)}"]
    lines += ["    local: true                 # `fab` is typed on this machine"] if local else []
    lines += [f"    address: {address}"] if address else []
    if gpu:
        lines += ["    gpu:                        # rocminfo and lspci -nn on that machine tell"]
        lines += ["      name: Radeon 8060S", "      gfx: gfx1151", '      pci_id: "1002:1586"']
    return "\n".join(lines) + "\n"


def _server(key: str, host: str, local: bool, gpu: bool, address: str | None) -> str:
    where = "localhost" if local else address or host
    lines = [
        f"  {key}:",
        f"    node: {key}",
        f"    url: http://{where}:{_DEFAULT_PORT}",
        *(["    gpu: true"] if gpu else []),
    ]
    return "\n".join(lines) + "\n"


def _replaced(text: str, section: str, new: str) -> str:
    """Put `new` in place of a top-level section, up to the next line that is not part of it."""
    return re.sub(rf"(?m)^{section}:\n(?:[ ].*\n|\n(?=[ ]))*", lambda _: new.rstrip("\n") + "\n", text, count=1)


def _own_nodes(text: str, keys: Mapping[str, str], gpu: str | None) -> str:
    """Name these machines in the profile that tells CPU nodes from the GPU's, as the shipped file does its three."""
    cpu = (
        '          overrides: ["tinygrad==0.10.2"]\n          environment: {CPU: "1"}       # needs clang on the node\n'
    )
    found: Any = re.search(r"(?m)^        rog:\n((?:          .*\n)+)", text)
    blocks = "".join(f"        {key}:\n{found[1] if host == gpu else cpu}" for host, key in keys.items())
    return re.sub(r"(?m)^      nodes:\n(?:        .*\n)+", lambda _: f"      nodes:\n{blocks}", text, count=1)
