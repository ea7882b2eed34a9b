"""What a compute probe's answer means: every known failure in the engines' own words has its cause and its remedy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from records.facts import ComputeProbe
from tasks.exo import probe
from tasks.machines.environment import exports

GOOD: dict[str, Any] = {"device": "CPU", "versions": {"tinygrad": "0.10.2"}}


def printed(*stages: dict[str, Any], ended: bool = True) -> str:
    """Return what a probe prints, with a login file's greeting before it and a library's line within it."""
    lines = [json.dumps({"seconds": 0.5} | stage) for stage in stages]
    end = [probe._END] if ended else []
    return "\n".join(["Welcome to srv2!", probe._BEGIN, *lines, "scp: Received 3 files", *end, "Bye"])


def failing(error: str, engine: str = "tinygrad", trace: str = "") -> ComputeProbe:
    """Return the probe of a node whose matmul failed with `error`."""
    text = printed({"stage": "import"} | GOOD, {"stage": "matmul", "error": error, "trace": trace})
    return probe.read("rog", engine, {}, text, 3.0)


def test_an_engine_that_computes() -> None:
    """Device, versions and seconds come from between the marks, whatever is printed around and within them."""
    text = printed({"stage": "import"} | GOOD, {"stage": "matmul"})
    found = probe.read("srv1", "tinygrad", {"CPU": "1"}, text, 2.345)
    assert found == ComputeProbe(
        "srv1", "tinygrad", "CPU", True, 2.35, {"import": 0.5, "matmul": 0.5}, {"tinygrad": "0.10.2"}
    )


# What EXO 0.0.15 and tinygrad said, word for word; the cause names what is wrong, the remedy what to write or install.
SAID = [
    ("TypeError: underlying buffer is not writable", "read-only arrays", "tinygrad==0.10.2"),
    ("CompileError: src:13:30: error: expected value token\n  %v10 = select i1 %v9, half -inf, half 0.0",
     "half -inf", 'AMD_LLVM: "0"'),
    ("ModuleNotFoundError: No module named 'tinygrad.runtime.autogen.am'", "lacks its AMD part", "tinygrad==0.11.0"),
    ("ModuleNotFoundError: No module named 'pyrsmi'", "crashes without it", "nodes.rog.extras: [amd-gpu]"),
    ("RuntimeError: ROCm driver initilization failed", "driver is not loaded", "modprobe amdgpu"),
    ("AttributeError: .../python: undefined symbol: rsmi_init", "librocm_smi64.so", "rocm-smi-lib"),
    ("RuntimeError: ROCm SMI initialization failed", "neither the GPU's name", "rocm-smi"),
    ("RuntimeError: Cannot find a usable interface for AMD:0:\nKFDIface: FileNotFoundError: [Errno 2] No such file or"
     " directory: '/dev/kfd'\nPCIIface: IndexError: list index out of range", "no usable /dev/kfd", "AMD=1"),
    ("RuntimeError: Cannot find a usable interface for AMD:0:\nKFDIface: PermissionError: [Errno 13] Permission denied:"
     " '/dev/kfd'", "may not open /dev/kfd", "render, video"),
    ("ExceptionGroup: No interface for AMD:0 is available (3 sub-exceptions)", "no usable /dev/kfd", "rocminfo"),
    ("AttributeError: module 'tinygrad.runtime.autogen.comgr' has no attribute 'amd_comgr_create_action_info'",
     "libamd_comgr", "comgr package on rog"),
    ("CompileError: comgr fail 2, INVALID_ARGUMENT", "older than the GPU", "tinygrad==0.11.0"),
    ("CompileError: undefined value '@llvm.amdgcn.' AMD with LLVM backend requires LLVM >= 18", "LLVM 18", "AMD_LLVM"),
    ("FileNotFoundError: No LLVM library found on the system. Install it via your distro's package manager",
     "no LLVM library", "AMD_LLVM"),
    ("Error processing prompt (see logs with DEBUG>=2): list index out of range", "layers by memory", "carve-out"),
    ("URLError: <urlopen error [Errno -2] Name or service not known>", "download Linux headers", "gitlab.com"),
    ("URLError: <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>",
     "not trust", "SSL_CERT_FILE"),
    ("AssertionError: multiple devices set in env: ['AMD', 'CPU']", "two devices", "leave one"),
    ("AssertionError: AMD=1 is deprecated, use DEV=AMD instead", "from 0.13 on", "pin an older one"),
    ("OSError: /opt/none/lib/libhsa-runtime64.so: cannot open shared object file", "ROCM_PATH is set", "ROCM_PATH"),
    ("AttributeError: /home/a/venv/bin/python: undefined symbol: atomic_thread_fence", "need libatomic", "libatomic1"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'clang'", "with clang", "install clang on rog"),
    ("AttributeError: module 'tinygrad.runtime.autogen.cuda' has no attribute 'cuInit'", "CUDA was chosen", "CUDA=1"),
    ("ModuleNotFoundError: No module named 'tinygrad'", "is not in EXO's", "fab install-rog"),
    ("RuntimeError: Unsupported arch: gfx1151", "does not know the GPU", "AMD_LLVM"),
    ("RuntimeError: Device hang detected", "GPU faulted", "linux-firmware"),
    ("subprocess.CalledProcessError: Command '['clang', '-c', '-x', 'c']' returned non-zero exit status 1.",
     "cannot compile", "newer one"),
    ("ImportError: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found", "newer Linux", "older"),
    ("OSError: libgomp.so.1: cannot open shared object file: No such file or directory", "not on the node", "rog"),
    ("MemoryError: Allocation of 1.57 GB failed on AMD. Used: 0.51 GB", "no room left", "ollama ps"),
    ("MemoryError: Cannot allocate host-visible VRAM. Ensure the resizable BAR option is enabled on your system.",
     "all of the GPU's memory", "resizable BAR"),
    ("sqlite3.OperationalError: unable to open database file", "cannot write there", "CACHEDB"),
    ("RuntimeError: NumPy was built with baseline optimizations: (X86_V2) but your machine doesn't support: (X86_V2).",
     "instructions", "lscpu"),
    ("MemoryError: Failed to allocate memory", "too little memory", "free -h"),
    ("ArithmeticError: wrong numbers: [0. 0.], right are [1. 2.]", "computes wrong numbers", "another version"),
]  # fmt: skip
# Other words for the same: of another version, another library, another file.
ALIKE = [
    ("CompileError: src:9:2: error: floating point constant invalid for type", "half -inf"),
    ("OSError: libamd_comgr.so.3: cannot open shared object file: No such file or directory", "there is none where"),
    ("AttributeError: /usr/lib/libamd_comgr.so.2: undefined symbol: amd_comgr_populate_mangled_names", "refuses"),
    ("CompileError: comgr fail 1, ERROR", "refuses"),
    ("CompileError: error: undefined value '@llvm.amdgcn.s.waitcnt'", "LLVM 18"),
    ("OSError: libLLVM.so.19.1: cannot open shared object file: No such file or directory", "no LLVM library"),
    ("AttributeError: module 'tinygrad.runtime.autogen.llvm' has no attribute 'LLVMInitializeX86Target'", "no LLVM"),
    ("LLVM ERROR: 'gfx1151' is not a recognized processor for this target", "does not know the GPU"),
    ("PermissionError: [Errno 13] Permission denied: '/dev/dri/renderD128'", "may not open"),
    ("PermissionError: [Errno 1] Operation not permitted: '/dev/kfd'", "may not open"),
    ("OSError: /opt/rocm/lib/librocm_smi64.so: cannot open shared object file", "pyrsmi finds no"),
    ("RuntimeError: RSMI_STATUS_INIT_ERROR", "neither the GPU's name"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'clang-18'", "the node has none"),
    ("ModuleNotFoundError: No module named 'numpy'", "is not in EXO's virtual environment"),
    ("urllib.error.URLError: <urlopen error timed out>", "cannot reach them"),
    ("RuntimeError: Wait timeout: 30000 ms! (the signal is not set to 3, but 2)", "GPU faulted"),
    ("MemoryError: Cannot allocate 805306368 bytes: no memory is available.", "no room left"),
    ("PermissionError: [Errno 13] Permission denied: '/home/exo/.cache/tinygrad/cache.db'", "cannot write there"),
    ("HTTPError: HTTP Error 407: Proxy Authentication Required", "download Linux headers"),
    ("AssertionError: CPU=1 is deprecated, use DEV=CPU instead", "from 0.13 on"),
]
SAID_BY_MLX = [
    ("ImportError: libcublasLt.so.13: cannot open shared object file: No such file or directory",
     "build for CUDA", "extras: [cpu]"),
    ("ImportError: libmlx.so: cannot open shared object file: No such file or directory",
     "without a back end", "mlx-cpu==0.31.2"),
    ("AttributeError: module 'mlx.core' has no attribute 'new_thread_local_stream'", "exo#2043", "mlx==0.31.2"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "cause", "remedy"), SAID)
def test_each_failure_of_tinygrad_has_its_own_cause(error: str, cause: str, remedy: str) -> None:
    """The cause and the remedy fit the text, and the text itself is passed on."""
    (failure,) = failing(error).failures
    assert cause in failure.cause
    assert remedy in failure.remedy
    assert failure.said == " ".join(error.split())


@pytest.mark.parametrize(("error", "cause"), ALIKE)
def test_other_words_for_the_same_failure(error: str, cause: str) -> None:
    """A cause is known in the words of other versions, libraries and files too."""
    assert cause in failing(error).failures[0].cause


@pytest.mark.parametrize(("error", "cause", "remedy"), SAID_BY_MLX)
def test_each_failure_of_mlx_has_its_own_cause(error: str, cause: str, remedy: str) -> None:
    """The CUDA build on a node without CUDA, mlx without a back end, and the locked mlx are told apart."""
    (failure,) = failing(error, "mlx").failures
    assert cause in failure.cause
    assert remedy in failure.remedy


def test_no_two_known_failures_share_a_cause() -> None:
    """Every row of the tables is reached by a text above, and says something of its own."""
    rows = [*probe.TINYGRAD, *probe.MLX, *probe._BOTH]
    causes = {failing(error).failures[0].cause for error, _, _ in SAID}
    causes |= {failing(error, "mlx").failures[0].cause for error, _, _ in SAID_BY_MLX}
    assert causes == {row.cause for row in rows}
    assert len(causes) == len(rows)


def test_one_cause_is_told_once() -> None:
    """Without a GPU every stage fails alike; two causes are two failures, the first stage's words kept."""
    pyrsmi = "ModuleNotFoundError: No module named 'pyrsmi'"
    kfd = "RuntimeError: Cannot find a usable interface for AMD:0: '/dev/kfd'"
    text = printed(
        {"stage": "import", "device": "AMD"},
        {"stage": "rocm-smi", "error": pyrsmi},
        {"stage": "read-only array", "error": kfd},
        {"stage": "matmul", "error": kfd},
    )
    found = probe.read("rog", "tinygrad", {"AMD": "1"}, text, 2)
    assert [failure.stage for failure in found.failures] == ["rocm-smi", "read-only array"]
    assert found.works is False


