"""Give a command on a node variables of its environment without their standing on any command line.

Whoever may list processes reads every command line: `env HF_TOKEN=... exo` shows the token to all users of a node. The
variables go there in a file that only its owner can read, and that is gone before the command begins.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping

from tasks.machines.node import Node
from tasks.machines.paths import ROOT


def exported(node: Node, environment: Mapping[str, str]) -> str:
    """Put `environment` on the node and return the shell text that takes it over; "" where there is none."""
    if not environment:
        return ""
    path = environment_path(node, secrets.token_hex(8))
    node.put(exports(environment).encode(), path)
    return taking_over(path)


def environment_path(node: Node, token: str) -> str:
    """Return where an environment lies on the node until it is taken over; cleanup removes what is left of it."""
    return f"{node.home()}/{ROOT}/.environment-{token}.part"


def taking_over(path: str) -> str:
    """Return the shell text that takes over an environment and removes its file."""
    quoted = shlex.quote(path)
    return f". {quoted}; rm -f {quoted}\n"


def exports(environment: Mapping[str, str]) -> str:
    """Return shell text that exports `environment`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
