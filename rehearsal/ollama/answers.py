"""The three ways to ask an Ollama stand-in for text, frame by frame as 0.5.13 answered."""

from __future__ import annotations

import itertools
import time
from typing import Any

from rehearsal.engine.wire import Exchange, date
from rehearsal.engine.words import tokenize
from rehearsal.ollama import gojson
from rehearsal.ollama.memory import Loaded, Memory, keep_alive
from rehearsal.ollama.models import Model
from rehearsal.ollama.speech import RunnerDiedError, Speech, plan

FOR_THE_ANSWER_S = 300.0
_IDS = itertools.count(628)


def generate(memory: Memory, exchange: Exchange, model: Model, data: dict[str, Any]) -> None:
    """Answer POST /api/generate: text, or just a load or an unload where there is no prompt."""
    seconds = keep_alive(data.get("keep_alive"))
    prompt = str(data.get("prompt") or "")
    if not prompt and seconds == 0:
        memory.unload(model)
        _whole(exchange, {**_frame(model, {"response": ""}, done=True), "done_reason": "unload"})
        return
    options = data.get("options") or {}
    one, load_s = memory.load(model, FOR_THE_ANSWER_S if seconds == 0 else seconds, options.get("num_ctx"))
    if not prompt:
        _whole(exchange, {**_frame(model, {"response": ""}, done=True), "done_reason": "load"})
        return
    speech = _planned(memory, one, prompt, options, exchange, load_s)
    _tell(exchange, model, speech, data.get("stream", True), lambda text: {"response": text}, with_context=True)
    if seconds == 0:
        memory.unload(model)


def chat(memory: Memory, exchange: Exchange, model: Model, data: dict[str, Any]) -> None:
    """Answer POST /api/chat."""
    messages = data.get("messages") or []
    seconds = keep_alive(data.get("keep_alive"))
    if not messages:
        nothing = {"message": {"role": "assistant", "content": ""}}
        if seconds == 0:
            memory.unload(model)
        else:
            memory.load(model, seconds)
        _whole(exchange, {**_frame(model, nothing), "done_reason": "load" if seconds else "unload", "done": True})
        return
    options = data.get("options") or {}
    one, load_s = memory.load(model, FOR_THE_ANSWER_S if seconds == 0 else seconds, options.get("num_ctx"))
    speech = _planned(memory, one, _joined(messages), options, exchange, load_s)
    _tell(
        exchange,
        model,
        speech,
        data.get("stream", True),
        lambda text: {"message": {"role": "assistant", "content": text}},
        with_context=False,
    )


def completions(memory: Memory, exchange: Exchange, model: Model, data: dict[str, Any]) -> None:
    """Answer POST /v1/chat/completions, the OpenAI form."""
    one, load_s = memory.load(model, None)
    options = {"num_predict": data["max_tokens"]} if data.get("max_tokens") else {}
    speech = _planned(memory, one, _joined(data.get("messages") or []), options, exchange, load_s)
    asked = len(tokenize(speech.prompt)) + 10
    usage = {"prompt_tokens": asked, "completion_tokens": len(speech.words)}
    usage |= {"total_tokens": asked + len(speech.words)}
    head = {"id": f"chatcmpl-{next(_IDS)}", "object": "chat.completion.chunk", "created": int(time.time())}
    head |= {"model": model.name, "system_fingerprint": "fp_ollama"}
    if not data.get("stream", False):
        text = "".join(speech.spoken())
        message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": speech.done_reason}
        _whole(exchange, head | {"object": "chat.completion", "choices": [message], "usage": usage}, "application/json")
        return
    _start(exchange, "text/event-stream")
    ending: list[tuple[str, str | None]] = [("", speech.done_reason)]
    try:
        for piece, finish in itertools.chain(((word, None) for word in speech.spoken()), ending):
            choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": finish}
            exchange.chunk(b"data: " + gojson.encode(head | {"choices": [choice]}) + b"\n\n")
    except RunnerDiedError:  # as recorded: one more empty piece, no reason to finish, and a clean end
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
        exchange.chunk(b"data: " + gojson.encode(head | {"model": "", "choices": [choice]}) + b"\n\n")
        exchange.end_chunks()
        return
    if (data.get("stream_options") or {}).get("include_usage"):
        exchange.chunk(b"data: " + gojson.encode(head | {"choices": [], "usage": usage}) + b"\n\n")
    exchange.chunk(b"data: [DONE]\n\n")
    exchange.end_chunks()


def _tell(exchange: Exchange, model: Model, speech: Speech, stream: bool, wrap: Any, with_context: bool) -> None:
    """Send the answer in Ollama's own form; the fields' order differs between /api/generate and /api/chat."""
    if stream:
        _start(exchange, "application/x-ndjson")
        try:
            for text in speech.spoken():
                exchange.chunk(gojson.encode(_frame(model, wrap(text), done=False)) + b"\n")
        except RunnerDiedError as died:
            exchange.chunk(gojson.encode({"error": str(died)}) + b"\n")
            exchange.end_chunks()
            return
        text = ""
    else:
        text = "".join(speech.spoken())
    end: dict[str, Any] = {"done": True, "done_reason": speech.done_reason}
    if with_context:
        end["context"] = speech.context()
    else:
        end = {"done_reason": speech.done_reason, "done": True}
    last = _frame(model, wrap(text)) | end | speech.figures(exchange.arrived_s)
    if stream:
        exchange.chunk(gojson.encode(last) + b"\n")
        exchange.end_chunks()
    else:
        _whole(exchange, last)


def _planned(
    memory: Memory, one: Loaded, prompt: str, options: dict[str, Any], exchange: Exchange, load_s: float
) -> Speech:
    """Plan an answer; the setting `runner_dies_at` names the one, counted from 1, in which the runner is killed."""
    count = memory.count()
    speech = plan(memory.settings, one, prompt, options, exchange.arrived_s, load_s)
    one.dead = speech.dies = count == memory.settings.number("runner_dies_at", 0)
    return speech


def _frame(model: Model, said: dict[str, Any], done: bool | None = None) -> dict[str, Any]:
    frame = {"model": model.name, "created_at": gojson.stamp()} | said
    return frame if done is None else frame | {"done": done}


def _joined(messages: list[dict[str, Any]]) -> str:
    return "\n".join(str(message.get("content", "")) for message in messages)


def _start(exchange: Exchange, kind: str) -> None:
    exchange.start_chunks("200 OK", [("Content-Type", kind), ("Date", date()), ("Transfer-Encoding", "chunked")])


def _whole(exchange: Exchange, value: dict[str, Any], kind: str = "application/json; charset=utf-8") -> None:
    body = gojson.encode(value)
    headers = [("Content-Type", kind), ("Date", date()), ("Content-Length", str(len(body)))]
    exchange.send("200 OK", headers, body)
