"""Keep secrets of hosts.yaml out of records and off the screen."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import unquote

import msgspec

from records.record import Record
from records.settings import Inventory
from tasks.decode import convert

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|CREDENTIAL|AUTHORIZATION", re.IGNORECASE)
_LOGIN = re.compile(r"[a-z][a-z0-9+.-]*://([^/@\s]+)@", re.IGNORECASE)
_QUERY = re.compile(r"[?&]([^=&#\s]+)=([^&#\s]+)")
_SHORTEST = 4
"""Characters; a shorter value would blank out half of a log without hiding anything."""


def secrets_of(inventory: Inventory) -> list[str]:
    """Return the values in hosts.yaml that no log may show, the longest first: by a name, or inside a URL."""
    secrets: set[str] = set()
    for profile in inventory.profiles.values():
        exo, own = profile.exo, profile.exo.nodes.values()
        for environment in (exo.environment, *(node.environment for node in own)):
            secrets |= {value for name, value in environment.items() if _SECRET_NAME.search(name)}
            secrets |= {secret for value in environment.values() for secret in _in_url(value)}
        texts = [exo.source, *exo.overrides, *exo.flags]
        texts += [text for node in own for text in (*node.overrides, *node.flags)]
        secrets |= {secret for text in texts for secret in _in_url(text)}
    return sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)


def secret_flags(flags: list[str]) -> list[str]:
    """Return those of EXO's start flags that give a secret: it would stand in the node's list of processes."""
    return [flag.partition("=")[0] for flag in flags if flag.startswith("-") and _SECRET_NAME.search(_as_name(flag))]


def secret_query(text: str) -> bool:
    """Tell whether a URL has a secret in its query, which reaches pip and git on a command line."""
    return any(_SECRET_NAME.search(_as_name(name)) for name, _ in _QUERY.findall(text))


def _as_name(flag: str) -> str:
    return flag.partition("=")[0].replace("-", "_")


def _in_url(text: str) -> set[str]:
    """Return the passwords in the URLs of `text`, as written, decoded, and as HTTP sends them."""
    found: set[str] = set()
    for login in _LOGIN.findall(text):
        user, colon, password = login.partition(":")
        if not colon and user in ("git", "ssh", "hg"):
            continue  # the name under which everybody clones
        basic = f"{unquote(user)}:{unquote(password)}".encode()
        found |= {password or user, unquote(password or user), base64.b64encode(basic).decode()}
    return found | {value for name, value in _QUERY.findall(text) if _SECRET_NAME.search(_as_name(name))}


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
