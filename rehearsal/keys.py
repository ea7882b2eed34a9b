"""SSH keys of a rehearsal: one for the user, one for each host, and the known_hosts that trusts these hosts alone."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rehearsal.layout import Layout


def write_keys(layout: Layout) -> None:
    """Write the user's key pair, the host keys and known_hosts."""
    new_key(layout.root / "id_ed25519")
    lines = []
    for node in layout.nodes():
        public = new_key(node.folder / "ssh_host_ed25519_key")
        lines.append(f"[{node.address}]:{node.ssh_port} {public}\n")
    (layout.root / "known_hosts").write_text("".join(lines))


def new_key(path: Path) -> str:
    """Write a new key to `path`, its public half to `path`.pub, and return that half."""
    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    path.with_name(f"{path.name}.pub").write_text(public + "\n")
    return public
