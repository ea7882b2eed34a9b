"""Several witnesses about a node's GPU, asked in one round trip and judged one by one.

A grep for the GPU's name proves nothing: the *processor* of the ROG Flow Z13 is called "AMD RYZEN AI MAX+ 395 w/ Radeon
8060S" (rocminfo's first agent, /proc/cpuinfo), while its GPU calls itself gfx1151, "AMD Radeon Graphics". So each
source is read as what it is, the processor's name is kept and never counts, and a tool that is missing, asleep or
answers N/A says nothing either way. From ROCm 10 on there is no rocm-smi; amd-smi, sysfs and hwmon remain.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from records.facts import AmdNode, GpuTruth, Witness
from records.settings import Gpu
from reports.text.format import size
from tasks.gpu import amd
from tasks.gpu.asked import END, PREAMBLE, answers
from tasks.gpu.tools import Card, amd_smi_cards, amdgpu_top_cards, judge, rocm_smi_cards, rocminfo_agents
from tasks.machines.wire import shortened

# rocminfo is asked without HSA_OVERRIDE_GFX_VERSION, which makes it report another GPU than there is; that it is set is
# told as a witness of its own.
_PROBE = (
    PREAMBLE
    + r"""ask rocm-smi-json rocm-smi --showproductname --json
ask rocm-smi-text rocm-smi --showproductname
ask amd-smi amd-smi static --asic --json
ask rocminfo env -u HSA_OVERRIDE_GFX_VERSION rocminfo
ask amdgpu_top amdgpu_top -J -n 1
tell sysfs
for card in "$root"/sys/class/drm/card[0-9] "$root"/sys/class/drm/card[0-9][0-9]; do
  [ -r "$card/device/vendor" ] && echo "${card##*/} $(cat "$card/device/vendor") $(cat "$card/device/device")"
