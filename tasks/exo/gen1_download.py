"""Getting a model's card and files onto the nodes of EXO 1.x; every node fetches the whole repository.

`GET /state` lists every known model on every node as DownloadPending, Ongoing, Completed or Failed, with the metadata
that `POST /download/start` wants back. A card that was just added is not listed yet; then a placement preview tells.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from reports.text.format import size
from tasks.errors import StepError
from tasks.exo.gen1_state import Assignments, State, Tagged, download_of, shard_of
from tasks.exo.patience import Patience
from tasks.machines.wire import Flow, Request, ask, message_of, read_reply, shortened

HUB_TIMEOUT_S = 90
"""EXO retries an unreachable hub for about 22 s before it answers."""
_STALLED_S = 180.0


def state_at(entry: str) -> Flow[State]:
    """Ask `entry` for the whole state. Raises StepError."""
    reply = yield from ask(entry, Request("GET", "/state", timeout_s=30))
    try:
        return read_reply(reply, State, "EXO's state")
    except StepError as error:
        raise error.about(entry) from None


class _Listed(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: list[_Listed] = []


def add_card(model: str, entry: str) -> Flow[None]:
    """Have EXO make a card for a model it has none for; that asks the hub."""
    reply = yield from ask(entry, Request("GET", "/v1/models", timeout_s=30))
    if any(card.id == model for card in read_reply(reply, _Models, "EXO's list of models").data):
        return
    reply = yield from ask(entry, Request("POST", "/models/add", {"model_id": model}, HUB_TIMEOUT_S))
    if reply.status != 200:
        raise StepError(
            f"EXO has no card for '{model}' and cannot add one: {shortened(message_of(reply.text)) or reply.status}",
            "a model with a card, or one that the model hub has and this node can reach",
            f"is '{model}' spelled as on the hub, does {entry} reach it? without the hub only EXO's own cards"
            " (GET /v1/models) work",
        )


def download(model: str, ids: dict[str, str], entry: str, patience: Patience) -> Flow[dict[str, str]]:
    """Start the download where it is not complete, and follow it; returns what is where, in words."""
    state = yield from state_at(entry)
    lacking = {node: key for node, key in ids.items() if download_of(state, key, model)[0] != "DownloadCompleted"}
    if lacking:
        shard = shard_of(state, model)
        if shard is None:
            shard = yield from _previewed_shard(model, entry)
        for key in lacking.values():
            body = {"targetNodeId": key, "shardMetadata": shard}
            reply = yield from ask(entry, Request("POST", "/download/start", body, timeout_s=30))
            if reply.status != 200:
                raise StepError(f"a download was refused: {reply.words}", "HTTP 200", f"look at the EXO log of {entry}")
    moved: dict[str, tuple[float, float]] = {}
    while True:
        states = {node: _download_words(state, node, key, model, moved, patience) for node, key in ids.items()}
        if all(done for done, _ in states.values()):
            return {node: words for node, (_, words) in states.items()}
        progress = ", ".join(f"{node} {words}" for node, (done, words) in states.items() if not done)
        yield from patience.wait(progress, f"'{model}' downloaded on every node")
        state = yield from state_at(entry)


def _download_words(
    state: State, node: str, key: str, model: str, moved: dict[str, tuple[float, float]], patience: Patience
) -> tuple[bool, str]:
    """Return whether the model is on the node, and how far it is. Raises StepError where it failed or stands still."""
    name, download = download_of(state, key, model)
    if name == "DownloadCompleted":
        return True, f"{size(download.total.in_bytes)}, complete"
    if name == "DownloadFailed":
        raise StepError(
            f"the download failed: {shortened(download.error_message)}",
            f"'{model}' on every node",
            f"look at the disk of {node} and its way to the model hub, then: fab download-model",
            who=node,
        )
    done, whole = download.download_progress.downloaded.in_bytes, download.download_progress.total.in_bytes
    if moved.get(node, (-1.0, 0.0))[0] != done:
        moved[node] = (done, patience.waited_s)
    elif patience.waited_s - moved[node][1] >= _STALLED_S:
        raise StepError(
            f"the download stands still at {size(done)} of {size(whole)} for {_STALLED_S:.0f} s",
            "a download that moves",
            f"look at the EXO log of {node}, its disk and its way to the model hub, then: fab download-model",
            who=node,
        )
    return False, f"{100 * done / whole:.0f} %" if whole else "waits for its download"


class _Preview(msgspec.Struct, frozen=True):
    instance: dict[str, _Placed] | None = None
    error: str | None = None


class _Placed(msgspec.Struct, frozen=True, rename="camel"):
    shard_assignments: Assignments = Assignments()


class _Previews(msgspec.Struct, frozen=True):
    previews: list[_Preview] = []


def _previewed_shard(model: str, entry: str) -> Flow[Tagged]:
    """Get a fresh card's metadata from a placement that EXO would make; nothing else tells it."""
    path = f"/instance/previews?model_id={quote(model, safe='')}"
    reply = yield from ask(entry, Request("GET", path, timeout_s=HUB_TIMEOUT_S))
    previews = read_reply(reply, _Previews, f"the placements of '{model}'").previews
    for preview in previews:
        for placed in (preview.instance or {}).values():
            for shard in placed.shard_assignments.runner_to_shard.values():
                if isinstance(shard, dict):
                    return shard
    reasons = "; ".join(dict.fromkeys(p.error for p in previews if p.error)) or "it names none"
    raise StepError(
        f"EXO sees no way to place '{model}': {shortened(reasons)}",
        "memory for the model on the nodes together",
        "take a smaller model, or free memory on the nodes (an Ollama model may be loaded)",
        exo_said=reasons,
    )
