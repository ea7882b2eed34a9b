"""The trap gallery: what each trap changes in a rehearsal, and what the plan would have reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.layout import Layout


@dataclass(frozen=True)
class Trap:
    """One trap. `lay` changes the laid-out nodes and the content of hosts.yaml before anything starts."""

    name: str
    plan_would_say: str
    lay: Callable[[Layout, dict[str, Any]], None]


TRAPS: dict[str, Trap] = {}
