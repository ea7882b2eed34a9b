"""What a mistake in hosts.yaml probably means, and on which line it is: `prot: did you mean port?`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from records.settings import Inventory

_PLURALS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_UNIT_S = {"s": 1, "m": 60, "min": 60, "h": 3600}


def located(mistake: str, lines: dict[str, int]) -> str:
    """Return a mistake with the line of the deepest part of its key path that the file has."""
    path = mistake.partition(": ")[0]
    while path not in lines:
        shorter = re.sub(r"(\.[^.\[\]]*|\[[^\]]*\])$", "", path)
        if shorter == path:
            return mistake
        path = shorter
    return f"line {lines[path]}: {mistake}"


def unknown_keys(raw: Any, kind: msgspec.inspect.Type | None = None, path: str = "") -> Iterator[str]:
    """Yield one line for every key of `raw` that hosts.yaml has no such place for, with the one that was meant."""
    kind = msgspec.inspect.type_info(Inventory) if kind is None else kind
    if isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from unknown_keys(raw, one, path)
    elif isinstance(kind, msgspec.inspect.StructType) and isinstance(raw, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        for key, value in raw.items():
            below = f"{path}.{key}" if path else str(key)
            if key in fields:
                yield from unknown_keys(value, fields[key], below)
                continue
            meant = difflib.get_close_matches(str(key), fields, 1, 0.6)
            known = f"did you mean {meant[0]}?" if meant else f"known here: {', '.join(fields)}"
            yield f"{below}: there is no such key; {known}"
    elif isinstance(kind, msgspec.inspect.DictType) and isinstance(raw, dict):
        for key, value in raw.items():
            pattern = getattr(kind.key_type, "pattern", None)
            if pattern and not re.search(pattern, str(key)):
                yield f"{path}.{key}: a name has small letters, digits and -, and begins with a letter"
            yield from unknown_keys(value, kind.value_type, f"{path}.{key}")


def named(raw: Any, path: str, kind: msgspec.inspect.Type | None = None) -> str:
    """Return `path` with the names of the entries at fault, where msgspec only says `nodes[...].port`."""
    kind = msgspec.inspect.type_info(Inventory) if kind is None else kind
    if isinstance(kind, msgspec.inspect.UnionType):
        kind = next((one for one in kind.types if isinstance(one, (*_NESTED,))), kind)
    if isinstance(kind, msgspec.inspect.DictType) and path.startswith("[...]") and isinstance(raw, dict):
        for key, value in raw.items():
            if not _fits(value, kind.value_type):
                return f".{key}{named(value, path.removeprefix('[...]'), kind.value_type)}"
    head, rest = re.fullmatch(r"(\.?[^.\[]*)(.*)", path, re.DOTALL).groups()  # type: ignore[union-attr]
    if isinstance(kind, msgspec.inspect.StructType) and isinstance(raw, dict) and head:
        fields = {field.encode_name: field.type for field in kind.fields}
        key = head.removeprefix(".")
        return f"{head}{named(raw.get(key), rest, fields[key])}" if key in fields else path
    return path


_NESTED = (msgspec.inspect.StructType, msgspec.inspect.DictType)


def _fits(value: Any, kind: msgspec.inspect.Type) -> bool:
    wanted = kind.cls if isinstance(kind, msgspec.inspect.StructType) else str
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return False
    return True


def value_at(raw: Any, path: str) -> Any:
    """Return what stands at a key path of the file; None where there is nothing."""
    for key in re.findall(r"[^.\[\]]+", path):
        if isinstance(raw, dict):
            raw = raw.get(key)
        elif isinstance(raw, list) and key.isdecimal() and int(key) < len(raw):
            raw = raw[int(key)]
        else:
            return None
    return raw


def hint(path: str, value: Any) -> str:
    """Return how to write what a value of the wrong kind was probably meant to say; "" where that is not clear."""
    key, text = path.rpartition(".")[2], str(value).strip()
    share = re.fullmatch(r"\+?(\d+(?:\.\d+)?) ?%", text)
    if key == "target_ratio" and (share or isinstance(value, (int, float))):
        return ratio_hint(float(share[1]) if share else float(value))
    if share or (key in ("confidence", "failed_fraction") and isinstance(value, (int, float)) and 1 <= value <= 100):
        return f"a fraction: {float(share[1] if share else value) / 100:g}"
    if re.fullmatch(r"\d+", text) and isinstance(value, str):
        return f"a number, without quotes: {text}"
    amount = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]i?)B?", text, re.IGNORECASE)
    if key.endswith("_bytes") and amount:
        return f"a number of bytes: {round(float(amount[1]) * _PLURALS[amount[2].upper()])}"
    lasting = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|m|min|h)", text)
    if key.endswith("_s") and lasting:
        return f"a number of seconds: {float(lasting[1]) * _UNIT_S[lasting[2]]:g}"
    if key == "url" and re.fullmatch(r"[A-Za-z0-9.\-]+(:\d+)?/?", text):
        return f"http://{text.rstrip('/')}{'' if ':' in text else ':11434'}"
    return ""


def ratio_hint(number: float) -> str:
    """Return the ratio that a percentage means: 30 (% faster) is 1.30."""
    return f"a ratio: {1 + number / 100:.2f} means {number:g} % faster"
