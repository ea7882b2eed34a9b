"""What EXO 0.0.x needs on a node to compute on its AMD GPU, asked in one round trip before anything is started.

With AMD=1 nothing falls back to the CPU. EXO asks pyrsmi at its start, which wants a live amdgpu driver and
librocm_smi64, and ends where one is missing; tinygrad wants /dev/kfd and, as this program has it compile, libamd_comgr,
and answers the first prompt with HTTP 500 where one is missing.

The memory of an APU's GPU is what was carved out of the RAM, which Linux' MemTotal no longer counts, and what it may
borrow of the rest (GTT). EXO deals the layers by the first alone: pyrsmi tells no more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from records.facts import AmdNode
from records.settings import Gpu
from tasks.gpu.asked import END, PREAMBLE, answers
from tasks.machines.wire import shortened

# Python's find_library, by which tinygrad finds libamd_comgr, asks ldconfig; the last resort is /opt/rocm/lib.
QUESTIONS = r"""tell driver; cat "$root/sys/module/amdgpu/initstate" 2>/dev/null
tell kfd
if [ -e "$root/dev/kfd" ]; then
  if [ -r "$root/dev/kfd" ] && [ -w "$root/dev/kfd" ]; then echo writable; else ls -l "$root/dev/kfd"; fi
else echo missing; fi
tell dxg; [ -e "$root/dev/dxg" ] && echo there
tell groups; id -nG
tell rocm; cat "$root/opt/rocm/.info/version" 2>/dev/null
tell rocm-path; [ -n "${ROCM_PATH:-}" ] && echo "$ROCM_PATH"
tell runtime; [ -n "${ROCM_PATH:-}" ] && ls "$root$ROCM_PATH/lib/libhsa-runtime64.so" 2>/dev/null
tell rocm-smi; ls "$root${ROCM_PATH:-/opt/rocm}/lib/librocm_smi64.so" 2>/dev/null
tell comgr; ls "$root/opt/rocm/lib/libamd_comgr.so" 2>/dev/null
[ -z "$root" ] && ldconfig -p 2>/dev/null | sed -n 's/.*libamd_comgr\.so.* => //p'
tell memory
for card in "$root"/sys/class/drm/card[0-9] "$root"/sys/class/drm/card[0-9][0-9]; do
  [ -r "$card/device/mem_info_vram_total" ] && echo "$(cat "$card/device/vendor" "$card/device/device" \
    "$card/device/mem_info_vram_total" "$card/device/mem_info_gtt_total" 2>/dev/null | tr '\n' ' ')"
done
"""


def is_amd(gpu: Gpu | None) -> bool:
    """Tell whether hosts.yaml names a GPU of AMD's."""
    return gpu is not None and gpu.pci_id.lower().startswith("1002:")


def probe_command() -> str:
    """Return one shell command that asks for all of it; it needs no tool of ROCm's and takes no time."""
    return PREAMBLE + QUESTIONS + END


def read_probe(text: str, gpu: Gpu) -> AmdNode:
    """Read what `probe_command` printed, or any other that asks `QUESTIONS`. Never raises."""
    return read_answers(answers(text), gpu)


def read_answers(found: Mapping[str, str], gpu: Gpu) -> AmdNode:
    """Read the answers to `QUESTIONS`; what was not asked counts as not there."""
    first = {name: shortened(body.strip().partition("\n")[0], 200) for name, body in found.items()}
    vram, gtt = _memory(found.get("memory", ""), gpu)
    rocm_path = first.get("rocm-path", "")
    return AmdNode(
        driver=first.get("driver", ""),
        kfd=first.get("kfd", ""),
        wsl=first.get("dxg", "") == "there",
        groups=found.get("groups", "").split(),
        rocm=first.get("rocm", ""),
        rocm_smi=first.get("rocm-smi", ""),
        comgr=first.get("comgr", ""),
        rocm_path="" if first.get("runtime") else rocm_path,
        vram_bytes=vram,
        gtt_bytes=gtt,
    )


def lacking(node: str, amd: AmdNode, *, comgr: bool = True) -> list[str]:
    """Say what is missing on `node`, and what mends it; `comgr` tells whether tinygrad compiles with it."""
    if amd.wsl and amd.kfd == "missing":
        return [
            f"{node}: this is WSL2 (/dev/dxg is there, /dev/kfd is not), where neither EXO nor tinygrad reaches an AMD"
            f" GPU: {_cpu(node)}, or boot Linux itself"
        ]
    told = []
    if amd.driver != "live":
        said = f"`{amd.driver}`" if amd.driver else "nothing"
        told.append(
            f"the amdgpu driver is not live (/sys/module/amdgpu/initstate says {said}), and EXO crashes at its start:"
            f" `sudo modprobe amdgpu`, or {_cpu(node)}"
        )
    if amd.kfd == "missing":
        told.append(f"there is no /dev/kfd, without which nothing computes on an AMD GPU: {_cpu(node)}")
    elif amd.kfd != "writable":
        told.append(f"this user may not write to /dev/kfd ({amd.kfd}), and the first prompt fails: {_join(amd)}")
    if not amd.rocm_smi:
        told.append(f"{_no_rocm_smi(amd)}: install rocm-smi-lib of ROCm 7 or before, or {_cpu(node)}")
    if comgr and not amd.comgr:
        told.append(
            "there is no libamd_comgr where tinygrad looks (ldconfig, /opt/rocm/lib), and the first prompt fails:"
            " install ROCm's comgr package (it comes with the HIP SDK)"
        )
    if amd.rocm_path:
        told.append(
            f"ROCM_PATH is set to {amd.rocm_path}, which has no lib/libhsa-runtime64.so, and tinygrad loads it from"
            " there alone: take ROCM_PATH out of the login's environment"
        )
    return [f"{node}: {text}" for text in told]


def _cpu(node: str) -> str:
    return f'compute on its CPU (nodes.{node}: overrides ["tinygrad==0.10.2"], environment {{CPU: "1"}}, no extras)'


def _join(amd: AmdNode) -> str:
    without = [name for name in ("render", "video") if name not in amd.groups]
    if without:
        missing = f"the user is not in the group {' or '.join(without)}"
        return f"{missing}; `sudo usermod -aG {','.join(without)} $USER`, then log in anew"
    return (
        "the user is in render and video, so another group or root owns it: join that one (`sudo usermod -aG GROUP"
        " $USER`, then log in anew); a container is given both by --device and --group-add"
    )


def _no_rocm_smi(amd: AmdNode) -> str:
    numbers = re.match(r"\d+", amd.rocm)
    if numbers and int(numbers.group()) >= 10:
        return f"ROCm {amd.rocm} does not bring librocm_smi64 any more, and EXO crashes at its start without it"
    where = amd.rocm_path or "/opt/rocm"
    return f"there is no {where}/lib/librocm_smi64.so, where pyrsmi looks, and EXO crashes at its start"


def _memory(text: str, gpu: Gpu) -> tuple[int, int]:
    """Return VRAM and GTT in bytes of the card that hosts.yaml names, of the first AMD card where that is not there."""
    cards = re.findall(r"^0x1002 0x([0-9a-fA-F]{4}) (\d{1,15}) ?(\d{1,15})?", text, re.MULTILINE)
    wanted = gpu.pci_id.partition(":")[2].lower()
    mine = [card for card in cards if card[0].lower() == wanted] or cards
    return (int(mine[0][1]), int(mine[0][2] or 0)) if mine else (0, 0)
