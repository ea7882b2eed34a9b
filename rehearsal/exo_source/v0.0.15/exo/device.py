"""What this node says it computes on, in the words of EXO 0.0.15 (exo/topology/device_capabilities.py)."""

import importlib.metadata
import os

from .engine.settings import Settings

NO_FLOPS = {"fp32": 0.0, "fp16": 0.0, "int8": 0.0}


def capabilities() -> dict:
    """Return the node's capabilities; ModuleNotFoundError where AMD=1 is set and pyrsmi is not installed."""
    device = os.environ.get("REHEARSAL_DEVICE") or ("AMD" if os.environ.get("AMD") == "1" else "CLANG")
    if device == "AMD":
        from pyrsmi import rocml

        rocml.smi_initialize()
        if _gpu_usable():
            chip = rocml.smi_get_device_name(0).upper()
            memory = rocml.smi_get_device_memory_total(0) // 2**20
            # The braces are 0.0.15's own: it forgot the f of its f-string.
            return {"model": "Linux Box ({gpu_name})", "chip": chip, "memory": memory, "flops": NO_FLOPS}
        device = "CLANG"
    return {
        "model": f"Linux Box (Device: {device})",
        "chip": f"Unknown Chip (Device: {device})",
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "flops": NO_FLOPS,
    }


def _gpu_usable() -> bool:
    """Tell whether tinygrad could use the GPU: the Radeon 8060S needs 0.11, with less it falls back in silence."""
    version = importlib.metadata.version("tinygrad").split(".")
    new_enough = (int(version[0]), int(version[1])) >= (0, 11)
    return new_enough and bool(Settings("gpu").get("usable", True))
