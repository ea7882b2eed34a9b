"""The command line of EXO 0.0.15, flag by flag; usage and help are the recorded texts."""

import argparse
import sys
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"
NOISE = (
    "None of PyTorch, TensorFlow >= 2.0, or Flax have been found. Models won't be available and only tokenizers,"
    " configuration and file/data utilities can be used."
)


class Parser(argparse.ArgumentParser):
    """argparse with the texts as Python 3.12 wrapped them, whatever Python runs this."""

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
    parser = Parser(prog="exo", description="Initialize GRPC Discovery")
    add = parser.add_argument
    add("command", nargs="?", choices=["run", "eval", "train"])
    add("model_name", nargs="?")
    for name in ("default-model", "save-checkpoint-dir", "resume-checkpoint", "data", "node-id", "models-seed-dir"):
        add(f"--{name}")
    for name in ("discovery-config-path", "inference-engine", "run-model", "tailscale-api-key", "tailnet-name"):
        add(f"--{name}")
    for name in ("node-id-filter", "interface-type-filter", "system-prompt"):
        add(f"--{name}")
    add("--prompt", default="Who are you?")
    add("--node-host", default="0.0.0.0")
    add("--discovery-module", choices=["udp", "tailscale", "manual"], default="udp")
    add("--download-quick-check", action="store_true")
    add("--disable-tui", action=argparse.BooleanOptionalAction)
    add("--default-temp", type=float, default=0.0)
    numbers = {"iters": 100, "save-every": 5, "batch-size": 1, "node-port": None, "listen-port": 5678}
    numbers |= {"broadcast-port": 5678, "discovery-timeout": 30, "wait-for-peers": 0, "chatgpt-api-port": 52415}
    numbers |= {"chatgpt-api-response-timeout": 900, "max-generate-tokens": 10000, "max-parallel-downloads": 8}
    for name, default in numbers.items():
        add(f"--{name}", type=int, default=default)
    return parser.parse_args(argv)
