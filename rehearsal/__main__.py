"""`python -m rehearsal up|down --root DIR`: bring a rehearsal cluster up or take it down."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rehearsal.cluster import down, up
from rehearsal.traps import TRAPS


def main() -> int:
    """Read the command line and do it; 2 where an argument is wrong, 1 where a server does not start."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    upping = commands.add_parser("up", help="start three SSH nodes and two Ollama stand-ins, and write hosts.yaml")
    upping.add_argument("--root", type=Path, required=True)
    upping.add_argument("--speedup", type=float, default=1.5, help="true ratio of EXO to the faster Ollama")
    upping.add_argument("--noise", type=float, default=0.02, help="standard deviation of a run's log rate")
    upping.add_argument("--trap", choices=sorted(TRAPS), default=None)
    upping.add_argument("--seed", type=int, default=0)
    upping.add_argument("--generation", type=int, choices=(0, 1), default=0)
    upping.add_argument("--drift", type=float, default=0.0, help="relative change of all rates over four minutes")
    downing = commands.add_parser("down", help="stop everything that `up` started, and what was started on its nodes")
    downing.add_argument("--root", type=Path, required=True)
    chosen = vars(parser.parse_args())
    command, root = chosen.pop("command"), chosen.pop("root")
    if command == "down":
        print("\n".join(down(root)) or "nothing of it runs")
        return 0
    try:
        layout = up(root, **chosen)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    print(f"up; FABRIC_EXO_INVENTORY={layout.hosts_file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
