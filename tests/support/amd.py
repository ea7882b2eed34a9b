"""An AMD node that has all EXO needs, and one that lacks something."""

from __future__ import annotations

from typing import Any

import msgspec

from records.facts import AmdNode

WHOLE = AmdNode(
    driver="live",
    kfd="writable",
    wsl=False,
    groups=["x", "render", "video"],
    rocm="6.4.1",
    rocm_smi="/opt/rocm/lib/librocm_smi64.so",
    comgr="/opt/rocm/lib/libamd_comgr.so",
    rocm_path="",
    vram_bytes=96 * 2**30,
    gtt_bytes=15 * 2**30,
)


def amd_node(**other: Any) -> AmdNode:
    """Return the whole node with some of it replaced."""
    return msgspec.structs.replace(WHOLE, **other)
