"""Getting a model onto the nodes of EXO 0.0.x, which keeps no record of a failed download.

`POST /download` fetches the whole model to the one node that is asked. It is asked of every node. Left to the first
chat, each node would fetch only the files its layers need; but those files are large (the split saved a third to a
half of the bytes in `download_via_api_tinygrad.txt`), the fetch would hide inside one request with EXO's limit of
900 s, and any change of the split (a GPU that was not found, say) would start another one amid the benchmark.
So the disk of each node pays for one full copy, and the download can be watched, timed and repeated.

`GET /v1/download/progress` lists a node only while it downloads: nothing there means done, never begun, or failed. What
was seen is therefore told in words, a download whose bytes stand still is refused, and the proof is the chat that the
caller sends next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from records.settings import ModelPair
from reports.text.format import size
from tasks.errors import StepError
from tasks.exo.interface import Prepared
from tasks.exo.logtext import without_blocks, without_escapes
from tasks.exo.models import LINUX_0, REPOSITORIES_0, plain_id
from tasks.machines.wire import Flow, Reply, Request, Wait, ask, message_of, read_json, read_reply, shortened

_POLL_S = 1.0
_APPEARS_S = 6.0
"""How long a download may take to show up in the progress before it counts as having nothing to fetch."""
_GONE_POLLS = 2
_DOWNLOAD_ERROR = re.compile(
    r"^Download error on attempt (?P<attempt>\d+)/\d+ for repo_id='(?P<repo>[^']*)' .*?path='(?P<path>[^']*)'",
    re.MULTILINE,
)
_SHARD = re.compile(r"^Error processing \w+ for shard Shard\(model_id='([^']*)'")
_CAUSE = re.compile(r"^(?:\w+\.)*((?:Client|SSL)\w+|\w*(?:Error|Exception)):? ?(.*)$", re.MULTILINE)
_BY_CHANCE = 3
"""Attempts, counted from 0, that may fail without being a finding: after 0.1, 0.2 and 0.4 s EXO asks again."""
_LOADED = "loaded weights"
_STALLED_S = 180.0
"""No byte for this long means failed: EXO leaves a broken download in the progress for ever."""


def make_ready(pair: ModelPair, peers: Sequence[str], entry: str, timeout_s: float) -> Flow[Prepared]:
    """Download the model of `pair` to every node of `peers` and watch it; returns Prepared. Raises StepError."""
    del entry  # every node is asked alike
    for node in peers:
        reply = yield from ask(node, Request("GET", "/initial_models"))
        _knows(node, reply, pair.exo)
    without_download: dict[str, str] = {}
    for node in peers:
        reply = yield from ask(node, Request("POST", "/download", {"model": pair.exo}, timeout_s=30))
        if _starts(node, reply, pair.exo):
            continue
        without_download[node] = "nothing to download: the dummy engine has no weights"
    watched = {node: _Watch() for node in peers if node not in without_download}
    waited_s = 0.0
    while pending := [node for node, watch in watched.items() if not watch.over(waited_s)]:
        if waited_s >= timeout_s:
            raise _too_slow(pair.exo, {node: watched[node] for node in pending}, timeout_s)
        yield Wait(_POLL_S, ", ".join(f"{node} {watched[node].progress()}" for node in pending))
        waited_s += _POLL_S
        for node in pending:
            reply = yield from ask(node, Request("GET", "/v1/download/progress", timeout_s=15))
            watched[node].note(reply, node, waited_s)
    silent = [node for node, watch in watched.items() if watch.last is None]
    return Prepared({node: without_download.get(node) or watched[node].outcome() for node in peers}, silent)


def about_pair(log: str, model: str) -> str:
    """Return `log` without what it says of other models: a dashboard that somebody has open asks for all of them."""
    repository = REPOSITORIES_0.get(plain_id(model))

    def of_another(line: str) -> bool:
        fetched, shard = _DOWNLOAD_ERROR.match(line), _SHARD.search(line)
        return bool((fetched and repository and fetched["repo"] != repository) or (shard and shard[1] != model))

    return without_blocks(without_escapes(log), of_another)


def hub_problem(log: str) -> str:
    """Return why a node cannot reach the model hub, where its log says so; "" where it does not.

    EXO asks the hub for its list of files even where every file is on the disk (it keeps the list in /tmp, which a
    reboot empties). Without the hub it tries 30 times, 4 minutes a file, and nothing but this log tells: no progress,
    no answer to the chat. Where weights were loaded after the last failure, the hub was reached in the end.
    """
    last = next(reversed(list(_DOWNLOAD_ERROR.finditer(log))), None)
    if last is None or int(last["attempt"]) < _BY_CHANCE or _LOADED in log[last.end() :]:
        return ""
    cause = _CAUSE.search(log, last.end())
    said = shortened(cause[2] or cause[1]) if cause else "its log says no more"
    tries = int(last["attempt"]) + 1
    return f"cannot fetch {last['path']} of {last['repo']} from the model hub ({tries} tries): {said}"


def unload(pair: ModelPair, peers: Sequence[str], entry: str, timeout_s: float) -> Flow[Prepared]:
    """Return at once: there is no way to unload a model from EXO 0.0.x but to end it."""
    del pair, entry, timeout_s
    return Prepared(dict.fromkeys(peers, "stays loaded until EXO ends"))
    yield Wait(0)  # makes this a generator; never reached


def does_not_run(model: str, found: str, known: str, exo_said: str = "") -> StepError:
    """Return the refusal of a model that the engine of these nodes cannot run, with those that it can."""
    return StepError(
        found,
        f"a model that runs on this engine: {known}",
        f"put one of these ids into models.*.exo of the profile in hosts.yaml instead of '{model}', or take the 1.x"
        " profile (no Qwen of any size runs on EXO 0.0.x under Linux)",
        exo_said=exo_said,
    )


class _Progress(msgspec.Struct, frozen=True):
    downloaded_bytes: float = 0
    total_bytes: float = 0
    completed_files: int = 0
    total_files: int = 0


class _Watch:
    """What was seen of one node's download so far."""

    def __init__(self) -> None:
        self.last: _Progress | None = None
        self.moved_s = 0.0
        self.absent = 0

    def note(self, reply: Reply, node: str, now_s: float) -> None:
        """Take in one answer of the node's progress. Raises StepError where the download stands still."""
        if reply.status == 0:
            self.absent = 0  # busy; silence says nothing about the download
        else:
            every = read_reply(reply, dict[str, _Progress], f"the download progress of {node}")
            self._see(every.get(node), now_s)
        if self.last is not None and not self.absent and now_s - self.moved_s >= _STALLED_S:
            raise StepError(
                f"the download stands still at {self.progress()} for {_STALLED_S:.0f} s",
                "a download that moves",
                f"look at the EXO log of {node} and at its disk and way to the model hub, then: fab download-model",
                who=node,
            )

    def _see(self, found: _Progress | None, now_s: float) -> None:
        if found is None:
            self.absent += 1
            return
        if self.last is None or found.downloaded_bytes != self.last.downloaded_bytes:
            self.moved_s = now_s
        self.last, self.absent = found, 0

    def over(self, now_s: float) -> bool:
        """Tell whether the node shows no download any more, or never showed one."""
        return self.absent >= _GONE_POLLS and (self.last is not None or now_s >= _APPEARS_S)

    def progress(self) -> str:
        """Return how far it is: `34 %`."""
        if self.last is None:
            return "asks the hub"
        return f"{100 * self.last.downloaded_bytes / self.last.total_bytes:.0f} %" if self.last.total_bytes else "0 %"

    def outcome(self) -> str:
        """Return what is known in the end, and no more than that."""
        if self.last is None:
            return "showed no download: the model was there already, or the hub could not be asked"
        whole = size(self.last.total_bytes)
        return f"{whole} in {self.last.total_files} files, downloaded in full or to its last file"


