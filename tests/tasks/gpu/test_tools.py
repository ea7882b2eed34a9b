"""The GPU tools' output in every recorded form, and in the forms the Radeon 8060S takes."""

from __future__ import annotations

import pytest

from records.settings import Gpu
from tasks.gpu.tools import amdgpu_top_cards, judge, rocm_smi_cards, rocminfo_agents
from tests.support.recorded import recorded

RADEON = Gpu("Radeon 8060S", "gfx1151", "1002:1586")
STRIX = "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S"


@pytest.mark.parametrize(
    ("name", "words", "agrees"),
    [
        ("rocm-smi_4.0_mi100_hex.txt", ["0x738c 0x0c34"], False),
        ("rocm-smi_6.2_radeon780m_all.json", ["Phoenix3, 0x1900"], False),
        ("rocm-smi_6_mi200.json", ["AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2, gfx9010, 0x7408"], False),
        ("rocm-smi_6_mi300x_two_gpus.txt", ["AMD Instinct MI300X VF, gfx942, 0x74b5"] * 2, False),
        ("rocm-smi_fury_text.txt", ["Fiji [Radeon R9 FURY / NANO Series]"], False),
        ("rocm-smi_mi100.csv", ["Arcturus GL-XL [AMD Instinct MI100], 0x0c34"] * 2, False),
        ("rocm-smi_7_low_power_warning.txt", [], None),
        ("rocm-smi_missing.txt", [], None),
        ("amd-smi_strix_halo_na.txt", [], None),
        ("rocminfo_override.txt", [], None),
    ],
)
def test_rocm_smi_in_every_recorded_form(name: str, words: list[str], agrees: bool | None) -> None:
    """Text, JSON and CSV of several versions and cards: none of them is the Radeon, and silence is not a no."""
    cards = rocm_smi_cards(recorded("gpu", name))
    assert [one.words() for one in cards] == words
    assert judge(cards, RADEON) is agrees


@pytest.mark.parametrize(
    ("text", "agrees"),
    [
        ("GPU[0]\t\t: Card series: \t\tRadeon 8060S Graphics\n", True),
        ("GPU[0] : Card Series: AMD Radeon Graphics\nGPU[0] : Card Model: 0x1586\n", True),
        ("GPU[0] : Card series: 0x1586\nGPU[0] : Card model: 0x1f4e\n", True),
        ("GPU[0] : Card Series: N/A\nGPU[0] : GFX Version: gfx1151\n", True),
        ("GPU[0] : Device Name: 0X1586\n", True),
        ("GPU[0] : Card Series: AMD Radeon Graphics\nGPU[0] : Card SKU: STRIXEMU\n", None),
        ("GPU[0] : Card Series: N/A\n", None),
        ("GPU[0] : Card Series: AMD Radeon RX 7900 XTX\nGPU[1] : Card Series: Radeon 8060S Graphics\n", True),
        ('{"card0": {"Card Series": "AMD Radeon Graphics", "Device ID": "0x1586"}}', True),
        ('{"card0": {"Card series": "AMD Radeon Graphics", "GFX Version": "gfx1151"}}', True),
        ('{"system": {"Driver version": "6.12"}}', None),
        ('WARNING: AMD GPU device(s) is/are in a low-power state.\n\n{"card0": {"Device Name": "Radeon 8060S"}}', True),
        ("device,Card series,Card model\ncard0,AMD Radeon Graphics,0x1586\n", True),
        ("device,Card Series,GFX Version\ncard0,N/A,gfx1151\n", True),
        ('{"card0": {"Subsystem ID": "0x1586", "Device ID": "0x1900"}}', False),
        (f'{{"card0": {{"Card Series": "{STRIX}"}}}}', None),
    ],
)
def test_rocm_smi_variations(text: str, agrees: bool | None) -> None:
    """The Radeon in the forms it takes: by name, by hex in several fields, by gfx; a generic name is nothing."""
    assert judge(rocm_smi_cards(text), RADEON) is agrees


def test_rocminfo_by_agents() -> None:
    """Three agents, and the second is the GPU; instruction sets do not overwrite its name."""
    agents = rocminfo_agents(recorded("gpu", "rocminfo_strix_halo.txt"))
    assert [(a.name, a.kind) for a in agents] == [(STRIX, "CPU"), ("gfx1151", "GPU"), ("aie2p", "DSP")]


def test_amdgpu_top_counts_its_decimal_id() -> None:
    """5510 is 0x1586; the same device named twice is one card."""
    cards = amdgpu_top_cards(recorded("gpu", "amdgpu_top_strix_halo.json"))
    assert [one.words() for one in cards] == ["Radeon 8060S Graphics, gfx1151, 0x1586"]
