"""tinygrad's emulated AMD GPU on one machine of the lab, with what EXO and this program ask of a node with ROCm.

The GPU is tinygrad's own (`test/mockgpu` and the `remu` crate of its repository): it runs gfx1100 machine code, and is
there for every process that is told so by MOCKGPU=1. What compiles for it, and the headers that tinygrad fetches, are
named from outside. Only the driver's state, ROCm's rocm-smi and what sysfs tells are made up here.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.support.lab import Lab, Machine

MOCKGPU = os.environ.get("TINYGRAD_MOCKGPU", "")
"""A checkout of tinygrad at the version that the shipped profile has for an AMD node, with `extra/remu` built."""
COMGR = os.environ.get("AMD_COMGR", "")
"""A folder with a libamd_comgr.so, under its soname too, that knows gfx1100."""
DOWNLOADS = os.environ.get("TINYGRAD_DOWNLOADS", "")
"""A ~/.cache/tinygrad/downloads that holds the headers which tinygrad fetches at its first use of an AMD GPU."""
VRAM_BYTES, GTT_BYTES = 24 * 2**30, 4 * 2**30
ROCM_SMI = f"""\
#include <stdint.h>
#include <string.h>
int rsmi_init(uint64_t flags) {{ return 0; }}
int rsmi_shut_down(void) {{ return 0; }}
int rsmi_dev_name_get(uint32_t device, char *name, size_t size) {{
  strncpy(name, "AMD Radeon Graphics", size);
  return 0;
}}
int rsmi_dev_memory_total_get(uint32_t device, int type, uint64_t *bytes) {{
  *bytes = {VRAM_BYTES}ull;
  return 0;
}}
"""
"""As much of ROCm's library as pyrsmi needs to tell EXO a name and a memory."""


def absent() -> str:
    """Return what is missing for an emulated AMD GPU, "" where nothing is."""
    named = (
        ("TINYGRAD_MOCKGPU", "checkout of tinygrad with extra/remu built", f"{MOCKGPU}/test/mockgpu", MOCKGPU),
        ("AMD_COMGR", "folder with a libamd_comgr.so for gfx1100", f"{COMGR}/libamd_comgr.so", COMGR),
        ("TINYGRAD_DOWNLOADS", "folder with the headers that tinygrad fetches", DOWNLOADS, DOWNLOADS),
    )
    return "; ".join(
        f"{name} names no {what}" for name, what, path, told in named if not told or not Path(path).exists()
    )


def environment() -> dict[str, str]:
    """Return what every process needs that is to see the emulated GPU."""
    libraries = f"{MOCKGPU}/extra/remu/target/release:{COMGR}"
    return {"MOCKGPU": "1", "PYTHONPATH": MOCKGPU, "LD_LIBRARY_PATH": libraries}


def put_into(lab: Lab, machine: Machine) -> None:
    """Give a machine the GPU: a live driver, ROCm's libraries, its card in sysfs and the fetched headers."""
    folder = lab.folder(machine)
    libraries = folder / "rocm/lib"
    libraries.mkdir(parents=True)
    source = folder / "rocm_smi.c"
    source.write_text(ROCM_SMI)
    subprocess.run(
        ["clang", "-shared", "-fPIC", "-o", str(libraries / "librocm_smi64.so"), str(source)], check=True, timeout=60
    )
    shutil.copy(Path(COMGR) / "libamd_comgr.so", libraries)
    shutil.copytree(DOWNLOADS, folder / "home/.cache/tinygrad/downloads")
    device = folder / "card1/device"
    device.mkdir(parents=True)
    told = {
        "vendor": "0x1002",
        "device": "0x1586",
        "gpu_busy_percent": "0",
        "mem_info_vram_total": str(VRAM_BYTES),
        "mem_info_gtt_total": str(GTT_BYTES),
    }
    for name, value in told.items():
        (device / name).write_text(f"{value}\n")
    here = shlex.quote(str(folder))
    lab.tell(machine, f"mount -t tmpfs tmpfs /opt && mkdir -p /opt/rocm && cp -r {here}/rocm/lib /opt/rocm/")
    lab.tell(machine, "mount -t tmpfs tmpfs /sys/module && mkdir /sys/module/amdgpu")
    lab.tell(machine, "echo live >/sys/module/amdgpu/initstate")
    lab.tell(machine, f"mount -t tmpfs tmpfs /sys/class && mkdir /sys/class/drm && cp -r {here}/card1 /sys/class/drm/")
    # What is put into the real /dev is there for everybody, so this machine gets a /dev of its own. Links into the real
    # one would not do: a linker that root has write to /dev/null, as Python's find_library does, takes the link away.
    lab.tell(machine, "mkdir /run/dev && mount --rbind /dev /run/dev && mount -t tmpfs tmpfs /dev")
    lab.tell(machine, "for one in $(ls /run/dev); do cp -a /run/dev/$one /dev/; done; touch /dev/kfd")
    lab.tell(machine, "for one in pts shm; do mount --rbind /run/dev/$one /dev/$one; done")
