"""What an AMD node needs for EXO 0.0.x, asked of real files in one round trip, and what is said of what is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.facts import AmdNode
from records.settings import Gpu
from tasks.gpu import amd
from tests.support.amd import amd_node

RADEON = Gpu("Radeon 8060S", "gfx1151", "1002:1586")


def lay(root: Path, files: dict[str, str]) -> None:
    """Write `files` below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def asked(root: Path, **environment: str) -> AmdNode:
    """Run the real probe over the files below `root`, in an environment as bare as a non-login shell's."""
    ran = subprocess.run(
        ["/bin/bash", "-c", amd.probe_command()],
        env={"PATH": "/usr/bin:/bin", "EXO_PHASE1_SYSROOT": str(root)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0
    return amd.read_probe("Welcome to this machine\n" + ran.stdout, RADEON)


WHOLE = {
    "sys/module/amdgpu/initstate": "live\n",
    "dev/kfd": "",
    "opt/rocm/.info/version": "6.4.1-83\n",
    "opt/rocm/lib/librocm_smi64.so": "",
    "opt/rocm/lib/libamd_comgr.so": "",
    "sys/class/drm/card0/device/vendor": "0x8086\n",
    "sys/class/drm/card0/device/device": "0x4680\n",
    "sys/class/drm/card1/device/vendor": "0x1002\n",
    "sys/class/drm/card1/device/device": "0x1586\n",
    "sys/class/drm/card1/device/mem_info_vram_total": "536870912\n",
    "sys/class/drm/card1/device/mem_info_gtt_total": "16642998272\n",
}


def test_a_node_with_everything_lacks_nothing(tmp_path: Path) -> None:
    """The driver's word, the device file, the libraries and both kinds of memory are read; a greeting before is not."""
    lay(tmp_path, WHOLE)
    found = asked(tmp_path)
    assert (found.driver, found.kfd, found.wsl, found.rocm, found.rocm_path) == (
        "live",
        "writable",
        False,
        "6.4.1-83",
        "",
    )
    assert found.rocm_smi.endswith("/opt/rocm/lib/librocm_smi64.so")
    assert found.comgr.endswith("/opt/rocm/lib/libamd_comgr.so")
    assert (found.vram_bytes, found.gtt_bytes, found.memory_bytes) == (536870912, 16642998272, 17179869184)
    assert found.groups
    assert amd.lacking("rog", found) == []


def test_a_node_with_nothing(tmp_path: Path) -> None:
    """Every file that is not there is missed, by the name of its own remedy."""
    lacks = amd.lacking("rog", asked(tmp_path))
    assert [text.startswith("rog: ") for text in lacks] == [True] * 4
    assert [word in text for word, text in zip(("modprobe", "/dev/kfd", "rocm-smi-lib", "comgr"), lacks, strict=True)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_device_file_of_others(tmp_path: Path) -> None:
    """What `ls -l` says is kept where this user may not write."""
    lay(tmp_path, WHOLE)
    (tmp_path / "dev/kfd").chmod(0o444)
    assert asked(tmp_path).kfd.startswith("-r--r--r--")


def test_rocm_path_that_leads_nowhere(tmp_path: Path) -> None:
    """Set to a folder with ROCm's runtime it is well, otherwise both pyrsmi and tinygrad look in the wrong place."""
    lay(tmp_path, WHOLE)
    astray = asked(tmp_path, ROCM_PATH="/opt/old")
    assert (astray.rocm_path, astray.rocm_smi) == ("/opt/old", "")
    assert any("no /opt/old/lib/librocm_smi64.so" in text for text in amd.lacking("rog", astray))
    lay(tmp_path, {"opt/rocm/lib/libhsa-runtime64.so": ""})
    assert amd.lacking("rog", asked(tmp_path, ROCM_PATH="/opt/rocm")) == []


def test_wsl_is_named(tmp_path: Path) -> None:
    """/dev/dxg without /dev/kfd: one sentence says it all."""
    lay(tmp_path, {"dev/dxg": ""})
    lacks = amd.lacking("rog", asked(tmp_path))
    assert len(lacks) == 1
    assert "this is WSL2" in lacks[0]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"driver": ""}, "the amdgpu driver is not live (/sys/module/amdgpu/initstate says nothing)"),
        ({"driver": "going"}, "says `going`"),
        ({"kfd": "missing"}, "there is no /dev/kfd"),
        ({"kfd": "crw-rw---- 1 root render 235, 0 /dev/kfd", "groups": ["x"]}, "not in the group render or video"),
        ({"kfd": "crw------- 1 root root 235, 0 /dev/kfd"}, "in render and video, so another group or root owns it"),
        ({"rocm_smi": ""}, "there is no /opt/rocm/lib/librocm_smi64.so, where pyrsmi looks"),
        ({"rocm_smi": "", "rocm": "10.1.0"}, "ROCm 10.1.0 does not bring librocm_smi64 any more"),
        ({"comgr": ""}, "there is no libamd_comgr where tinygrad looks"),
        ({"rocm_path": "/opt/old"}, "take ROCM_PATH out of the login's environment"),
    ],
)
def test_each_thing_that_is_missing_has_its_remedy(other: dict[str, Any], words: str) -> None:
    """One thing missing is one sentence, which names the node and what mends it."""
    (said,) = amd.lacking("rog", amd_node(**other))
    assert said.startswith("rog: ")
    assert words in said


def test_comgr_is_not_asked_for_where_llvm_compiles() -> None:
    """A tinygrad from a source may compile with LLVM alone."""
    assert amd.lacking("rog", amd_node(comgr=""), comgr=False) == []


@given(
    st.lists(st.sampled_from(["@@exo-phase1@@ memory", "0x1002 0x1586 9", "@@exo-phase1@@ kfd"]) | st.text(max_size=30))
)
def test_reading_never_fails(lines: list[str]) -> None:
    """No output makes the reader raise."""
    assert amd.read_probe("\n".join(lines), RADEON).memory_bytes >= 0