def _knows(node: str, reply: Reply, model: str) -> None:
    """Refuse a model that is not among those the node's engine supports: the keys of `GET /initial_models`."""
    if reply.status == 404:
        return  # a neighbour of 0.0.15 without this request; POST /download will say
    known = read_reply(reply, dict[str, object], f"the models of {node}")
    if model not in known:
        raise does_not_run(model, f"its engine does not offer '{model}'", ", ".join(known)).about(node)


def _starts(node: str, reply: Reply, model: str) -> bool:
    """Tell whether a download began; False on the dummy engine. Raises StepError."""
    if reply.status == 200:
        read_json(reply.text, dict[str, object], "the answer to POST /download")
        return True
    message = message_of(reply.text)
    if "DummyInferenceEngine" in message and "shard_downloader" in message:
        return False
    if message.startswith("Invalid model:"):
        raise does_not_run(model, f"EXO does not know a model '{model}'", ", ".join(LINUX_0)).about(node)
    if message.startswith("Could not build shard"):
        found = f"EXO lists '{model}', but only for Apple's MLX: {shortened(message)}"
        raise does_not_run(model, found, ", ".join(LINUX_0), message).about(node)
    raise StepError(
        f"the download was refused: {reply.words}",
        "HTTP 200",
        f"look at the EXO log of {node}",
        who=node,
    )


def _too_slow(model: str, pending: dict[str, _Watch], timeout_s: float) -> StepError:
    where = ", ".join(f"{node} {watch.progress()}" for node, watch in pending.items())
    return StepError(
        f"'{model}' is not downloaded after {timeout_s:.0f} s: {where}",
        "the whole model on every node",
        "type it again, it goes on where it stopped; exo.download_timeout_s in hosts.yaml gives it more time",
    )