def test_the_traceback_counts_where_the_error_says_little() -> None:
    """A group of exceptions names the refused device only inside."""
    (failure,) = failing(
        "ExceptionGroup: 3 sub-exceptions", trace="PermissionError: Permission denied: '/dev/kfd'"
    ).failures
    assert "may not open /dev/kfd" in failure.cause


def test_what_is_not_known_is_passed_on() -> None:
    """An unknown error works nowhere and is quoted."""
    found = failing("KeyError: 'gfx1151'")
    assert found.works is False
    assert found.failures[0].said == "KeyError: 'gfx1151'"


HALF = printed({"stage": "import"} | GOOD, ended=False)


@pytest.mark.parametrize(
    ("text", "code", "words", "cause"),
    [
        ("", None, "no answer after 180 s", "hung"),
        (HALF, None, "no answer after 180 s; the last thing done: import", "hung"),
        (HALF, 139, "ended by SIGSEGV", "crashed"),
        (HALF, 134, "ended by SIGABRT", "crashed"),
        (HALF, 132, "ended by SIGILL", "instructions"),
        (HALF, 137, "ended by SIGKILL", "want of memory"),
        ("Fatal Python error: init_fs_encoding", 1, "exit code 1 after 180 s; .*: Fatal Python error", "gave up"),
        ("env: '/x/python': No such file or directory", 127, "exit code 127 .*: env: '/x/python'", "gave up"),
    ],
)
def test_a_probe_that_did_not_end_says_how_it_died(text: str, code: int | None, words: str, cause: str) -> None:
    """No end mark: it hung, was killed or never ran; how far it came, signal or exit code, and words are told."""
    found = probe.read("srv2", "tinygrad", {}, text if code is None else f"{text}\n\n{probe._CODE} {code}\n", 180)
    assert found.works is False
    assert re.search(words, found.failures[0].said)
    assert cause in found.failures[0].cause


