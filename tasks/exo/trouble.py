"""What a node's log or a reply says against one pair: the line, why it came to that, and what mends it.

The known failures of the engines are those of the compute probe (`tasks.exo.probe`), in one table; the rest is the
model hub. What a log says of other models concerns nobody here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from records.facts import ComputeFailure
from tasks.errors import StepError, all_of
from tasks.exo.interface import Generation
from tasks.exo.logtext import exo_said, without_blocks
from tasks.exo.probe import recognise
from tasks.machines.wire import Reply, message_of, shortened

_HUB = (
    (
        r"No space left|Disk quota",
        "room on the disk of every node for the whole model",
        "free some on {node}, or name another folder as EXO_HOME in exo.nodes.{node}.environment of hosts.yaml",
    ),
    (
        r"Permission denied|Read-only file system",
        "a folder that EXO may write to on every node ($EXO_HOME, else ~/.cache/exo)",
        "make it the user's own on {node} (an earlier start with sudo?), or name another one as EXO_HOME in"
        " exo.nodes.{node}.environment of hosts.yaml",
    ),
    (
        r": 40[13]$|\b40[13] Client Error",
        "a repository that may be read: this one wants a token of the hub, or is not there under that name",
        "put a token into ~/.cache/huggingface/token on every node (EXO reads it from there or from $HF_HOME/token), or"
        " the address of a mirror that needs none as HF_ENDPOINT into exo.environment of hosts.yaml",
    ),
    (
        r"CERTIFICATE_VERIFY|CertificateError|SSLCert",
        "a hub whose certificate {node} trusts; something between them may put in its own",
        "name the file with its certificate as SSL_CERT_FILE in exo.environment of hosts.yaml",
    ),
    (
        r"",
        "a model hub that every node reaches, even where the files are on its disk already",
        "on such a node: curl -sI ${HF_ENDPOINT:-https://huggingface.co}; EXO's downloads take no proxy: the address of"
        " a mirror goes as HF_ENDPOINT into exo.environment of hosts.yaml",
    ),
)
"""What a failed download says, what it needs, what to do; the last holds for any."""

_OF_THE_HUB = re.compile(
    r"Failed to (?:fetch file list|download \S+ from \S+): \d{3}|\d{3} Client Error|HfHubHTTPError|HTTPSConnectionPool"
    r"|(?:Gated|Offline|Repository\w*|LocalEntryNotFound)Error|Cannot connect to host|No content length for http"
    r"|We couldn't connect to|No space left|Disk quota|(?:denied|Read-only file system)\W+/\S*exo"
)
"""What a reply says of the hub, or of the folder for what comes from there: of EXO's own, aiohttp, requests."""
_FAILED = re.compile(r"^Error processing (?:tensor|prompt)\b.*$", re.MULTILINE)


def in_logs(logs: Mapping[str, str], generation: Generation, model: str) -> StepError | None:
    """Return what the nodes' logs (node -> what was written since `model` was asked for) say against it."""
    errors = [error for node, log in logs.items() if (error := _in_log(log, node, generation, model))]
    return all_of(errors) if errors else None


def in_reply(reply: Reply, node: str) -> StepError | None:
    """Return what is known of an error answer: without DEBUG, EXO 0.0.x writes its cause into no log."""
    said = message_of(reply.text)
    failure = recognise(said, node) if reply.status >= 400 else None
    if failure is None:
        return _of_the_hub(f"HTTP {reply.status}: {shortened(said)}", said, node) if reply.status >= 400 else None
    return StepError(
        f"HTTP {reply.status}: {shortened(said)}",
        f"another setting: {failure.cause}",
        failure.remedy,
        exo_said=exo_said(failure.said),
    )


def _in_log(log: str, node: str, generation: Generation, model: str) -> StepError | None:
    ours = generation.about_pair(log, model)
    if hub := generation.hub_problem(ours):
        return _hub_error(hub, hub, node).about(node)
    rest = without_blocks(ours, lambda line: line.startswith("Download error"))
    if failure := recognise(rest, node, in_log=True):
        return _told(failure, node)
    if failed := _FAILED.search(rest):
        if known := recognise(failed[0], node):
            return _told(known, node)
        return StepError(
            f"its log says: {shortened(failed[0])}",
            "a ring that can pass tokens on",
            "look at the traceback below that line in the node's EXO log",
            who=node,
            exo_said=exo_said(failed[0]),
        )
    return None


def _told(failure: ComputeFailure, node: str) -> StepError:
    return StepError(
        f"its log says: {failure.said}",
        f"a ring that can pass tokens on: {failure.cause}",
        f"{failure.remedy}; then: fab install start download-model",
        who=node,
        exo_said=exo_said(failure.said),
    )


def _of_the_hub(found: str, said: str, node: str) -> StepError | None:
    return _hub_error(found, said, node) if _OF_THE_HUB.search(said) else None


def _hub_error(found: str, said: str, node: str) -> StepError:
    needed, do = next((needed, do) for pattern, needed, do in _HUB if re.search(pattern, said))
    return StepError(
        found, needed.replace("{node}", node), f"{do}, then: fab start download-model".replace("{node}", node)
    )
