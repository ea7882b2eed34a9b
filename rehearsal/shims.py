"""Programs that a node has on its PATH before the system's: hostname, python3, ROCm's tools, tailscale.

Their words come from recorded outputs. Each is a small shell script; a trap replaces or removes one.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from rehearsal.engine.gpu import IDLE, POWER
from rehearsal.layout import Layout, hostname
from rehearsal.speeds import GPU_MEMORY_BYTES

ROCMINFO = """\
ROCk module is loaded
=====================
HSA System Attributes
=====================
Runtime Version:         1.18
==========
HSA Agents
==========
*******
Agent 1
*******
  Name:                    AMD RYZEN AI MAX+ 395 w/ Radeon 8060S
  Marketing Name:          AMD RYZEN AI MAX+ 395 w/ Radeon 8060S
  Vendor Name:             CPU
  Device Type:             CPU
*******
Agent 2
*******
  Name:                    gfx1151
  Marketing Name:          AMD Radeon Graphics
  Vendor Name:             AMD
  Device Type:             GPU
  ISA Info:
    ISA 1
      Name:                    amdgcn-amd-amdhsa--gfx1151
      Name:                    amdgcn-amd-amdhsa--gfx11-generic
*******
Agent 3
*******
  Name:                    aie2p
  Marketing Name:          RyzenAI-npu5
  Vendor Name:             AMD
  Device Type:             DSP
"""

ROCM_SMI_TEXT = """\


============================ ROCm System Management Interface ============================
====================================== Product Info ======================================
GPU[0]\t\t: Card Series: \t\tAMD Radeon Graphics
GPU[0]\t\t: Card Model: \t\t0x1586
GPU[0]\t\t: Card Vendor: \t\tAdvanced Micro Devices, Inc. [AMD/ATI]
GPU[0]\t\t: Card SKU: \t\tSTRXLGEN
GPU[0]\t\t: Subsystem ID: \t0x1fb3
GPU[0]\t\t: Device Rev: \t\t0xc1
GPU[0]\t\t: Node ID: \t\t1
GPU[0]\t\t: GUID: \t\t61204
GPU[0]\t\t: GFX Version: \t\tgfx1151
==========================================================================================
================================== End of ROCm SMI Log ===================================
"""

ROCM_SMI_JSON = json.dumps(
    {
        "card0": {
            "Card Series": "AMD Radeon Graphics",
            "Card Model": "0x1586",
            "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
            "Card SKU": "STRXLGEN",
            "Subsystem ID": "0x1fb3",
            "Device Rev": "0xc1",
            "Node ID": "1",
            "GUID": "61204",
            "GFX Version": "gfx1151",
        }
    }
)


def lay_programs(layout: Layout, key: str) -> None:
    """Write the programs of one node."""
    node = layout.node(key)
    node.bin.mkdir(parents=True)
    put(node.bin / "hostname", f"echo {hostname(key)}")
    # A script, not a link: through a link, some interpreters do not find their own library in a venv.
    real = shlex.quote(base_python())
    for name in ("python3", f"python3.{sys.version_info.minor}"):
        put(node.bin / name, f'exec {real} "$@"')
    put(node.bin / "tailscale", tailscale(layout, key))
    if layout.generation == 1:
        _lay_builders(layout, node.bin)
    if key == "rog":
        put(node.bin / "rocminfo", _override_aware(ROCMINFO))
        put(node.bin / "rocm-smi", rocm_smi())


def _lay_builders(layout: Layout, folder: Path) -> None:
    """Write what installing EXO 1.x calls: uv, cargo and rustup with a nightly, node and npm, a C compiler."""
    program = layout.root / "uv.py"
    program.write_text((Path(__file__).parent / "uv_standin.py").read_text(encoding="utf-8"))
    put(folder / "uv", f'exec {shlex.quote(base_python())} {shlex.quote(str(program))} "$@"')
    put(folder / "cargo", 'echo "cargo 1.92.0-nightly (344c4567c 2026-11-01)"')
    put(folder / "rustup", 'echo "rustup 1.28.2 (e4f3ad6f8 2025-04-28)"')
    put(folder / "cc", 'echo "cc (Debian 12.2.0-14) 12.2.0"')
    put(folder / "node", "echo v22.11.0")
    # `npm ci` has nothing to fetch; `npm run build` does what package.json says, which is one line of shell.
    build = 'exec sh -c "$(sed -n \'s/^ *"build": "\\(.*\\)".*/\\1/p\' package.json)"'
    put(folder / "npm", f'case "$1 $2" in "run build") {build};; ci*) exit 0;; *) echo "npm 10.9.0";; esac')


def base_python() -> str:
    """Return the interpreter under the venv that runs this: it can make venvs where it has ensurepip."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


