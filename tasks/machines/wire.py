"""What is asked of a server and what it answers, as plain values: requests, replies, conversations, JSON into structs.

Nothing here opens a connection. A conversation with several turns is a `Flow`, which `http.drive` performs.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import msgspec

from tasks.decode import decode
from tasks.errors import StepError

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True):
    """One HTTP request to a node's EXO API."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    timeout_s: float = 10.0


class Reply(msgspec.Struct, frozen=True):
    """Its answer. `status` 0 means that there was none: `text` says why (refused, timed out)."""

    status: int
    text: str
    cut: bool = False
    """An answer had begun and did not come whole; `text` says how much came."""

    @property
    def words(self) -> str:
        """The reply for people: `no answer (refused)`, `HTTP 500: Error processing prompt ...`."""
        if self.cut:
            return shortened(self.text)
        if self.status == 0:
            return f"no answer ({shortened(self.text)})"
        return f"HTTP {self.status}: {shortened(message_of(self.text))}"


class Ask(msgspec.Struct, frozen=True):
    """A turn of a Flow: send `request` to `node`; the Reply is sent back into the generator."""

    node: str
    request: Request


class Wait(msgspec.Struct, frozen=True):
    """A turn of a Flow: let `seconds` pass; `progress` is shown meanwhile ("srv2 34 %, rog 41 %")."""

    seconds: float
    progress: str = ""


Flow = Generator[Ask | Wait, Reply | None, T]
"""Ends with `return finding`; raises StepError where the server will not do what is needed. Keeps its own time by
adding up the seconds it waited, so that a test needs no clock."""


def ask(node: str, request: Request) -> Flow[Reply]:
    """Be one turn of a Flow: send the request to the node and return its reply, with `yield from`."""
    reply = yield Ask(node, request)
    return reply if reply is not None else Reply(0, "nothing was sent")


class CutAnswerError(StepError):
    """An answer came in part, again and again; it says nothing about what was asked."""


def read_json(text: str, kind: type[T], what: str) -> T:
    """Decode `text` as `kind`; `what` names it for people ("the topology"). Raises StepError."""
    try:
        return decode(text, kind)
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError) as error:
        raise StepError(
            f"{what} cannot be read ({error}): {shortened(text)}",
            f"{what} as EXO writes it",
            "look at the node's EXO log; is it really EXO that listens on this port?",
        ) from error


def read_reply(reply: Reply, kind: type[T], what: str) -> T:
    """Decode a 200 answer as `kind`. Raises StepError as `expect_ok` does, and for what cannot be read."""
    expect_ok(reply, what)
    return read_json(reply.text, kind, what)


def expect_ok(reply: Reply, what: str) -> None:
    """Raise StepError for any status but 200, CutAnswerError where the answer did not come whole."""
    if reply.cut:
        raise CutAnswerError(
            f"{what}: {reply.words}",
            "a whole answer",
            "is the link to the node steady, does its EXO still run? then type it again",
        )
    if reply.status != 200:
        raise StepError(
            f"{what}: {reply.words}",
            "HTTP 200",
            "look at the node's EXO log; `fab start` starts EXO again where it does not run",
        )


def message_of(text: str) -> str:
    """Return the message inside an error answer of either generation, the whole text where there is none.

    0.0.x: `{"detail": ...}` or `{"error": ...}`; 1.x: `{"error": {"message": ...}}` or FastAPI's `{"detail": ...}`.
    """
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError):
        return text
    while isinstance(body, dict):
        body = next((body[key] for key in ("error", "detail", "message") if body.get(key)), text)
    return body if isinstance(body, str) else str(body)


def shortened(text: str, length: int = 300) -> str:
    """Return `text` on one line, cut after `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
