"""The command line of EXO 1.0.71; usage and help are the recorded texts."""

import argparse
import os
import sys
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"


class Parser(argparse.ArgumentParser):
    """argparse with the recorded texts, whatever Python runs this."""

    def format_usage(self) -> str:
        """Return the recorded usage."""
        return (RECORDED / "usage.txt").read_text()

    def format_help(self) -> str:
        """Return the recorded help."""
        return (RECORDED / "help.txt").read_text()

    def print_usage(self, file=None) -> None:
        """Print the recorded usage."""
        (file or sys.stdout).write(self.format_usage())


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; exits 2 as argparse does."""
    parser = Parser(prog="EXO")
    add = parser.add_argument
    add("-q", "--quiet", action="store_true")
    add("-v", "--verbose", action="count", default=0)
    add("-m", "--force-master", action="store_true")
    for name in ("no-api", "no-worker", "no-downloads", "offline", "no-batch"):
        add(f"--{name}", action="store_true")
    add("--api-port", type=int, default=52415)
    add("--libp2p-port", type=int, default=0)
    add("--bootstrap-peers", default=os.environ.get("EXO_BOOTSTRAP_PEERS", ""))
    add("--fast-synch", action=argparse.BooleanOptionalAction)
    return parser.parse_args(argv)


def addresses(peers: str) -> list[tuple[str, int]]:
    """Return the (address, port) pairs of comma-separated multiaddrs, `/ip4/100.64.0.2/tcp/4001`."""
    parts = (peer.strip().split("/") for peer in peers.split(",") if peer.strip())
    return [(part[2], int(part[4])) for part in parts if part[1:2] == ["ip4"] and part[3:4] == ["tcp"]]
