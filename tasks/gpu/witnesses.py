"""Several witnesses about a node's GPU, asked in one round trip and judged one by one.

A grep for the GPU's name proves nothing: the *processor* of the ROG Flow Z13 is called "AMD RYZEN AI MAX+ 395 w/ Radeon
8060S" (rocminfo's first agent, /proc/cpuinfo), while its GPU calls itself gfx1151, "AMD Radeon Graphics". So each
source is read as what it is, the processor's name is kept and never counts, and a tool that is missing, asleep or
answers N/A says nothing either way. The files below /sys and /dev are looked for below $EXO_PHASE1_SYSROOT, which is
empty on a real node.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from records.facts import GpuTruth, Witness
from records.settings import Gpu
from tasks.gpu.tools import Card, amdgpu_top_cards, judge, rocm_smi_cards, rocminfo_agents
from tasks.machines.wire import shortened

_MARK = "@@exo-phase1@@"

# ROCm's tools are not on the PATH of a non-login shell. rocminfo is asked without HSA_OVERRIDE_GFX_VERSION, which
# makes it report another GPU than there is; that it is set is told as a witness of its own.
_PROBE = f"""PATH="$PATH:/opt/rocm/bin:/usr/local/bin"; root="${{EXO_PHASE1_SYSROOT:-}}"
tell() {{ echo "{_MARK} $1"; }}
ask() {{ tell "$1"; shift; out=$(timeout 15 "$@" 2>&1); code=$?; echo "$out"; tell "exit $code"; }}
ask rocm-smi-json rocm-smi --showproductname --json
ask rocm-smi-text rocm-smi --showproductname
ask rocminfo env -u HSA_OVERRIDE_GFX_VERSION rocminfo
ask amdgpu_top amdgpu_top -J -n 1
tell sysfs
for card in "$root"/sys/class/drm/card[0-9] "$root"/sys/class/drm/card[0-9][0-9]; do
  [ -r "$card/device/vendor" ] && echo "${{card##*/}} $(cat "$card/device/vendor") $(cat "$card/device/device")"
done
tell kfd
if [ -e "$root/dev/kfd" ]; then
  if [ -r "$root/dev/kfd" ] && [ -w "$root/dev/kfd" ]; then echo writable; else ls -l "$root/dev/kfd"; fi
else echo missing; fi
tell groups; id -nG
tell override; echo "${{HSA_OVERRIDE_GFX_VERSION:-}}"
tell cpu; sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1
tell end"""


def probe_command(gpu: Gpu) -> str:
    """Return one shell command that asks every witness; it always exits 0 and takes a minute at the very worst."""
    del gpu  # the questions are the same for every GPU; what is expected enters when the answers are read
    return _PROBE


def read_probe(text: str, node: str, gpu: Gpu) -> GpuTruth:
    """Judge what `probe_command` printed. Never raises: what is missing or unreadable says nothing."""
    sections = _sections(text)
    witnesses = [
        _tool("rocm-smi --json", sections.get("rocm-smi-json"), gpu, rocm_smi_cards),
        _tool("rocm-smi", sections.get("rocm-smi-text"), gpu, rocm_smi_cards),
        _rocminfo(sections.get("rocminfo"), gpu),
        _tool("amdgpu_top", sections.get("amdgpu_top"), gpu, amdgpu_top_cards),
        _sysfs(sections.get("sysfs"), gpu),
    ]
    present = any(witness.agrees for witness in witnesses)
    kfd = (sections.get("kfd") or "").strip()
    usable = None if not kfd else kfd == "writable"
    conditions = [_kfd(kfd), _groups(sections.get("groups")), *_override(sections.get("override"), gpu)]
    return GpuTruth(
        node=node,
        expected=f"{gpu.name} ({gpu.gfx}, PCI {gpu.pci_id})",
        present=present,
        usable=usable,
        witnesses=[*witnesses, *conditions, _processor(sections.get("cpu"))],
    )


def busy_command() -> str:
    """Return a command that prints how busy each AMD GPU is, in percent, one a line; nothing where none tells."""
    return 'cat "${EXO_PHASE1_SYSROOT:-}"/sys/class/drm/card*/device/gpu_busy_percent 2>/dev/null'


def read_busy(text: str) -> float | None:
    """Return the busiest GPU's percentage (0 to 100) from `busy_command`, None where nothing was told."""
    percents = [float(line) for line in text.split() if re.fullmatch(r"[0-9]{1,3}", line) and int(line) <= 100]
    return max(percents, default=None)


def _sections(text: str) -> dict[str, str]:
    """Split what the probe printed; a tool that exits 126 or 127 is not there and has no section."""
    sections: dict[str, str] = {}
    name = ""
    for part in re.split(rf"^{re.escape(_MARK)} ", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if head.startswith("exit "):
            if head.strip() in ("exit 126", "exit 127"):
                sections.pop(name, None)
            continue
        name = head.strip()
        sections[name] = body
    return sections


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


def _kfd(said: str) -> Witness:
    if not said:
        return Witness("/dev/kfd", "was not asked", None)
    if said == "missing":
        return Witness("/dev/kfd", "does not exist: no ROCm program can compute on a GPU here", False)
    if said == "writable":
        return Witness("/dev/kfd", "there, and writable for this user", None)
    return Witness("/dev/kfd", f"there, but this user may not write to it: {shortened(said, 120)}", None)


def _groups(text: str | None) -> Witness:
    groups = (text or "").split()
    lacking = [name for name in ("render", "video") if name not in groups]
    words = " ".join(groups) or "not told"
    return Witness("groups", f"{words} (without {' and '.join(lacking)})" if groups and lacking else words, None)


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
