"""The GPU tools' output in all the forms that their versions give it, as cards with names and ids.

rocm-smi prints text (`GPU[0] : Card series: ...`, `Card Series`, `Device Name`), JSON or CSV; the same field holds a
name in one version and a hex id in the next (`Card model` is the device's id or its subsystem's); a warning may come
first. What was recorded lies in tests/data/gpu.
"""

from __future__ import annotations

import csv
import json
import re
from typing import Any

import msgspec

from records.settings import Gpu

_GENERIC = re.compile(
    r"(advanced micro devices,? inc\.?|amd(/ati)?|\[|\]|radeon|graphics|gpu|n/?a|unknown|none|device|tm|\(|\))+",
    re.IGNORECASE,
)

_PROCESSOR = re.compile(r"\b(ryzen|epyc|threadripper|xeon)\b", re.IGNORECASE)
"""A processor's name may end in that of its GPU."""


class Card(msgspec.Struct, frozen=True):
    """One GPU as one tool describes it; what it does not tell is ""."""

    name: str = ""
    gfx: str = ""
    ids: tuple[str, ...] = ()
    """What may be its PCI device, each four hex digits: `1586`."""

    def words(self) -> str:
        """Return all that was told."""
        numbers = " ".join(f"0x{number}" for number in self.ids)
        return ", ".join(part for part in (self.name, self.gfx, numbers) if part) or "a GPU without a name"


class Agent(msgspec.Struct, frozen=True):
    """One agent of rocminfo: a processor, a GPU or an NPU."""

    name: str
    marketing: str
    kind: str
    """`CPU`, `GPU` or `DSP`."""


def judge(cards: list[Card], gpu: Gpu) -> bool | None:
    """Tell whether one of `cards` is `gpu`: True, False where all are others, None where none says which it is."""
    verdicts = [_is(card, gpu) for card in cards]
    return True if True in verdicts else False if False in verdicts else None


def rocm_smi_cards(text: str) -> list[Card]:
    """Read `rocm-smi --showproductname` in JSON, text or CSV; empty where it names no card."""
    tables = _json_tables(text) or _text_tables(text) or _csv_tables(text)
    return [_card(table) for table in tables]


def amdgpu_top_cards(text: str) -> list[Card]:
    """Read amdgpu_top's JSON of any version: every object that has a DeviceID (a number) and a DeviceName."""
    cards: dict[tuple[str, str], Card] = {}
    for node in _objects(_first_json(text)):
        number = node.get("DeviceID")
        if isinstance(number, int) and 0 < number < 0x10000:
            gfx = re.search(r"gfx[0-9a-f]+", str(node.get("ASIC Name", "")), re.IGNORECASE)
            card = Card(str(node.get("DeviceName", "")), gfx.group(0).lower() if gfx else "", (f"{number:04x}",))
            cards.setdefault((card.ids[0], card.name), card)
    return list(cards.values())


def amd_smi_cards(text: str) -> list[Card]:
    """Read `amd-smi static --asic --json` of any version; a field that it calls N/A tells nothing."""
    cards = []
    for node in _objects(_first_json(text)):
        told = {key: str(node.get(key, "")) for key in ("market_name", "device_id", "target_graphics_version")}
        if not any(told.values()):
            continue
        number = re.fullmatch(r"0[xX]([0-9a-fA-F]{1,4})", told["device_id"])
        name = told["market_name"] if _tells_a_name(told["market_name"]) else ""
        gfx = told["target_graphics_version"].lower()
        ids = (number.group(1).lower().zfill(4),) if number else ()
        cards.append(Card(name, gfx if gfx.startswith("gfx") else "", ids))
    return cards


def rocminfo_agents(text: str) -> list[Agent]:
    """Read rocminfo; the first `Name:` after `Agent N` is the agent's, later ones are its instruction sets."""
    agents = []
    for part in re.split(r"^\s*Agent \d+\s*$", text, flags=re.MULTILINE)[1:]:
        fields: dict[str, str] = {}
        for key, value in re.findall(r"^[ \t]*([A-Za-z ]+?):[ \t]*(.*?)[ \t]*$", part, re.MULTILINE):
            fields.setdefault(key, value)
        agents.append(Agent(fields.get("Name", ""), fields.get("Marketing Name", ""), fields.get("Device Type", "")))
    return [agent for agent in agents if agent.kind]


def _is(card: Card, gpu: Gpu) -> bool | None:
    name = "" if _PROCESSOR.search(card.name) else card.name
    if (
        gpu.pci_id.partition(":")[2] in card.ids
        or card.gfx == gpu.gfx
        or (gpu.name and gpu.name.lower() in name.lower())
    ):
        return True
    if card.ids or card.gfx or _tells_a_name(name):
        return False
    return None


def _tells_a_name(name: str) -> bool:
    """Tell whether a name says which GPU it is; "AMD Radeon Graphics" and "N/A" do not."""
    return bool(_GENERIC.sub("", name).strip(" ,.-/"))


def _card(table: dict[str, str]) -> Card:
    """Read one card's fields; any of them may hold a name, a hex id or N/A, whatever it is called."""
    lower = {key.strip().lower(): value.strip() for key, value in table.items()}
    values = [lower.get(key, "") for key in ("device id", "card series", "device name", "card model")]
    ids = [value[2:].lower().zfill(4) for value in values if re.fullmatch(r"0[xX][0-9a-fA-F]{1,4}", value)]
    names = [value for value in values[1:] if value and not value.lower().startswith("0x")]
    named = next((name for name in names if _tells_a_name(name)), names[0] if names else "")
    gfx = lower.get("gfx version", "").lower()
    return Card(named, gfx if gfx.startswith("gfx") else "", tuple(dict.fromkeys(ids)))


def _json_tables(text: str) -> list[dict[str, str]]:
    whole = _first_json(text)
    if not isinstance(whole, dict):
        return []
    cards = {key: value for key, value in whole.items() if key.lower().startswith("card") and isinstance(value, dict)}
    return [{str(k): str(v) for k, v in card.items()} for card in cards.values()]


def _text_tables(text: str) -> list[dict[str, str]]:
    cards: dict[str, dict[str, str]] = {}
    for number, key, value in re.findall(r"^GPU\[(\d+)\][ \t]*:[ \t]*([^:\n]+):[ \t]*(.*)$", text, re.MULTILINE):
        cards.setdefault(number, {})[key] = value
    return list(cards.values())


def _csv_tables(text: str) -> list[dict[str, str]]:
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.lower().startswith("device,")), None)
    if start is None:
        return []
    try:
        rows = list(csv.DictReader(lines[start:], restkey="more", restval=""))
    except csv.Error:
        return []
    return [
        {key: value for key, value in row.items() if isinstance(value, str)}
        for row in rows
        if str(row.get("device") or row.get("Device") or "").startswith("card")
    ]


def _first_json(text: str) -> Any:
    """Return the first JSON object or array in `text`, which may follow warnings; None where there is none."""
    decoder = json.JSONDecoder()
    for match in list(re.finditer(r"^\s*[\[{]", text, re.MULTILINE))[:20]:
        try:
            return decoder.raw_decode(text, match.end() - 1)[0]
        except (ValueError, RecursionError):
            continue
    return None


def _objects(tree: Any) -> list[dict[str, Any]]:
    """Return every object in a JSON tree, the outer ones first; not deeper than eight levels."""
    objects: list[dict[str, Any]] = []
    level = [tree]
    for _ in range(8):
        following: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                objects.append(node)
                following += node.values()
            elif isinstance(node, list):
                following += node
        level = following
    return objects
