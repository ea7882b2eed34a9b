"""How busy a GPU is, read while nothing else may happen on its node."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from records.record import Command
from records.settings import Gpu, NodeSpec
from tasks.gpu.busy import EVERY_S, GpuWatch
from tasks.machines.local import LocalNode
from tasks.machines.node import journal
from tests.support import processes

SPEC = NodeSpec(host="localhost", local=True, gpu=Gpu("Radeon 8060S", "gfx1151", "1002:1586"))


@pytest.fixture
def percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the kernel's file of a GPU below a root of its own; the node's home lies there too."""
    file = tmp_path / "sys/class/drm/card0/device/gpu_busy_percent"
    file.parent.mkdir(parents=True)
    file.write_text("7\n")
    monkeypatch.setenv("EXO_PHASE1_SYSROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return file


def readers(home: Path) -> list[str]:
    """Return the processes that read for a watch below `home`."""
    mark = f"{home}/.exo-phase1/gpu-busy.".encode()
    return [line.decode("utf-8", "replace") for _, line in processes.files("cmdline") if mark in line]


def test_two_commands_a_watch_however_long_it_lasts(percent: Path) -> None:
    """The node is sent one command before and one after; what the GPU did between is there, and nothing is left."""
    node, commands = LocalNode("rog", SPEC), list[Command]()
    token = journal.set(commands)
    try:
        with GpuWatch([node], 60) as watch:
            time.sleep(2 * EVERY_S)
            percent.write_text("93\n")
            time.sleep(2 * EVERY_S)
    finally:
        journal.reset(token)
    assert len(commands) == 2
    assert watch.busy["rog"][0] == 7.0
    assert watch.busy["rog"][-1] == 93.0
    assert watch.power_w == {}
    home = percent.parents[5]
    deadline = time.monotonic() + 20
    while readers(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert readers(home) == []
    assert list((home / ".exo-phase1").glob("gpu-busy.*")) == []


def test_a_watch_of_nothing_says_nothing(percent: Path) -> None:
    """A GPU whose kernel tells no percentage leaves no figures, and the run goes on."""
    percent.unlink()
    with GpuWatch([LocalNode("rog", SPEC)], 60) as watch:
        pass
    assert watch.busy == {}


@pytest.mark.parametrize("name", ["power1_average", "power1_input"])
def test_the_power_of_the_same_card(percent: Path, name: str) -> None:
    """Drivers tell a mean or the moment, in microwatts; either is read beside the percentage."""
    sensors = percent.parent / "hwmon/hwmon3"
    sensors.mkdir(parents=True)
    (sensors / name).write_text("54500000\n")
    with GpuWatch([LocalNode("rog", SPEC)], 60) as watch:
        time.sleep(2 * EVERY_S)
    assert set(watch.power_w["rog"]) == {54.5}
    assert set(watch.busy["rog"]) == {7.0}
