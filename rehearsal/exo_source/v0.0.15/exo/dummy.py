"""The dummy engine: ten times "dummy", at once, and no model at all."""

import json
import time
import uuid

from .engine.wire import Exchange

WORDS = 10


def answer(exchange: Exchange, stream: bool, headers) -> dict | None:
    """Return the completion, or stream it and return None."""
    request_id = str(uuid.uuid4())
    time.sleep(0.04)
    if not stream:
        body = _completion(request_id, "dummy" * WORDS, "stop", "message")
        return body | {"usage": {"prompt_tokens": 1, "completion_tokens": WORDS, "total_tokens": WORDS + 1}}
    exchange.start_chunks("200 OK", headers)
    for index in range(WORDS):
        event = _completion(request_id, "dummy", "stop" if index == WORDS - 1 else None, "delta")
        exchange.chunk(b"data: " + json.dumps(event).encode() + b"\n\n")
    exchange.end_chunks()
    return None


def _completion(request_id: str, text: str, finish: str | None, key: str) -> dict:
    said = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish} | {key: said}
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": "dummy",
        "system_fingerprint": "exo_0.0.1",
        "choices": [choice],
    }
