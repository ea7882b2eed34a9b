"""The one non-streaming chat of both generations: the OpenAI form that both speak."""

from __future__ import annotations

import msgspec

from tasks.errors import StepError
from tasks.exo.interface import Answer
from tasks.machines.wire import Reply, Request, read_reply


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message = _Message()
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    completion_tokens: int | None = None


class _Completion(msgspec.Struct, frozen=True):
    model: str
    choices: list[_Choice]
    usage: _Usage | None = None


def request(model: str, prompt: str, max_tokens: int, timeout_s: float) -> Request:
    """Return the request: one message, greedy, not streamed."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "stream": False,
        "max_tokens": max_tokens,
        "temperature": 0,
    }
    return Request("POST", "/v1/chat/completions", body, timeout_s)


def read_answer(reply: Reply, model: str, advice: str) -> Answer:
    """Read a 200 answer. Raises StepError where it is none, or where another model than `model` answered.

    `advice` says what to type where the model is another one.
    """
    answer = read_reply(reply, _Completion, "the chat answer")
    if answer.model != model:
        raise StepError(
            f"EXO was asked for '{model}' and '{answer.model}' answered, with HTTP 200",
            f"an answer from '{model}'",
            advice,
        )
    if not answer.choices:
        raise StepError("the chat answer has no choices", "one choice", "look at the EXO log of the entry node")
    first = answer.choices[0]
    tokens = answer.usage.completion_tokens if answer.usage else None
    return Answer(answer.model, first.message.content or "", tokens, first.finish_reason)
