"""Which tinygrad can compute for EXO 0.0.15 on which device, told from hosts.yaml; the probe then proves it.

Measured with packages from the index (docs/decisions/0002-profiles.md has the table). No release does both: on a CPU
only 0.10.2 and before take EXO's read-only arrays, on an AMD GPU only 0.10.3 to 0.12.0 come with their AMD part and
still know AMD=1.
"""

from __future__ import annotations

import re

from records.settings import Exo, override_name

PINNED = (0, 10, 0)
"""The commit that EXO 0.0.15 pins lies between 0.10.0 and 0.10.1."""
_LAST_FOR_CPU = (0, 10, 2)
_FIRST_FOR_AMD, _LAST_FOR_AMD = (0, 10, 3), (0, 12, 0)
_NEWEST = (99,)


def chosen(exo: Exo) -> tuple[int, ...] | None:
    """Return the tinygrad that `exo`, as one node gets it, installs; None where an override does not tell."""
    for text in exo.overrides:
        if override_name(text) == "tinygrad":
            wanted = text.partition(";")[0]
            exact = re.search(r"===?\s*v?([0-9.]+)\s*$|tinygrad-([0-9.]+)(?:-[^/]*\.whl|\.tar\.gz|\.zip)", wanted)
            # `>=` takes the newest; a repository, a folder, a wildcard, an upper bound, a `.post1` may be anything.
            return _numbers(exact[1] or exact[2]) if exact else None if re.search(r"[@<~/*]|==", wanted) else _NEWEST
    return PINNED


def on_cpu(node: str, exo: Exo) -> list[str]:
    """Say why this node's CPU cannot compute for a ring."""
    version = chosen(exo)
    if version is None or version <= _LAST_FOR_CPU:
        return []
    return [
        f"{node}: {_name(version)} refuses on a CPU the read-only arrays that EXO hands it, and a ring's first chat"
        f' hangs: set nodes.{node}.overrides: ["tinygrad==0.10.2"]'
    ]


def on_amd(node: str, exo: Exo) -> list[str]:
    """Say why this node's AMD GPU cannot compute; with AMD=1 nothing falls back to the CPU."""
    version, by_llvm = chosen(exo), exo.environment.get("AMD_LLVM", "")
    do = f'set nodes.{node}.overrides: ["tinygrad==0.11.0"] and AMD_LLVM: "0" in its environment'
    if version is None:
        return []
    if version < _FIRST_FOR_AMD:
        return [f"{node}: {_name(version)} lacks its AMD part as packaged, and no prompt is answered: {do}"]
    if version > _LAST_FOR_AMD:
        return [f"{node}: {_name(version)} ends EXO at its start where AMD=1 is set: {do}"]
    if (by_llvm or "0") != "0" or (not by_llvm and version > _FIRST_FOR_AMD):
        return [f"{node}: {_name(version)} compiles with LLVM, which refuses llama's half-precision mask: {do}"]
    return []


def needs_comgr(exo: Exo) -> bool:
    """Tell whether the tinygrad that is chosen compiles with ROCm's libamd_comgr; of a source only its switch tells."""
    return chosen(exo) is not None or exo.environment.get("AMD_LLVM", "") == "0"


def needs_on_amd(node: str, exo: Exo) -> list[str]:
    """Say what the AMD node must have for the tinygrad that is chosen."""
    version = chosen(exo)
    told = [f"{node}: tinygrad compiles for its GPU with ROCm's libamd_comgr, and EXO asks librocm_smi64 at its start"]
    if version == _FIRST_FOR_AMD:
        told.append(f"{node}: tinygrad 0.10.3 knows libamd_comgr of ROCm before 6.4 only; 0.11.0 knows both")
    elif version and _FIRST_FOR_AMD < version <= _LAST_FOR_AMD:
        told.append(f"{node}: {_name(version)} downloads Linux headers from gitlab.com at its first use of the GPU")
    return told


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.strip(".").split("."))


def _name(version: tuple[int, ...]) -> str:
    if version == PINNED:
        return "the tinygrad that EXO pins"
    return "the newest tinygrad" if version == _NEWEST else f"tinygrad {'.'.join(map(str, version))}"
