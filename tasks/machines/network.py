"""The way between the nodes: Tailscale's word on it, and round-trip times. Commands to run, text to parse.

Tailscale gives addresses out of 100.64.0.0/10 and carries neither multicast nor broadcast, so discovery must be told
its peers. A way is `direct` (UDP from node to node) or relayed through a DERP server in some city, which costs tens of
milliseconds a hop; only traffic decides which, so the peers are pinged before the status is asked.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from reports.text.format import duration
from tasks.decode import decode

_TAILSCALE = ipaddress.ip_network("100.64.0.0/10")
_MARK = "@@exo-phase1@@"
_WAY = "@@way@@"


WayKind = Literal["direct", "relayed", "own", "offline", "no-tailscale", "unknown"]
_WORDS: dict[WayKind, str] = {"own": "own node", "no-tailscale": "no Tailscale address", "unknown": "not known"}


class Way(msgspec.Struct, frozen=True):
    """How one node reaches another."""

    node: str
    address: str
    round_trip_s: float | None
    """Median; None where neither ping nor a TCP connection got an answer."""
    kind: WayKind
    detail: str = ""
    """For people: the relay server's region, or why it is not known."""

    @property
    def phrase(self) -> str:
        """The kind in words: `direct`, `relayed (fra)`, `not known (idle)`."""
        words = _WORDS.get(self.kind, self.kind)
        return f"{words} ({self.detail})" if self.detail else words

    @property
    def words(self) -> str:
        """The way for people: `direct, 1.2 ms`."""
        return f"{self.phrase}, {'no answer' if self.round_trip_s is None else duration(self.round_trip_s)}"


class Network(msgspec.Struct, frozen=True):
    """The ways from one node to all."""

    own_address: str | None
    """The node's own Tailscale IPv4 address."""
    ways: dict[str, Way]


class _Node(msgspec.Struct, frozen=True):
    TailscaleIPs: list[str] | None = None
    CurAddr: str | None = None
    Relay: str | None = None
    PeerRelay: str | None = None
    Active: bool = False
    Online: bool | None = None


class _Status(msgspec.Struct, frozen=True):
    BackendState: str = ""
    Self: _Node | None = None
    Peer: dict[str, _Node] | None = None


def in_tailscale_range(address: str) -> bool:
    """Tell whether `address` is one that Tailscale gives out: 100.64.0.0/10 (RFC 6598)."""
    try:
        return ipaddress.ip_address(address) in _TAILSCALE
    except ValueError:
        return False


def address_command() -> str:
    """Return a command that prints the node's own Tailscale IPv4 address, for nodes without `address` in hosts.yaml."""
    return 'PATH="$PATH:/usr/sbin:/usr/local/bin"; tailscale ip -4'


def parse_address(text: str) -> str | None:
    """Read what `tailscale ip -4` printed: the first IPv4 address of Tailscale's range, None where there is none."""
    return next((word for word in text.split() if in_tailscale_range(word)), None)


def probed_from(node: str, nodes: Sequence[str], bench: str) -> list[str]:
    """Return the nodes that `node` measures its way to: from the bench node all, from another one the next.

    So every node is a neighbour of somebody's, and the work grows as the nodes do, not as their pairs.
    """
    if node == bench:
        return list(nodes)
    others = [key for key in nodes if key != bench]
    following = others[(others.index(node) + 1) % len(others)]
    return [following] if following != node else []


def probe_command(peers: Mapping[str, str], port: int) -> str:
    """Return one command that measures the way to every address of `peers` and then asks Tailscale about it.

    Each address is pinged five times; where ping gets no answer, `port` is connected to, which measures the same
    round trip even where the connection is refused. Takes about two seconds for nodes that answer.
    """
    asked = "\n".join(f"way {shlex.quote(key)} {shlex.quote(address)} &" for key, address in peers.items())
    return f"""export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin:/usr/local/bin"
way() {{
  out=$(timeout 10 ping -n -c 5 -i 0.2 -W 2 "$2" 2>/dev/null | grep -o 'time=[0-9.]* ms')
  [ -n "$out" ] || out=$(timeout 10 bash -c 'for i in 1 2 3 4 5; do a=$EPOCHREALTIME
    : 3<>"/dev/tcp/$0/$1"; b=$EPOCHREALTIME; echo "time=$(( ${{b/./}} - ${{a/./}} )) us"; done' "$2" {port} 2>&1)
  while IFS= read -r line; do printf '%s\\n' "{_WAY} $1 $line"; done <<<"$out"  # lines of several ways may mix
}}
{asked}
wait
echo "{_MARK} own"; tailscale ip -4 2>&1
echo "{_MARK} status"; command -v tailscale >/dev/null && timeout 10 tailscale status --json 2>&1"""


def read_probe(text: str, peers: Mapping[str, str], own: str) -> Network:
    """Read what `probe_command` printed on the node `own`. Never raises: what was not told is None or says so."""
    sections = _sections(text)
    own_address = parse_address(sections.get("own", ""))
    status = _status(sections.get("status", ""))
    ways = {}
    for key, address in peers.items():
        trips = re.findall(rf"^{_WAY} {re.escape(key)} (.*)$", text, re.MULTILINE)
        kind, detail = _kind(address, status, sections.get("status", ""))
        took_s = _round_trip("\n".join(trips))
        ways[key] = Way(key, address, took_s, "own") if key == own else Way(key, address, took_s, kind, detail)
    return Network(own_address, ways)


def _sections(text: str) -> dict[str, str]:
    parts = re.split(rf"^{re.escape(_MARK)} ", text, flags=re.MULTILINE)[1:]
    return {head.strip(): body for head, _, body in (part.partition("\n") for part in parts)}


def _round_trip(text: str) -> float | None:
    """Return the median of `time=0.43 ms` (ping) or `time=430 us` (a TCP connection), in seconds.

    A refused connection is an answer of the other side; any other error of the shell means that nothing came back.
    """
    if any("/dev/tcp/" in line and "Connection refused" not in line for line in text.splitlines()):
        return None
    scale = {"ms": 1e-3, "us": 1e-6}
    times = [float(n) * scale[unit] for n, unit in re.findall(r"time=(\d{1,9}(?:\.\d{1,9})?) (ms|us)", text)]
    return statistics.median(times) if times else None


def _status(text: str) -> _Status | None:
    start = text.find("{")
    try:
        return decode(text[start:] if start >= 0 else "", _Status)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _kind(address: str, status: _Status | None, printed: str) -> tuple[WayKind, str]:
    """Return how Tailscale reaches `address`, with a detail: `CurAddr` is the direct UDP way, `Relay` the DERP region.

    `printed` is what `tailscale status` printed, readable or not.
    """
    if status is None and not in_tailscale_range(address):
        return "no-tailscale", ""
    if status is None:
        return "unknown", "Tailscale does not tell" if printed.strip() else "no tailscale program"
    if status.BackendState not in ("", "Running"):
        return "unknown", f"Tailscale is {status.BackendState}"
    if status.Self and address in (status.Self.TailscaleIPs or []):
        return "own", ""
    peer = next((p for p in (status.Peer or {}).values() if address in (p.TailscaleIPs or [])), None)
    if peer is None:
        return ("unknown", "Tailscale has no such peer") if in_tailscale_range(address) else ("no-tailscale", "")
    if peer.CurAddr:
        return "direct", ""
    if peer.PeerRelay:
        return "relayed", f"peer {peer.PeerRelay}"
    if peer.Online is False:
        return "offline", ""
    if not peer.Active:
        return "unknown", "idle"
    return ("relayed", peer.Relay) if peer.Relay else ("unknown", "")
