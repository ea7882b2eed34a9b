"""Which module drives which release. A third generation is one new file and one line in ALL."""

from __future__ import annotations

import re

from tasks.errors import StepError
from tasks.exo import gen0, gen1
from tasks.exo.interface import Generation

ALL: dict[str, Generation] = {
    r"0\.0(\..*)?": gen0,
    r"1\..*": gen1,
}
"""Pattern of the release -> the module that offers the protocol `Generation`."""


def generation_of(release: str) -> Generation:
    """Return the generation of `exo.release`. Raises StepError for one that no module drives."""
    for pattern, generation in ALL.items():
        if re.fullmatch(pattern, release):
            return generation
    raise StepError(
        f"exo.release is '{release}'",
        " or ".join(generation.NAME for generation in ALL.values()),
        "put the release into hosts.yaml that the source really is, e.g. 0.0.15 or 1.0.71",
        who="hosts.yaml",
    )
