"""What the user's own ssh would do for a node, asked from OpenSSH itself with `ssh -G`.

Include, Match, patterns and defaults are OpenSSH's business; its answer is lines of `option value`, whose paths may
still hold `~`, `%h` and `${NAME}`. What ssh refuses is passed on in its own words, which name the file and the line.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from paramiko import SSHConfig
from paramiko.ssh_exception import ConfigParseError

from records.settings import NodeSpec
from tasks.errors import StepError, UnreachableError

ASK_TIMEOUT_S = 20
"""`Match exec` may run anything, and CanonicalizeHostname asks name servers."""
_DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ed25519")
_NOT_FOLLOWED = {
    "pkcs11provider": "keys on a smart card",
    "knownhostscommand": "host keys from a command",
    "controlpath": "a shared connection",
    "proxyusefdpass": "a proxy that passes a socket",
    "verifyhostkeydns": "host keys from DNS",
    "hostbasedauthentication": "a login by the host's key",
    "tunnel": "a tunnel device",
}
"""Options of ssh that paramiko has nothing for, where they are set."""


class SshOptions(msgspec.Struct, frozen=True):
    """What a login to one machine needs to know of the user's ssh configuration."""

    name: str
    """As it was asked for: what `ssh` is given."""
    host: str
    port: int
    user: str
    known_as: str
    """The name in known_hosts: HostKeyAlias, `host`, or `[host]:port`."""
    known_hosts: tuple[str, ...]
    """The user's files; the first is added to. Empty where he keeps none (`none`, /dev/null)."""
    everybodys_known_hosts: tuple[str, ...]
    revoked_host_keys: str | None
    """A list of keys that no machine may show."""
    keys: tuple[str, ...]
    certificates: tuple[str, ...]
    only_these_keys: bool
    agent: str | None
    """The socket of the agent to ask; None for no agent."""
    jump: str | None
    proxy_command: str | None
    family: int
    bind_address: str | None
    connect_timeout_s: int | None
    not_followed: tuple[str, ...]
    """Options that are set and that this program cannot do as ssh does, for people."""


def options_of(key: str, spec: NodeSpec) -> SshOptions:
    """Return what ssh would do for a node of hosts.yaml, whose own settings come first. Raises UnreachableError."""
    given = ["-p", str(spec.port)] if spec.port else []
    given += ["-l", spec.user] if spec.user else []
    options = ask(key, spec.host.rstrip("."), given)
    changes: dict[str, object] = {}
    if spec.identity_file:
        if not Path(_home(spec.identity_file)).is_file():
            found, do = f"there is no key file {spec.identity_file}", f"set nodes.{key}.identity_file in hosts.yaml"
            raise UnreachableError(found, "the private key", do, who=key)
        changes |= {"keys": (_home(spec.identity_file),), "certificates": (), "only_these_keys": True}
    if spec.known_hosts:
        changes["known_hosts"] = (_home(spec.known_hosts),)
    return msgspec.structs.replace(options, **changes)


def hop_of(key: str, jump: str) -> SshOptions:
    """Return what ssh would do for the last machine of a ProxyJump list, which is reached through those before it."""
    before, _, last = jump.rpartition(",")
    match = re.fullmatch(r"(?:ssh://)?(?:(.*)@)?(\[[^]]*\]|[^:]*|[0-9A-Fa-f:]{2,})(?::(\d+))?/?", last.strip())
    if match is None:
        raise UnreachableError(
            f"ProxyJump names '{last}'", "[user@]host[:port]", f"ssh -v {key} shows what ssh makes of it", who=key
        )
    user, host, port = match.groups()
    given = ["-l", user] if user else []
    given += ["-p", port] if port else []
    given += ["-J", before] if before else []
    return ask(key, host.strip("[]"), given)


