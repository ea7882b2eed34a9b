"""Whether EXO's engine can compute on a node, asked right after the install, in EXO's own Python and environment.

An EXO that cannot compute starts, joins the cluster and shows a device all the same; the first prompt then fails with
a cause that no log may hold. `scripts/compute_probe.py` does on the node what a prompt would do; here is the command
that runs it, and what each failure means. The texts are the engines' own: seen on tinygrad 0.10.2 to 0.13.0 and mlx
0.31.1 and 0.31.2 from the package index, on tinygrad's emulated AMD GPU, and in EXO v0.0.15-alpha.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from records.facts import ComputeFailure, ComputeProbe
from records.plan import command_for
from tasks.decode import decode
from tasks.errors import StepError, all_of
from tasks.exo.logtext import exo_said
from tasks.machines.daemon import WITHOUT_PROXIES
from tasks.machines.wire import shortened

TIMEOUT_S = 180
"""tinygrad compiles every kernel anew (1 to 4 s on two cores), and may download headers at its first use of a GPU."""

SCRIPT = Path(__file__).parents[2] / "scripts" / "compute_probe.py"
_BEGIN, _END = "===== compute probe begins =====", "===== compute probe ends ====="
_CODE = "===== compute probe's exit code:"
_CPU = {"CPU", "CLANG", "LLVM", "X86", "PYTHON", "NPY"}

_SIGNALLED = 128
"""A shell adds it to the number of the signal that ended a program."""
_SIGNALS = {number.value for number in signal.Signals}
_HUNG = ("the engine hung: on the device, on its driver, or on a download", "see what `dmesg` on {node} says last")
_ENDED = (
    "the engine or its Python gave up before it could say why",
    "see that the virtual environment is whole: fab cleanup, then fab install-{node}",
)
_CRASHED = (
    "the engine crashed in compiled code: a driver or library that does not fit it, or a device that failed",
    "see what `dmesg` on {node} says last, and take another version of the engine in nodes.{node}.overrides",
)
_DIED_BY = {
    "SIGILL": (
        "the engine, or numpy, was built for a processor with instructions that this one has not",
        "take another version or build of it in nodes.{node}.overrides (`lscpu` lists what the processor has)",
    ),
    "SIGKILL": (
        "the process was killed, which is how Linux ends one for want of memory",
        "see whether `dmesg` on {node} says `Out of memory`, and free some or give the machine more",
    ),
}


def command(python: str, script: str, engine: str, exports: str) -> str:
    """Return the shell command that computes with `engine` in `python`'s venv.

    `exports` is shell text that gives it the environment EXO gets (tasks.machines.environment).
    """
    # -P as in EXO's own program: the script's folder is no place to import from.
    computes = shlex.join([python, "-P", script, engine])
    return f"{WITHOUT_PROXIES}\n{exports}{computes} 2>&1; code=$?; echo; echo {shlex.quote(_CODE)} $code"


def read(node: str, engine: str, environment: Mapping[str, str], stdout: str, seconds: float) -> ComputeProbe:
    """Read what the command printed; a probe that did not end was ended by its time-out or died with its process."""
    stages = _stages(stdout)
    first = stages[0] if stages else _Stage("import", 0.0)
    failures = [_explain(one, engine, node) for one in stages if one.error]
    if not _ended(stdout):
        failures.append(_never_ended(node, stages, stdout, seconds))
    wanted = _wanted_device(environment)
    if first.device and wanted and first.device.split(":")[0] != wanted:
        failures.append(
            ComputeFailure(
                "import",
                f"the device is {first.device}",
                f"the environment asks for {wanted}, and tinygrad {first.versions.get('tinygrad', '')} chose another:"
                " from 0.13 on it is chosen by DEV=..., before by AMD=1, CUDA=1, CPU=1",
                f"set the one that fits the version in nodes.{node}.environment",
            )
        )
    return ComputeProbe(
        node=node,
        engine=engine,
        device=first.device,
        works=not failures,
        seconds=round(seconds, 2),
        stages={one.stage: one.seconds for one in stages},
        versions=first.versions,
        failures=_once(failures),
    )


def refused(probe: ComputeProbe) -> StepError:
    """Return the error about an engine that does not compute: each cause with what the engine said and its remedy."""
    name = " ".join([probe.engine, *filter(None, [probe.versions.get(probe.engine)])])
    where = f"{name} on {probe.device}" if probe.device else name
    return all_of(
        StepError(
            f"{where} cannot compute ({failure.stage}): {failure.cause}; it said: {failure.said}",
            f"{probe.engine} doing at once what a prompt will ask of it: EXO would start all the same, and fail later",
            f"{failure.remedy}; then: {command_for('install', probe.node)}",
            who=probe.node,
            exo_said=exo_said(failure.said),
        )
        for failure in probe.failures
    )


class _Stage(msgspec.Struct, frozen=True):
    stage: str
    seconds: float
    error: str = ""
    trace: str = ""
    device: str = ""
    versions: dict[str, str] = {}


def _stages(stdout: str) -> list[_Stage]:
    """Return the stages between the marks; whatever else a login file or a library prints there is left out."""
    found = []
    for line in stdout.partition(_BEGIN)[2].partition(_END)[0].splitlines():
        try:
            found.append(decode(line, _Stage))
        except msgspec.DecodeError:
            continue
    return found


def _ended(stdout: str) -> bool:
    return _END in stdout.partition(_BEGIN)[2]


def _never_ended(node: str, stages: list[_Stage], stdout: str, seconds: float) -> ComputeFailure:
    """Say how a probe died; its exit code is missing where its time-out ended it."""
    printed, _, code = stdout.rpartition(_CODE)
    last = stages[-1].stage if stages else "nothing"
    words = [line.strip() for line in printed.splitlines() if line.strip() and not line.startswith(("{", _BEGIN))]
    told = f"; its last words: {shortened(words[-1], 200)}" if words else ", without a word"
    number = int(code) if code.strip().isdigit() else None
    if number is None:
        how, died = f"no answer after {seconds:.0f} s", _HUNG
    elif number > _SIGNALLED:
        name = signal.Signals(number - _SIGNALLED).name if number - _SIGNALLED in _SIGNALS else str(number)
        how, died = f"its process was ended by {name} after {seconds:.0f} s", _DIED_BY.get(name, _CRASHED)
    else:
        how, died = f"its process ended with exit code {number} after {seconds:.0f} s", _ENDED
    said = f"{how}; the last thing done: {last}{told}"
    return ComputeFailure(stages[-1].stage if stages else "import", said, died[0], died[1].replace("{node}", node))


def _wanted_device(environment: Mapping[str, str]) -> str:
    """Return the GPU that the environment asks for as tinygrad calls it, "" where it asks for none."""
    chosen = environment.get("DEV", "").partition(":")[0].upper()
    for name in ("AMD", "CUDA", "NV", "HIP", "GPU", "CL"):
        if environment.get(name, "0") not in ("", "0"):
            chosen = name
    return "" if chosen in _CPU else chosen


class Known(NamedTuple):
    """One way in which an engine fails: how it is recognised, why it happens, what mends it ({node} is filled in)."""

    pattern: str
    cause: str
    remedy: str


EMPTY_SHARE = Known(
    r"get_current_shard[^$]*?IndexError|Error processing prompt[^:]*: list index",
    "EXO deals the layers by memory, and a node of the ring got none (one with less than about 1/layers of all"
    " memory, or whose GPU's memory is told as -1): the first chat hangs",
    "give every node memory for a layer: on an APU a larger carve-out in the firmware, or its CPU (take AMD=1 out"
    " of its environment in nodes); or take a model with more layers",
)
TINYGRAD = (
    Known(
        r"underlying buffer is not writable",
        "this tinygrad refuses the read-only arrays in which EXO hands on a hidden state: one node alone answers, in a"
        " ring the first chat hangs",
        'on a CPU or CUDA node set nodes.{node}.overrides: ["tinygrad==0.10.2"]',
    ),
    Known(
        r"half -inf|expected value token|constant invalid for type",
        "tinygrad's LLVM back end writes llama's half-precision mask as `half -inf`, which LLVM does not read: every"
        " prompt of more than a few tokens fails",
        'set AMD_LLVM: "0" in nodes.{node}.environment, which compiles with ROCm\'s libamd_comgr instead',
    ),
    Known(
        r"No module named 'tinygrad\.runtime\.autogen\.am'",
        "this tinygrad, as packaged, lacks its AMD part (0.10.2 and before, and the commit that EXO pins)",
        'set nodes.{node}.overrides: ["tinygrad==0.11.0"] and AMD_LLVM: "0" in its environment',
    ),
    Known(
        r"No module named 'pyrsmi'",
        "EXO asks pyrsmi about an AMD GPU at its start and crashes without it",
        "set nodes.{node}.extras: [amd-gpu]",
    ),
    Known(
        r"ROCm driver initi\w+ failed",
        "the amdgpu driver is not loaded (/sys/module/amdgpu/initstate does not say `live`): EXO crashes at its start",
        "load it (`sudo modprobe amdgpu`); in a container or under WSL2 there is none, and EXO can use the CPU only",
    ),
    Known(
        r"undefined symbol: rsmi_|librocm_smi64\S*: cannot open",
        "pyrsmi finds no librocm_smi64.so in /opt/rocm/lib (ROCm 10 does not bring it any more), and EXO crashes at its"
        " start",
        "install ROCm's rocm-smi-lib (ROCm 7 or before), or compute on the CPU of this node",
    ),
    Known(
        r"ROCm SMI init|RSMI_STATUS|rocm-smi tells name",
        "librocm_smi64 is there and tells neither the GPU's name nor its memory, by which EXO deals the layers",
        "see what `rocm-smi` itself says on the node; a newer ROCm may know this GPU",
    ),
    Known(
        r"(?:denied|not permitted)\W+/dev/(?:kfd|dri)|/dev/(?:kfd|dri/\w+).*(?:denied|not permitted)",
        "this user may not open /dev/kfd, or the GPU's /dev/dri/renderD...",
        "add the user to the groups that own them (`ls -l /dev/kfd /dev/dri`: render, video), then log in anew; a"
        " container must be given both",
    ),
    Known(
        r"Cannot find a usable interface for AMD|No interface for AMD|/dev/kfd",
        "tinygrad finds no AMD GPU that it can open: there is no usable /dev/kfd",
        "see that `rocminfo` lists the GPU for this user; otherwise take AMD=1 out of nodes.{node}.environment",
    ),
    Known(
        r"(?i)unsupported (?:arch|gfx|target)|not a recognized processor|unknown target cpu 'gfx",
        "this tinygrad, or the LLVM that it compiles with, does not know the GPU: it is newer than they are",
        'set nodes.{node}.overrides: ["tinygrad==0.11.0"] and AMD_LLVM: "0" in its environment, with a recent ROCm',
    ),
    Known(
        r"(?i)device (?:hang|fault)|MMU fault|memory access fault|HW exception|GPU reset|Wait timeout: \d+ ms"
        r"|HIP Error",
        "the GPU faulted while it computed: its driver or firmware does not get along with this program",
        "see what `sudo dmesg | grep amdgpu` on {node} says, take a newer kernel and linux-firmware, or compute on its"
        " CPU",
    ),
    Known(
        r"autogen\.comgr' has no attribute|libamd_comgr\S*: cannot open",
        "tinygrad compiles for an AMD GPU with ROCm's libamd_comgr, and there is none where the loader looks or in"
        " /opt/rocm/lib",
        "install ROCm's comgr package on {node} (it comes with the HIP SDK)",
    ),
    Known(
        r"comgr fail|undefined symbol: amd_comgr_",
        "ROCm's libamd_comgr refuses: it is older than the GPU, or it is version 3 (ROCm 6.4 and later), whose numbers"
        " tinygrad 0.10.3 and before do not know",
        'with ROCm 6.4 or later set nodes.{node}.overrides: ["tinygrad==0.11.0"] and AMD_LLVM: "0" in its environment;'
        " otherwise take ROCm's own libamd_comgr instead of the distribution's",
    ),
    Known(
        r"requires LLVM >= |undefined value '@llvm\.amdgcn",
        "tinygrad's LLVM back end for AMD GPUs needs LLVM 18 or later, and the node has an older one",
        'set AMD_LLVM: "0" in nodes.{node}.environment, which needs ROCm\'s libamd_comgr instead',
    ),
    Known(
        r"No LLVM library found|autogen\.llvm' has no attribute|libLLVM\S*: cannot open",
        "tinygrad's LLVM back end was chosen, and the node has no LLVM library",
        'set AMD_LLVM: "0" in nodes.{node}.environment, which needs ROCm\'s libamd_comgr instead',
    ),
    Known(
        r"urlopen error \[SSL|urlopen error.*CERTIFICATE_VERIFY",
        "tinygrad 0.11.0 and later download Linux headers (gitlab.com) at their first use of an AMD GPU, and the node"
        " does not trust the certificate that it was shown; something between them may put in its own",
        "name the file with that certificate as SSL_CERT_FILE in nodes.{node}.environment, or bring"
        " ~/.cache/tinygrad/downloads from a machine that has it",
    ),
    Known(
        r"urlopen error|\burllib\.error\.|\bURLError|^HTTPError: HTTP Error|: HTTP Error \d",
        "tinygrad 0.11.0 and later download Linux headers (gitlab.com) at their first use of an AMD GPU, and the node"
        " cannot reach them",
        "let the node reach gitlab.com once (where only a proxy leads out: https_proxy in nodes.{node}.environment; a"
        " login's own is kept from EXO), or bring ~/.cache/tinygrad/downloads from a machine that did; tinygrad 0.10.3"
        " downloads nothing (ROCm before 6.4 only)",
    ),
    Known(
        r"multiple devices set in env",
        "two devices are chosen at once, and tinygrad 0.11.0 and later refuse to guess",
        'leave one of them: nodes.{node}.environment goes over exo.environment, so CPU: "0" there takes back a CPU: "1"'
        " of all nodes",
    ),
    Known(
        r"(\w+)=1 is deprecated, use DEV=",
        "from 0.13 on tinygrad ends EXO at its start where AMD=1 or CPU=1 is set: the device is chosen by DEV=...",
        "pin an older one in nodes.{node}.overrides: tinygrad==0.10.2 on a CPU or CUDA node, 0.11.0 on an AMD node",
    ),
    Known(
        r"libhsa-runtime64",
        "ROCM_PATH is set, and tinygrad loads ROCm's runtime from there, where it is not",
        "take ROCM_PATH out of the environment of the login and of nodes.{node}.environment",
    ),
    Known(
        r"undefined symbol: atomic_thread_fence|libatomic\S*: cannot open",
        "tinygrad 0.11.0 and later need libatomic to talk to an AMD GPU, and the loader of the node knows none",
        "install it on {node}: libatomic1 on Debian and Ubuntu, libatomic elsewhere",
    ),
    Known(
        r"No such file or directory: '(?:\S*/)?(?:clang|gcc|cc)[-+.\w]*'",
        "tinygrad compiles for the CPU with clang (or what CC names), and the node has none",
        "install clang on {node}",
    ),
    Known(
        r"Command '\['?clang|clang\S*: error",
        "clang is there and cannot compile what tinygrad writes: it is too old (14 does), or not whole",
        "see what `clang --version` says on {node} and install a newer one",
    ),
    Known(
        r"autogen\.(cuda|nvrtc)' has no attribute|libcuda|libnvrtc|CUDA_ERROR_NO_DEVICE|CUDA Error",
        "CUDA was chosen, and the node has no CUDA driver or compiler",
        "take CUDA=1 out of nodes.{node}.environment",
    ),
    Known(
        r"Allocation of .*? failed on|no memory is available|HIP_ERROR_OUT_OF_MEMORY|CUDA_ERROR_OUT_OF_MEMORY",
        "the device has no room left for what is put on it: EXO deals the layers by all memory that a node tells, not"
        " by what is free of it",
        "free some on {node} (a model that Ollama keeps counts: `ollama ps`), give its GPU a larger share of the RAM,"
        " or take a smaller model",
    ),
    Known(
        r"host-visible VRAM|Cannot resize BAR",
        "the processor cannot reach all of the GPU's memory",
        "turn on `resizable BAR` (or `Above 4G decoding`) in the firmware of {node}",
    ),
    Known(
        r"sqlite3\.|unable to open database file|readonly database|database or disk is full"
        r"|(?:denied|Read-only file system)\W+\S*\.cache/tinygrad",
        "tinygrad keeps what it compiled in ~/.cache/tinygrad, and cannot write there",
        "make that folder the user's own on {node} (an earlier start with sudo?) and see that its disk has room, or"
        " name another file as CACHEDB in nodes.{node}.environment",
    ),
    EMPTY_SHARE,
)
MLX = (
    Known(
        r"lib(cublas|cudart|cudnn|nccl|nvrtc|cufft)\w*\.so|libcuda\.so",
        "this is mlx's build for CUDA, and the node has no CUDA of that version",
        "set extras: [cpu] instead of cuda12 or cuda13, for this node in nodes.{node}.extras",
    ),
    Known(
        r"libmlx\.so",
        "mlx came without a back end: the package mlx alone holds none for Linux",
        'set extras: [cpu], and override mlx-cpu with the same version as mlx: ["mlx==0.31.2", "mlx-cpu==0.31.2"]',
    ),
    Known(
        r"new_thread_local_stream",
        "EXO 1.0.71 needs mlx 0.31.2, and locks 0.31.1, which cannot run a model (exo#2043)",
        'set overrides: ["mlx==0.31.2", "mlx-cpu==0.31.2"]',
    ),
)
_BOTH = (
    Known(
        r"No module named",
        "a package that the engine needs, or itself, is not in EXO's virtual environment",
        "install EXO again: fab cleanup, then fab install-{node}",
    ),
    Known(
        r"built with baseline optimizations|Illegal instruction",
        *_DIED_BY["SIGILL"],
    ),
    Known(
        r"version `(?:GLIBC|GLIBCXX|CXXABI)_",
        "a package was built for a newer Linux than the node's",
        "take an older version of the package named there in nodes.{node}.overrides, or a newer Linux",
    ),
    Known(
        r"\blib[-+.\w]+: cannot open shared object file",
        "a library that the engine loads is not on the node",
        "install the package that holds it (`apt-file search NAME`, `dnf provides '*/NAME'`) on {node}",
    ),
    Known(
        r"MemoryError|Cannot allocate memory|(?i:out of memory)",
        "there is too little memory left, on the node or on its GPU",
        "see what holds it: `free -h` and `ps aux --sort -rss` on {node}; a model that Ollama keeps counts too",
    ),
    Known(
        r"wrong numbers",
        "the engine computes wrong numbers on this device: no answer could be trusted",
        "take another version of the engine, or compute on the CPU of this node",
    ),
)


def recognise(text: str, node: str, *, in_log: bool = False) -> ComputeFailure | None:
    """Return the known failure that a reply, an engine's error or a log speaks of, with the line that says so.

    A log holds what is no failure of the engine too, so what would fit any program's is not looked for there.
    """
    for known in (*TINYGRAD, *MLX, *(() if in_log else _BOTH)):
        if match := re.search(known.pattern, text):
            begin = text.rfind("\n", 0, match.end()) + 1
            line = text[begin:].partition("\n")[0]
            return ComputeFailure("chat", shortened(line, 300), known.cause, known.remedy.replace("{node}", node))
    return None


def _explain(stage: _Stage, engine: str, node: str) -> ComputeFailure:
    # The error's own words first: a traceback also names what was tried before.
    for text in (stage.error, stage.trace):
        if failure := recognise(text, node):
            return msgspec.structs.replace(failure, stage=stage.stage, said=shortened(stage.error, 300))
    return ComputeFailure(
        stage.stage,
        shortened(stage.error, 300),
        f"{engine} cannot do `{stage.stage}` on this node, for a reason that is not known here",
        f"choose another {engine} in nodes.{node}.overrides, or another device in its environment",
    )


def _once(failures: list[ComputeFailure]) -> list[ComputeFailure]:
    """Keep the first of those with one cause: without a GPU every stage fails alike."""
    return list({failure.cause: failure for failure in reversed(failures)}.values())[::-1]