def put(path: Path, script: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def rocm_smi() -> str:
    """Return the script of rocm-smi: the product name, as text or JSON."""
    return (
        f'case " $* " in\n*" --json "*) printf "%s\\n" {shlex.quote(ROCM_SMI_JSON)};;\n'
        f"*) printf %s {shlex.quote(ROCM_SMI_TEXT)};;\nesac"
    )


def tailscale(layout: Layout, key: str, relay: str = "") -> str:
    """Return the script of tailscale on one node: `ip -4`, `status --json`, `version`, `ping`.

    `relay` names the DERP region through which all peers are reached; "" means direct links.
    """
    own = layout.node(key)
    peers = {
        f"nodekey:{other}": {
            "HostName": hostname(other),
            "DNSName": f"{hostname(other)}.rehearsal.ts.net.",
            "OS": "linux",
            "TailscaleIPs": [layout.node(other).address],
            "Relay": relay or "fra",
            "CurAddr": "" if relay else f"{layout.node(other).address}:41641",
            "Online": True,
            "Active": True,
        }
        for other in layout.keys
        if other != key
    }
    status = {
        "Version": "1.80.2",
        "BackendState": "Running",
        "TailscaleIPs": [own.address],
        "Self": {"HostName": hostname(key), "TailscaleIPs": [own.address], "Relay": "fra", "Online": True},
        "Peer": peers,
    }
    way = f"via DERP({relay})" if relay else "via 127.0.0.1:41641"
    return (
        f'case "$1 $2" in\n"ip -4"|"ip ") echo {own.address};;\n'
        f'"status --json") printf "%s\\n" {shlex.quote(json.dumps(status, indent=2))};;\n'
        f'"version "*) echo 1.80.2;;\nping*) echo "pong from peer ({own.address}) {way} in 1ms";;\n'
        '*) echo "usage: tailscale <subcommand>" >&2; exit 2;;\nesac'
    )


def lay_sysroot(layout: Layout, key: str) -> None:
    """Lay out what of /sys and /dev tells about a GPU; the other nodes get empty folders, whatever this machine has.

    /proc/loadavg is that of an idle machine: three nodes on one machine would each be blamed for the others.
    """
    root = layout.node(key).sysroot
    lay_load(layout, key, 0.08)
    (root / "sys/class/drm").mkdir(parents=True)
    (root / "dev").mkdir()
    if key != "rog":
        return
    device = root / "sys/class/drm/card1/device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "device").write_text("0x1586\n")
    percent, microwatts = IDLE
    (device / "gpu_busy_percent").write_text(percent)
    power = device / POWER
    power.parent.mkdir(parents=True)
    power.write_text(microwatts)
    power.with_name("name").write_text("amdgpu\n")
    (device / "mem_info_vram_total").write_text(f"{GPU_MEMORY_BYTES}\n")
    (device / "mem_info_gtt_total").write_text(f"{16 * 2**30}\n")
    (root / "dev" / "kfd").touch(mode=0o660)
    (root / "sys/module/amdgpu").mkdir(parents=True)
    (root / "sys/module/amdgpu/initstate").write_text("live\n")
    (root / "opt/rocm/lib").mkdir(parents=True)
    for library in ("librocm_smi64.so", "libamd_comgr.so"):
        (root / "opt/rocm/lib" / library).touch()


def lay_load(layout: Layout, key: str, load_1m: float) -> None:
    """Write the load average that one node tells."""
    path = layout.node(key).sysroot / "proc" / "loadavg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{load_1m} 0.05 0.01 1/213 4711\n")


def _override_aware(text: str) -> str:
    """Return the script of rocminfo, which believes HSA_OVERRIDE_GFX_VERSION as the real one does."""
    shown = f"printf %s {shlex.quote(text)}"
    return (
        f'[ -z "$HSA_OVERRIDE_GFX_VERSION" ] && {{ {shown}; exit; }}\n'
        'gfx=gfx$(printf %s "$HSA_OVERRIDE_GFX_VERSION" | tr -d .)\n'
        f'{shown} | sed "s/gfx1151/$gfx/"'
    )
