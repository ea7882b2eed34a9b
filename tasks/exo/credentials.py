"""Where EXO is installed from may carry a password; it reaches git, pip and uv without standing on a command line.

git takes a header from its environment (git-config, GIT_CONFIG_COUNT), pip and uv take a netrc file (NETRC).
"""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote

import msgspec

from records.settings import Exo

_LOGIN = re.compile(r"(?P<scheme>https?://)(?P<login>[^/@\s]+)@(?P<host>[^/\s:]+)(?P<port>:\d+)?")


class Credentials(msgspec.Struct, frozen=True):
    """The logins of an install's sources."""

    environment: dict[str, str] = {}
    """For git."""
    netrc: str = ""
    """For pip and uv: the content of a netrc file."""


def without_credentials(exo: Exo) -> tuple[Exo, Credentials]:
    """Return `exo` with every login taken out of its URLs, and the logins."""
    texts = [exo.source, *exo.overrides, *(text for node in exo.nodes.values() for text in node.overrides)]
    found = {match.groups(default=""): None for text in texts for match in _LOGIN.finditer(text)}
    if not found:
        return exo, Credentials()
    environment = {"GIT_CONFIG_COUNT": str(len(found))}
    netrc = []
    for number, (scheme, login, host, port) in enumerate(found):
        user, _, password = (unquote(part) for part in login.partition(":"))
        header = base64.b64encode(f"{user}:{password}".encode()).decode()
        environment[f"GIT_CONFIG_KEY_{number}"] = f"http.{scheme}{host}{port}/.extraHeader"
        environment[f"GIT_CONFIG_VALUE_{number}"] = f"Authorization: Basic {header}"
        netrc.append(f"machine {host} login {user} password {password or user}\n")
    nodes = {key: msgspec.structs.replace(node, overrides=_bare(node.overrides)) for key, node in exo.nodes.items()}
    bare = msgspec.structs.replace(exo, source=_bare([exo.source])[0], overrides=_bare(exo.overrides), nodes=nodes)
    return bare, Credentials(environment, "".join(netrc))


def _bare(texts: list[str]) -> list[str]:
    return [_LOGIN.sub(r"\g<scheme>\g<host>\g<port>", text) for text in texts]
