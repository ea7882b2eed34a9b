"""What this node says it computes on, in the words of EXO 0.0.15 (exo/topology/device_capabilities.py)."""

import os

NO_FLOPS = {"fp32": 0.0, "fp16": 0.0, "int8": 0.0}
MEMORY_MIB = 32768
"""Of a CPU node: by all the memory of a large machine the GPU's would be dealt no layer."""


def capabilities() -> dict:
    """Return the node's capabilities; with AMD=1 whatever pyrsmi raises ends EXO at its start.

    The text says AMD because AMD=1 was set and rocm-smi answered: nothing has opened the GPU yet.
    """
    if os.environ.get("AMD") == "1":
        from pyrsmi import rocml

        rocml.smi_initialize()
        chip = rocml.smi_get_device_name(0).upper()
        memory = rocml.smi_get_device_memory_total(0) // 2**20
        # The braces are 0.0.15's own: it forgot the f of its f-string.
        return {"model": "Linux Box ({gpu_name})", "chip": chip, "memory": memory, "flops": NO_FLOPS}
    return {
        "model": "Linux Box (Device: CPU)",
        "chip": "Unknown Chip (Device: CPU)",
        "memory": MEMORY_MIB,
        "flops": NO_FLOPS,
    }