def test_a_probe_that_dies_in_a_shell_is_read_by_its_signal(tmp_path: Path) -> None:
    """The command itself tells the signal, for a node's shell does not always: a Python that kills itself."""
    script = tmp_path / "probe.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", encoding="utf-8")
    words = ["bash", "-c", probe.command(sys.executable, str(script), "tinygrad", exports({"CPU": "1"}))]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "ended by SIGSEGV" in probe.read("rog", "tinygrad", {}, ran.stdout, 1).failures[0].said


def test_the_probe_computes_in_the_environment_of_exo(tmp_path: Path) -> None:
    """No proxy of the login reaches it, in whatever case or for whatever protocol; one of hosts.yaml does."""
    script = tmp_path / "probe.py"
    script.write_text("import os\nprint(*sorted(n for n in os.environ if 'proxy' in n.lower()))", encoding="utf-8")
    login = dict.fromkeys(("http_proxy", "HTTPS_PROXY", "grpc_proxy", "ALL_PROXY", "no_proxy"), "http://proxy.example")
    words = [
        "bash",
        "-c",
        probe.command(sys.executable, str(script), "tinygrad", exports({"https_proxy": "http://ours.example"})),
    ]
    ran = subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=True, env={"PATH": "/usr/bin:/bin"} | login
    )
    assert ran.stdout.splitlines()[0] == "https_proxy"


@pytest.mark.parametrize(
    ("environment", "device", "works"),
    [
        ({"AMD": "1"}, "AMD", True),
        ({"DEV": "AMD"}, "AMD:0", True),
        ({"DEV": "AMD"}, "CPU", False),
        ({"CUDA": "1"}, "CPU", False),
        ({"CPU": "1"}, "CPU", True),
        ({"DEV": "CPU"}, "CPU", True),
        ({"AMD": "0"}, "CPU", True),
    ],
)
def test_the_device_asked_for_is_the_device_used(environment: dict[str, str], device: str, works: bool) -> None:
    """`DEV=AMD` means nothing to an old tinygrad, which then computes on the CPU without a word."""
    text = printed({"stage": "import", "device": device, "versions": {"tinygrad": "0.10.3"}})
    assert probe.read("rog", "tinygrad", environment, text, 1).works is works
