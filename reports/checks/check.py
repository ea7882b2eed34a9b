"""One validity check's finding."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["pass", "warn", "fatal", "unknown"]


class Check(msgspec.Struct, frozen=True):
    """What one named check found: `evidence` has the figures, `why` says in one sentence why it matters.

    `unknown` is not `pass`: the logs do not tell. A fatal check makes the campaign INVALID; an unknown one that is
    `essential` forbids GO (never NO-GO).
    """

    name: str
    status: Status
    evidence: str
    why: str
    essential: bool = True
