"""Which host keys a machine may show: known_hosts as sshd(8) describes it, read line by line.

paramiko's reader stops at a tab or a byte that is not UTF-8, and knows neither patterns nor several keys of one kind.
A line that cannot be read is no key of anybody, as for ssh itself.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

_MARKERS = (b"", b"@revoked", b"@cert-authority")


class KnownKey(msgspec.Struct, frozen=True):
    """One line of a known_hosts file that speaks of a name."""

    file: str
    line: int
    marker: str
    """`@revoked`, `@cert-authority`, or nothing."""
    kind: str
    key: bytes

    @property
    def revoked(self) -> bool:
        """Whether the line says that nobody may show this key."""
        return self.marker == "@revoked"


class UnreadableFileError(Exception):
    """A known_hosts file that is there and cannot be read."""


def known_keys(files: Iterable[str], name: str) -> list[KnownKey]:
    """Return the keys that `files` name for `name`; a file that is missing names none. Raises UnreadableFileError."""
    return [key for file in files for key in _keys_in(file, name)]


def fingerprint(key: bytes) -> str:
    """Return the SHA-256 of a public key, as `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def revokes(file: str, kind: str, key: bytes) -> bool:
    """Tell whether a list for ssh's RevokedHostKeys names a key: public keys line by line, or ssh-keygen's own form.

    Raises UnreadableFileError, also where the list is not there: ssh then takes every key for revoked.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise UnreadableFileError(f"{file}: {error.strerror}") from error
    text = base64.b64encode(key)
    if not data.startswith(b"SSHKRL"):
        return any(text in line.split() for line in data.split(b"\n") if not line.startswith(b"#"))
    with tempfile.NamedTemporaryFile(suffix=".pub") as public:
        public.write(kind.encode() + b" " + text + b"\n")
        public.flush()
        try:
            asked = subprocess.run(["ssh-keygen", "-Q", "-f", file, public.name], capture_output=True, check=False)
        except OSError as error:
            raise UnreadableFileError(f"{file}: only ssh-keygen can read it: {error.strerror}") from error
    return asked.returncode != 0


def _keys_in(file: str, name: str) -> Iterator[KnownKey]:
    try:
        lines = Path(file).read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UnreadableFileError(f"{file}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith(b"@") else b""
        if len(words) < 3 or words[0].startswith(b"#") or marker not in _MARKERS:
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
        except binascii.Error:
            continue
        if _speaks_of(words[0].decode("utf-8", "replace"), name):
            yield KnownKey(file, number, marker.decode(), words[1].decode("utf-8", "replace"), key)


def _speaks_of(names: str, name: str) -> bool:
    """Tell whether a line's first word means `name`: hashed, or patterns of which none with `!` may match."""
    if names.startswith("|1|"):
        salt, _, digest = names[3:].partition("|")
        try:
            mine = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
            return hmac.compare_digest(mine, base64.b64decode(digest))
        except binascii.Error:
            return False
    met = False
    for pattern in names.lower().split(","):
        plain = pattern.removeprefix("!").replace("[", "[[]")  # only `*` and `?` mean something here
        if fnmatch.fnmatchcase(name, plain):
            if pattern.startswith("!"):
                return False
            met = True
    return met
