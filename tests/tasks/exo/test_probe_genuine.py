"""The compute probe on the genuine engines from the package index: what computes, and how the others fail.

tinygrad's emulated AMD GPU joins in where the names of tests/real/amd_gpu.py are given; it also needs LLVM 18 or later.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from records.facts import ComputeProbe
from tasks.exo import probe
from tasks.machines.environment import exports
from tests.real import amd_gpu
from tests.support.packages import package

pytestmark = pytest.mark.install
needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="no clang, with which tinygrad compiles for the CPU")
no_amd = pytest.mark.skipif(Path("/dev/kfd").exists(), reason="this machine may have a usable AMD GPU")


def probed(engine: str, environment: dict[str, str], *folders: Path) -> ComputeProbe:
    """Run the probe with the packages in `folders`, as a node does."""
    settings = environment | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    begin = time.monotonic()
    ran = subprocess.run(
        ["/bin/bash", "-c", probe.command(sys.executable, str(probe.SCRIPT), engine, exports(settings))],
        capture_output=True, text=True, timeout=probe.TIMEOUT_S, check=False,
    )  # fmt: skip
    return probe.read("rog", engine, environment, ran.stdout, time.monotonic() - begin)


def causes(found: ComputeProbe) -> str:
    """Return what was wrong, in one text."""
    return " | ".join(failure.cause for failure in found.failures)


@needs_clang
@pytest.mark.parametrize("setting", ["CPU", "CLANG"])
def test_tinygrad_0_10_2_computes_on_the_cpu(setting: str) -> None:
    """It takes EXO's read-only arrays, masks and multiplies with the right numbers, and says device and version."""
    found = probed("tinygrad", {setting: "1"}, package("tinygrad==0.10.2"))
    assert found.failures == []
    assert (found.works, found.device, found.versions["tinygrad"]) == (True, "CPU", "0.10.2")
    assert list(found.stages) == ["import", "rocm-smi", "read-only array", "fp16 mask", "matmul"]


@needs_clang
@pytest.mark.parametrize("version", ["0.10.3", "0.11.0"])
def test_later_tinygrads_refuse_read_only_arrays_on_the_cpu(version: str) -> None:
    """They compute, but not on what EXO hands them; nothing else is wrong."""
    found = probed("tinygrad", {"CPU": "1"}, package(f"tinygrad=={version}"))
    (failure,) = found.failures
    assert failure.said == "TypeError: underlying buffer is not writable"
    assert failure.stage == "read-only array"
    assert "tinygrad==0.10.2" in failure.remedy


def test_without_clang_the_cpu_computes_nothing(tmp_path: Path) -> None:
    """The probe says so in one failure, even where an earlier run left compiled kernels in tinygrad's cache."""
    found = probed("tinygrad", {"CPU": "1", "PATH": str(tmp_path)}, package("tinygrad==0.10.2"))
    (failure,) = found.failures
    assert failure.said == "FileNotFoundError: [Errno 2] No such file or directory: 'clang'"
    assert failure.remedy == "install clang on rog"


@no_amd
def test_an_amd_node_without_what_it_needs() -> None:
    """0.10.2 lacks its AMD part, 0.10.3 finds no GPU; neither has pyrsmi; neither falls back to the CPU."""
    old = probed("tinygrad", {"AMD": "1"}, package("tinygrad==0.10.2"))
    assert [failure.stage for failure in old.failures] == ["rocm-smi", "read-only array"]
    assert "pyrsmi" in old.failures[0].cause
    assert "lacks its AMD part" in old.failures[1].cause
    new = probed("tinygrad", {"AMD": "1"}, package("tinygrad==0.10.3"), package("pyrsmi==0.2.0"))
    assert "driver is not loaded" in new.failures[0].cause
    assert "no usable /dev/kfd" in new.failures[1].cause
    assert (new.device, len(new.failures)) == ("AMD", 2)


def test_from_0_13_on_the_device_is_chosen_otherwise() -> None:
    """AMD=1 ends it at the import; an older one takes `DEV=AMD` for nothing, and computes on the CPU unasked."""
    assert "ends EXO at its start" in causes(probed("tinygrad", {"AMD": "1"}, package("tinygrad==0.13.0")))
    assert "asks for AMD" in causes(probed("tinygrad", {"DEV": "AMD"}, package("tinygrad==0.10.2")))


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="this machine may have a usable NVIDIA GPU")
def test_cuda_without_a_driver() -> None:
    """CUDA=1 on a node without CUDA computes nothing."""
    assert "CUDA was chosen" in causes(probed("tinygrad", {"CUDA": "1"}, package("tinygrad==0.10.2")))


def test_mlx_computes_with_the_override_and_not_as_locked() -> None:
    """0.31.2 with its back end computes; 0.31.1 lacks the stream that EXO needs; without a back end nothing loads."""
    good = probed("mlx", {}, package("mlx==0.31.2", "mlx-cpu==0.31.2"))
    assert good.failures == []
    assert "cpu" in good.device
    locked = probed("mlx", {}, package("mlx==0.31.1", "mlx-cpu==0.31.1"))
    assert [failure.stage for failure in locked.failures] == ["thread-local stream"]
    assert "exo#2043" in causes(locked)
    assert "without a back end" in causes(probed("mlx", {}, package("mlx==0.31.2")))


@pytest.mark.skipif(bool(amd_gpu.absent()), reason=amd_gpu.absent())
@pytest.mark.parametrize(
    ("by_llvm", "fetched", "stages", "cause"),
    [
        ("0", True, {"rocm-smi"}, ""),
        ("1", True, {"rocm-smi", "fp16 mask"}, "half -inf"),
        ("0", False, {"rocm-smi", "read-only array"}, "cannot reach them"),
    ],
)
def test_the_emulated_amd_gpu(tmp_path: Path, by_llvm: str, fetched: bool, stages: set[str], cause: str) -> None:
    """As shipped it computes, with LLVM llama's mask does not compile, and without headers nothing does."""
    if fetched:
        shutil.copytree(amd_gpu.DOWNLOADS, tmp_path / "tinygrad/downloads")
    given = amd_gpu.environment() | {"AMD": "1", "AMD_LLVM": by_llvm, "XDG_CACHE_HOME": str(tmp_path)}
    # The checkout only lends its `test`: the tinygrad that is asked is the packaged one.
    found = probed("tinygrad", given, package("tinygrad==0.11.0"), Path(given["PYTHONPATH"]))
    assert found.device == "AMD"
    assert {failure.stage for failure in found.failures} == stages
    assert cause in causes(found)
