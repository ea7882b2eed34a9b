"""Which program an `exo` really is, from what it answers to `--help`; no other question tells.

`exo --version` exits 2 on both real generations and 0 on the wrong one. Three programs are called `exo`: exo-explore's,
the "Yeast Epigenome Project" tools that `pip install exo` brings (PyPI `exo` 0.1.2), and Exoscale's cloud CLI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from records.plan import command_for
from tasks.errors import StepError, one_each
from tasks.machines.wire import shortened

Kind = Literal["0.0.x", "1.x", "1.x-head", "yeast", "exoscale", "unknown", "missing"]

_WHO = {
    "yeast": "the Yeast Epigenome Project's tools (PyPI package `exo`), not exo-explore's EXO",
    "exoscale": "Exoscale's cloud command line, not exo-explore's EXO",
    "0.0.x": "EXO 0.0.x",
    "1.x": "EXO 1.x",
    "1.x-head": "EXO from a commit after 1.0.71 (zenoh networking, no --libp2p-port)",
    "missing": "no program",
}


class Identity(msgspec.Struct, frozen=True):
    """Who answered. `words` is for people: what it is, or what it said."""

    kind: Kind
    words: str


def identify(help_text: str, exit_code: int) -> Identity:
    """Read both streams of `exo --help`; exit codes 126 and 127 are the shell's "cannot run", "not found"."""
    text = help_text.lower()
    if "--chatgpt-api-port" in text:
        return _known("0.0.x")
    if "--api-port" in text and "--libp2p-port" in text:
        return _known("1.x")
    if "--api-port" in text and ("--zenoh-port" in text or "--bootstrap-peers" in text):
        return _known("1.x-head")
    if "yeast epigenome" in text or ("tagpileup" in text and "makeheatmap" in text):
        return _known("yeast")
    if "exoscale" in text:
        return _known("exoscale")
    if exit_code in (126, 127) or "command not found" in text or "no such file or directory" in text:
        return _known("missing")
    last = shortened((help_text.strip().splitlines() or ["nothing"])[-1], 160)
    return Identity("unknown", f"an unknown program; it exits {exit_code} and says: {last}")


def check(identity: Identity, generation: str, node: str, executable: str) -> None:
    """Raise StepError, with the name of what was found, where `identity` is not of `generation` (`0.0.x` or `1.x`)."""
    if identity.kind == generation or (identity.kind == "1.x-head" and generation == "1.x"):
        return
    found = f"{executable} is {identity.words}"
    if identity.kind == "missing":
        found = f"there is no {executable}"
    elif identity.kind in ("0.0.x", "1.x", "1.x-head"):
        raise StepError(
            found,
            f"EXO {generation}, as exo.release in hosts.yaml says",
            "make exo.release and exo.source of the profile name the same release, then install again",
        )
    raise StepError(found, f"exo-explore's EXO {generation}", command_for("install", node))


def foreign(identity: Identity, path: str) -> str:
    """Return a warning about an `exo` on a node's PATH that is not the one of our venv, "" where it is harmless."""
    if identity.kind == "missing":
        return ""
    return f"the `exo` on the PATH, {path}, is {identity.words}; left alone, but a command typed without a path gets it"


def same_revision(revisions: Mapping[str, str]) -> None:
    """Raise StepError where `revisions` (node -> commit or digest) are not all the same."""
    if len(set(revisions.values())) <= 1:
        return
    raise one_each(
        {node: f"has EXO at {revision[:12]}" for node, revision in revisions.items()},
        "one revision of EXO on all nodes",
        "give exo.source a tag instead of a branch (or the same folder everywhere), then: fab install",
    )


def _known(kind: Kind) -> Identity:
    return Identity(kind, _WHO[kind])
