"""Keep secrets of hosts.yaml out of records and off the screen."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from records.record import Record
from records.settings import Inventory
from tasks.decode import convert

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 4
"""Characters; a shorter value would blank out half of a log without hiding anything."""


def secrets_of(inventory: Inventory) -> list[str]:
    """Return the values in hosts.yaml that no log may show: by the name of their variable, or inside a URL."""
    secrets = []
    for profile in inventory.profiles.values():
        environments = [profile.exo.environment, *(node.environment for node in profile.exo.nodes.values())]
        secrets += [value for env in environments for key, value in env.items() if _SECRET_NAME.search(key)]
        secrets += re.findall(r"://[^/@\s]*?:?([^/:@\s]+)@", profile.exo.source)
    return [secret for secret in secrets if len(secret) >= _SHORTEST]


def without_secrets(record: Record, secrets: list[str]) -> Record:
    """Return `record` with every secret in any of its texts replaced by ***."""
    if not secrets:
        return record

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return masked(value, secrets)
        if isinstance(value, list):
            return [clean(v) for v in value]
        return {k: clean(v) for k, v in value.items()} if isinstance(value, dict) else value

    return convert(clean(msgspec.to_builtins(record)), Record)


def masked(text: str, secrets: list[str]) -> str:
    """Return `text` with every secret replaced by ***."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