def ask(key: str, host: str, given: list[str]) -> SshOptions:
    """Ask `ssh -G` about `host`. Raises UnreachableError in ssh's own words where it refuses."""
    ssh = shutil.which("ssh")
    if ssh is None:
        return read_options(host, _without_ssh(host, given))
    try:
        # -N: who has ForkAfterAuthentication set, hears otherwise that there is no command to fork for.
        told = subprocess.run(
            [ssh, "-G", "-N", *given, "--", host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"`ssh -G {host}` does not end within {ASK_TIMEOUT_S} s"
        raise UnreachableError(found, "a configuration that ssh can read", f"ssh -v {host} true", who=key) from None
    if told.returncode:
        said = told.stderr.decode("utf-8", "replace").splitlines()
        words = "; ".join(line.strip() for line in said if line.strip())
        raise UnreachableError(
            f"ssh refuses its own configuration: {words}",
            "a configuration that the ssh of this machine can read",
            f"mend that line; ssh -G {host} must print the options",
            who=key,
        )
    return read_options(host, told.stdout.decode("utf-8", "surrogateescape"))


def read_options(name: str, printed: str) -> SshOptions:
    """Read what `ssh -G` printed: one `option value` a line, some options several times."""
    said: dict[str, list[str]] = {}
    for line in printed.splitlines():
        option, _, value = line.partition(" ")
        said.setdefault(option.lower(), []).append(value.strip())
    one = {option: values[0] for option, values in said.items()}
    host, user = one.get("hostname", name), one.get("user") or getpass.getuser()
    port = int(one.get("port", "22"))
    alias = one.get("hostkeyalias", "")
    letters = _letters(name, host, port, user, alias)
    paths = [expand(path, letters) for path in said.get("identityfile", []) if path != "none"]
    timeout = one.get("connecttimeout", "none")
    return SshOptions(
        name=name,
        host=host,
        port=port,
        user=user,
        known_as=(alias or (host if port == 22 else f"[{host}]:{port}")).lower(),
        known_hosts=_files(one.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"), letters),
        everybodys_known_hosts=_files(one.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts"), letters),
        revoked_host_keys=expand(revoked, letters) if (revoked := _set(one.get("revokedhostkeys"))) else None,
        keys=tuple(dict.fromkeys(paths)),
        certificates=tuple(expand(path, letters) for path in said.get("certificatefile", []) if path != "none"),
        only_these_keys=one.get("identitiesonly") == "yes",
        agent=_agent(one.get("identityagent", "SSH_AUTH_SOCK"), letters),
        jump=_set(one.get("proxyjump")),
        proxy_command=expand(one["proxycommand"], letters, path=False) if _set(one.get("proxycommand")) else None,
        family={"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(one.get("addressfamily", ""), socket.AF_UNSPEC),
        bind_address=_set(one.get("bindaddress")),
        connect_timeout_s=int(timeout) if timeout.isdigit() else None,
        not_followed=tuple(
            f"{option} ({words})"
            for option, words in _NOT_FOLLOWED.items()
            if one.get(option, "none") not in ("none", "no", "false")
        ),
    )


def expand(text: str, letters: Mapping[str, str], *, path: bool = True) -> str:
    """Put in what `%h`, `${NAME}` and, in a path, a leading `~` stand for; an unknown one stays as it is."""
    if path:
        text = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), text)
        text = _home(text)
    return re.sub(r"%(.)", lambda match: letters.get(match[1], match[0]), text)


def ssh_command(spec: NodeSpec) -> list[str]:
    """Return the words of the `ssh` call that logs in as hosts.yaml says."""
    given = ["-p", str(spec.port)] if spec.port else []
    given += ["-l", spec.user] if spec.user else []
    given += ["-i", spec.identity_file] if spec.identity_file else []
    return ["ssh", *given, spec.host, "true"]


def _letters(name: str, host: str, port: int, user: str, alias: str) -> dict[str, str]:
    """Return what each letter after a percent sign stands for (ssh_config(5), TOKENS)."""
    local = socket.gethostname()
    return {
        "%": "%",
        "d": _home("~"),
        "h": host,
        "i": str(os.getuid()),
        "k": alias or name,
        "L": local.split(".")[0],
        "l": local,
        "n": name,
        "p": str(port),
        "r": user,
        "u": getpass.getuser(),
    }


def _home(path: str) -> str:
    """Expand a leading `~` as ssh does: the home folder of the user database, whatever HOME says."""
    if path != "~" and not path.startswith("~/"):
        return str(Path(path).expanduser()) if path.startswith("~") else path
    try:
        return pwd.getpwuid(os.getuid()).pw_dir + path[1:]
    except KeyError:
        return str(Path(path).expanduser())


def _files(value: str, letters: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files in a list that ssh prints without quotes: a word that cannot begin a path belongs to the last.

    `none` and /dev/null are no file.
    """
    paths: list[str] = []
    for word in value.split(" "):
        if paths and not word.startswith(("/", "~", "%", "$")):
            paths[-1] += f" {word}"
        else:
            paths.append(word)
    return tuple(expand(path, letters) for path in paths if path not in ("none", os.devnull))


def _agent(value: str, letters: Mapping[str, str]) -> str | None:
    if value == "none":
        return None
    if value == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK")
    return os.environ.get(value[1:]) if re.fullmatch(r"\$\w+", value) else expand(value, letters)


def _set(value: str | None) -> str | None:
    return None if value in (None, "", "none") else value


def _without_ssh(host: str, given: list[str]) -> str:
    """Return what an `ssh -G` would print of the user's configuration, as far as paramiko can read it."""
    file = Path(_home("~/.ssh/config"))
    try:
        known: dict[str, Any] = dict(SSHConfig.from_path(str(file)).lookup(host)) if file.is_file() else {}
    except (ConfigParseError, UnicodeDecodeError, OSError) as error:
        needed = "OpenSSH's own ssh, which reads it (apt install openssh-client)"
        raise StepError(f"{file} cannot be read without ssh: {error}", needed, "install it") from error
    known = {"identityfile": [f"~/.ssh/{name}" for name in _DEFAULT_KEYS], **known}
    if "-p" in given:
        known["port"] = given[given.index("-p") + 1]
    if "-l" in given:
        known["user"] = given[given.index("-l") + 1]
    lines = [(option, value if isinstance(value, list) else [value]) for option, value in known.items()]
    return "\n".join(f"{option} {value}" for option, values in lines for value in values)
