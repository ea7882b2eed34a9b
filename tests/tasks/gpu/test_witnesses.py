"""Witnesses about the GPU: what many versions of many tools printed, and what each may count for."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from records.facts import GpuTruth, Witness
from records.settings import Gpu
from tasks.gpu import witnesses
from tests.support.recorded import recorded

RADEON = Gpu("Radeon 8060S", "gfx1151", "1002:1586")
STRIX = "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S"


def probed(folder: Path, tools: dict[str, str], **environment: str) -> GpuTruth:
    """Run the real probe with `tools` (name -> what it prints) on its PATH and /sys, /dev below `folder`."""
    tool_folder = folder / "bin"
    tool_folder.mkdir(exist_ok=True)
    for name, text in tools.items():
        (folder / f"{name}.out").write_text(text)
        script = tool_folder / name
        script.write_text(f'#!/bin/sh\necho "$*" >> "{folder}/{name}.args"\ncat "{folder}/{name}.out"\n')
        script.chmod(0o755)
    given_environment = {"PATH": f"{tool_folder}:/usr/bin:/bin", "EXO_PHASE1_SYSROOT": str(folder)} | environment
    ran = subprocess.run(
        ["/bin/bash", "-c", witnesses.probe_command(RADEON)],
        env=given_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0
    return witnesses.read_probe(ran.stdout, "rog", RADEON)


def card(folder: Path, name: str, vendor: str, device: str, busy: str | None = None) -> None:
    """Put a graphics card into the /sys below `folder`."""
    path = folder / "sys/class/drm" / name / "device"
    path.mkdir(parents=True)
    (path / "vendor").write_text(vendor + "\n")
    (path / "device").write_text(device + "\n")
    if busy is not None:
        (path / "gpu_busy_percent").write_text(busy + "\n")


def kfd(folder: Path) -> None:
    """Put a /dev/kfd and a live driver below `folder`."""
    (folder / "dev").mkdir()
    (folder / "dev/kfd").write_text("")
    (folder / "sys/module/amdgpu").mkdir(parents=True)
    (folder / "sys/module/amdgpu/initstate").write_text("live\n")


def witness(truth: GpuTruth, name: str) -> Witness:
    """Return one witness by name."""
    return next(w for w in truth.witnesses if w.name == name)


def test_the_radeon_with_all_its_witnesses(tmp_path: Path) -> None:
    """Sysfs by its PCI id and rocminfo by its GPU agent agree; a generic rocm-smi says nothing."""
    card(tmp_path, "card1", "0x1002", "0x1586")
    kfd(tmp_path)
    truth = probed(
        tmp_path,
        {
            "rocminfo": recorded("gpu", "rocminfo_strix_halo.txt"),
            "rocm-smi": recorded("gpu", "rocm-smi_7_low_power_warning.txt"),
            "amdgpu_top": recorded("gpu", "amdgpu_top_strix_halo.json"),
        },
    )
    assert (truth.present, truth.usable) == (True, True)
    assert {w.name for w in truth.witnesses if w.agrees} == {"sysfs", "rocminfo", "amdgpu_top"}
    assert witness(truth, "rocm-smi").agrees is None
    assert "low-power" in witness(truth, "rocm-smi").said
    assert truth.expected == "Radeon 8060S (gfx1151, PCI 1002:1586)"


def test_the_processors_name_never_counts(tmp_path: Path) -> None:
    """The processor is called "w/ Radeon 8060S"; without a GPU agent there is no GPU, whatever a grep finds."""
    agents = recorded("gpu", "rocminfo_strix_halo.txt").split("*******\nAgent 2")[0]
    truth = probed(tmp_path, {"rocminfo": agents, "rocm-smi": f"GPU[0] : Card Series: {STRIX}\n"})
    assert (truth.present, truth.usable) == (False, False)
    assert "8060S" in witness(truth, "rocminfo").said
    assert witness(truth, "rocminfo").agrees is False
    assert witness(truth, "rocm-smi").agrees is None
    assert all(w.agrees is not True for w in truth.witnesses)
    assert "says nothing" in witness(truth, "processor's name").said


def test_no_tool_at_all(tmp_path: Path) -> None:
    """Missing tools say nothing; sysfs and /dev/kfd, which need none, decide."""
    card(tmp_path, "card0", "0x1002", "0x1586")
    truth = probed(tmp_path, {})
    assert (truth.present, truth.usable) == (True, False)
    assert witness(truth, "rocm-smi").said == "not installed"
    assert witness(truth, "/dev/kfd").agrees is False


def test_a_rocminfo_that_fails_is_not_usable(tmp_path: Path) -> None:
    """ROCm's runtime may fail to open a GPU whose device file this user may write to: then nothing computes on it."""
    card(tmp_path, "card0", "0x1002", "0x1586")
    kfd(tmp_path)
    assert probed(tmp_path, {}).usable is True
    said = "hsa api call failure at: rocminfo.cc:1306\nCall returned HSA_STATUS_ERROR_OUT_OF_RESOURCES: failed\n"
    truth = probed(tmp_path, {"rocminfo": said})
    assert (truth.present, truth.usable) == (True, False)
    assert "OUT_OF_RESOURCES" in witness(truth, "rocminfo").said