done
tell hwmon
for name in "$root"/sys/class/drm/card*/device/hwmon/hwmon*/name; do
  [ -r "$name" ] && echo "$(cat "$name") $(cat "${name%/hwmon/*}/vendor" "${name%/hwmon/*}/device" | tr '\n' ' ')"
done
tell override; echo "${HSA_OVERRIDE_GFX_VERSION:-}"
tell cpu; sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1
"""
    + amd.QUESTIONS
    + END
)

_UNUSABLE = "HSA_STATUS_ERROR"
"""rocminfo's word where ROCm's runtime cannot open the GPU, whatever may be written to."""


def probe_command(gpu: Gpu) -> str:
    """Return one shell command that asks every witness; it always exits 0 and takes a minute at the very worst."""
    del gpu  # the questions are the same for every GPU; what is expected enters when the answers are read
    return _PROBE


def read_probe(text: str, node: str, gpu: Gpu) -> GpuTruth:
    """Judge what `probe_command` printed. Never raises: what is missing or unreadable says nothing."""
    sections = answers(text)
    witnesses = [
        _tool("rocm-smi --json", sections.get("rocm-smi-json"), gpu, rocm_smi_cards),
        _tool("rocm-smi", sections.get("rocm-smi-text"), gpu, rocm_smi_cards),
        _tool("amd-smi", sections.get("amd-smi"), gpu, amd_smi_cards),
        _rocminfo(sections.get("rocminfo"), gpu),
        _tool("amdgpu_top", sections.get("amdgpu_top"), gpu, amdgpu_top_cards),
        _sysfs(sections.get("sysfs"), gpu),
        _hwmon(sections.get("hwmon"), gpu),
    ]
    present = any(witness.agrees for witness in witnesses)
    needs = amd.read_answers(sections, gpu)
    fails = _UNUSABLE in sections.get("rocminfo", "")
    usable = None if not needs.kfd else needs.kfd == "writable" and needs.driver == "live" and not fails
    conditions = [_kfd(needs), _groups(needs), *_override(sections.get("override"), gpu), *_needs(needs)]
    return GpuTruth(
        node=node,
        expected=f"{gpu.name} ({gpu.gfx}, PCI {gpu.pci_id})",
        present=present,
        usable=usable,
        witnesses=[*witnesses, *conditions, _processor(sections.get("cpu"))],
    )


def read_busy(line: str) -> float | None:
    """Return the busiest GPU's percentage (0 to 100) from one reading of all of them, None where nothing was told."""
    percents = [float(word) for word in line.split() if re.fullmatch(r"[0-9]{1,3}", word) and int(word) <= 100]
    return max(percents, default=None)


def read_power_w(line: str) -> float | None:
    """Return the watts of all GPUs together from one reading, in which hwmon's are microwatts; None where none is told.

    https://docs.kernel.org/hwmon/sysfs-interface.html: power[1-*]_average, power[1-*]_input.
    """
    microwatts = [int(word.removesuffix("uW")) for word in line.split() if re.fullmatch(r"[0-9]{1,12}uW", word)]
    return sum(microwatts) / 1e6 if microwatts else None


def _tool(name: str, text: str | None, gpu: Gpu, read: Callable[[str], list[Card]]) -> Witness:
    if text is None or "command not found" in text:
        return Witness(name, "not installed", None)
    cards = read(text)
    if not cards:
        return Witness(name, shortened(text, 200) or "nothing", None)
    return Witness(name, "; ".join(card.words() for card in cards), judge(cards, gpu))


def _rocminfo(text: str | None, gpu: Gpu) -> Witness:
    """Read rocminfo by agents: only those of type GPU are asked, so the processor's name cannot count."""
    if text is None or "command not found" in text:
        return Witness("rocminfo", "not installed", None)
    agents = rocminfo_agents(text)
    if not agents:
        return Witness("rocminfo", shortened(text, 200) or "nothing", None)
    gpus = [Card(name=a.marketing, gfx=a.name) for a in agents if a.kind == "GPU"]
    if not gpus:
        kinds = ", ".join(f"{a.name} ({a.kind})" for a in agents)
        return Witness("rocminfo", f"no agent of type GPU among {kinds}", False)
    return Witness("rocminfo", "; ".join(card.words() for card in gpus), judge(gpus, gpu))


def _sysfs(text: str | None, gpu: Gpu) -> Witness:
    if text is None:
        return Witness("sysfs", "was not asked", None)
    cards = re.findall(r"^(card\d+) 0x([0-9a-fA-F]{4}) 0x([0-9a-fA-F]{4})\s*$", text, re.MULTILINE)
    if not cards:
        return Witness("sysfs", "no graphics card in /sys/class/drm", False)
    ids = {card: f"{vendor}:{device}".lower() for card, vendor, device in cards}
    return Witness("sysfs", ", ".join(f"{card} {pci}" for card, pci in ids.items()), gpu.pci_id in ids.values())


def _hwmon(text: str | None, gpu: Gpu) -> Witness:
    """Read which driver's sensors hang on which card: with `amdgpu` the kernel has taken the card into use."""
    cards = re.findall(r"^(\S+) 0x([0-9a-fA-F]{4}) 0x([0-9a-fA-F]{4})\s*$", text or "", re.MULTILINE)
    if not cards:
        return Witness("hwmon", "no card has sensors", None)
    ids = [(name, f"{vendor}:{device}".lower()) for name, vendor, device in cards]
    agrees = True if ("amdgpu", gpu.pci_id.lower()) in ids else None
    return Witness("hwmon", ", ".join(f"{name} on {pci}" for name, pci in ids), agrees)


def _kfd(needs: AmdNode) -> Witness:
    if not needs.kfd:
        return Witness("/dev/kfd", "was not asked", None)
    if needs.kfd == "missing" and needs.wsl:
        return Witness("/dev/kfd", "does not exist, /dev/dxg does: this is WSL2, which shows EXO no AMD GPU", False)
    if needs.kfd == "missing":
        return Witness("/dev/kfd", "does not exist: no ROCm program can compute on a GPU here", False)
    if needs.kfd == "writable":
        return Witness("/dev/kfd", "there, and writable for this user", None)
    return Witness("/dev/kfd", f"there, but this user may not write to it: {shortened(needs.kfd, 120)}", None)


def _groups(needs: AmdNode) -> Witness:
    lacking = [name for name in ("render", "video") if name not in needs.groups]
    words = " ".join(needs.groups) or "not told"
    return Witness("groups", f"{words} (without {' and '.join(lacking)})" if needs.groups and lacking else words, None)


def _needs(needs: AmdNode) -> list[Witness]:
    """Return what EXO needs beside the GPU itself, as conditions: they say nothing about which GPU it is."""
    told = {
        "amdgpu driver": needs.driver or "not loaded",
        "librocm_smi64": needs.rocm_smi or "not where pyrsmi looks",
        "libamd_comgr": needs.comgr or "not found",
        "ROCm": needs.rocm or "does not tell its version",
        "GPU memory": f"{size(needs.vram_bytes)} its own, {size(needs.gtt_bytes)} of the RAM (GTT)",
    }
    return [Witness(name, words, None) for name, words in told.items()]


def _override(text: str | None, gpu: Gpu) -> list[Witness]:
    value = (text or "").strip()
    if not value:
        return []
    seen = _gfx_of(value)
    words = f"{value} is set: ROCm programs see a {seen}" + ("" if seen == gpu.gfx else f" instead of the {gpu.gfx}")
    return [Witness("HSA_OVERRIDE_GFX_VERSION", words, None if seen == gpu.gfx else False)]


def _processor(text: str | None) -> Witness:
    name = shortened(text or "") or "not told"
    return Witness("processor's name", f"{name} (a name on the box: says nothing about the GPU)", None)


def _gfx_of(version: str) -> str:
    """Return the gfx name that an override stands for: `12.0.1` is gfx1201, `9.0.10` is gfx90a."""
    numbers = [int(n) for n in re.findall(r"\d{1,4}", version)][:3]
    return "gfx" + "".join(f"{n:x}" if i else str(n) for i, n in enumerate(numbers))