def test_a_driver_that_is_not_live_is_not_usable(tmp_path: Path) -> None:
    """EXO's pyrsmi asks the driver's state at its start, and EXO ends where it is not `live`."""
    kfd(tmp_path)
    (tmp_path / "sys/module/amdgpu/initstate").write_text("coming\n")
    truth = probed(tmp_path, {})
    assert truth.usable is False
    assert witness(truth, "amdgpu driver").said == "coming"


def test_wsl_is_named(tmp_path: Path) -> None:
    """Windows' own Linux has /dev/dxg and no /dev/kfd."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").write_text("")
    truth = probed(tmp_path, {})
    assert truth.usable is False
    assert "WSL2" in witness(truth, "/dev/kfd").said


def test_without_rocm_smi_others_bear_witness(tmp_path: Path) -> None:
    """ROCm 10 has no rocm-smi: amd-smi, sysfs and the driver's sensors see the Radeon; N/A says nothing."""
    card(tmp_path, "card1", "0x1002", "0x1586")
    sensors = tmp_path / "sys/class/drm/card1/device/hwmon/hwmon3"
    sensors.mkdir(parents=True)
    (sensors / "name").write_text("amdgpu\n")
    asic = '"market_name": "AMD Radeon Graphics", "device_id": "0x1586", "target_graphics_version": "gfx1151"'
    truth = probed(tmp_path, {"amd-smi": '{"gpu_data": [{"gpu": 0, "asic": {' + asic + "}}]}\n"})
    assert {w.name for w in truth.witnesses if w.agrees} == {"amd-smi", "sysfs", "hwmon"}
    assert witness(truth, "rocm-smi").said == "not installed"
    empty = probed(tmp_path, {"amd-smi": '[{"gpu": 0, "asic": {"market_name": "N/A", "device_id": "N/A"}}]'})
    assert witness(empty, "amd-smi").agrees is None
    metrics = probed(tmp_path, {"amd-smi": recorded("gpu", "amd-smi_strix_halo_na.txt")})
    assert witness(metrics, "amd-smi").agrees is None


def test_another_graphics_card(tmp_path: Path) -> None:
    """Another device of the same maker is not the one that hosts.yaml names."""
    card(tmp_path, "card0", "0x1002", "0x744c")
    card(tmp_path, "card1", "0x8086", "0x1586")
    truth = probed(tmp_path, {"rocm-smi": recorded("gpu", "rocm-smi_6_mi300x_two_gpus.txt")})
    assert truth.present is False
    assert witness(truth, "sysfs").said == "card0 1002:744c, card1 8086:1586"
    assert witness(truth, "rocm-smi").agrees is False


def test_an_override_is_a_witness_against(tmp_path: Path) -> None:
    """HSA_OVERRIDE_GFX_VERSION makes programs see another GPU; it is told, and rocminfo is asked without it."""
    script = tmp_path / "bin" / "rocminfo"
    script.parent.mkdir()
    text = recorded("gpu", "rocminfo_strix_halo.txt")
    (tmp_path / "plain").write_text(text)
    script.write_text(f'#!/bin/sh\n[ -n "$HSA_OVERRIDE_GFX_VERSION" ] && echo overridden || cat "{tmp_path}/plain"\n')
    script.chmod(0o755)
    truth = probed(tmp_path, {}, HSA_OVERRIDE_GFX_VERSION="12.0.1")
    assert witness(truth, "rocminfo").agrees is True
    assert witness(truth, "HSA_OVERRIDE_GFX_VERSION").agrees is False
    assert "gfx1201" in witness(truth, "HSA_OVERRIDE_GFX_VERSION").said
    same = probed(tmp_path, {}, HSA_OVERRIDE_GFX_VERSION="11.5.1")
    assert witness(same, "HSA_OVERRIDE_GFX_VERSION").agrees is None


def test_a_gpu_agent_of_another_name(tmp_path: Path) -> None:
    """A rocminfo that reports gfx1201 does not see the gfx1151."""
    text = recorded("gpu", "rocminfo_strix_halo.txt").replace("gfx1151", "gfx1201")
    assert witness(probed(tmp_path, {"rocminfo": text}), "rocminfo").agrees is False


def test_how_busy() -> None:
    """The busiest card counts; no number is nothing."""
    assert witnesses.read_busy("97 3") == 97.0
    assert witnesses.read_busy("") is None
    assert witnesses.read_busy("cat: no such file 101 -3 N/A") is None


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            [
                "@@exo-phase1@@ rocm-smi-json",
                "@@exo-phase1@@ rocminfo",
                "@@exo-phase1@@ exit 127",
                "@@exo-phase1@@ sysfs",
                "@@exo-phase1@@ amdgpu_top",
                "Agent 1",
                "Name: x",
                "Device Type: GPU",
                "card0 0x1002 0x1586",
                "[{",
                "device,Card series",
                'card0,"',
                "{",
                '{"card0": {"Device ID": 3}}',
                "GPU[0] : Card series: x",
            ]
        )
        | st.text(max_size=30)
    )
)
def test_reading_a_probe_never_fails(lines: list[str]) -> None:
    """No output of any tool makes the reader raise."""
    text = "\n".join(lines)
    truth = witnesses.read_probe(text, "rog", RADEON)
    assert truth.node == "rog"
    assert witnesses.read_busy(text) is None or text
