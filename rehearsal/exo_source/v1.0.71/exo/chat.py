"""Chat as EXO 1.0.71 answers it: SSE with comments, usage in the last chunk, statistics after it.

Every other node of the instance is really asked. A ring may die in silence, its runners ready and every topology
complete (`ring_dies_in`, the number of a chat), and a runner that is killed in mid-stream leaves an error frame and a clean end
(`runner_dies_in`). The normal endpoint keeps the last prompt: asked again, it is
answered from the prefix cache. /bench/chat/completions never does.
"""

import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from .cluster import Cluster, nodes_of
from .engine.lines import Line, dial
from .engine.pace import Speed, slowness, paced
from .engine.wire import Exchange
from .engine.words import said, tokenize

CACHED_SHARE = 0.1
TEMPLATE = 3
"""Tokens of the chat template before the prompt: every prompt of an instance after its first has them cached."""
HELD_BACK = 5
"""The token of this index is held back for the next frame, as half a character is: one empty frame, one of two."""
MESSAGE = {"reasoning_content": None, "name": None, "tool_calls": None, "tool_call_id": None, "function_call": None}
MEMORY_BYTES = 5_879_923
KEEP_ALIVE_S = 10.0
KILLED = {"message": "Runner shutdown before completing command (signal=9 (Killed))", "type": "InternalServerError"}


class Chat:
    """Answers of one node."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._requests = itertools.count()
        self._lock = threading.Lock()
        self._last: dict[str, str] = {}
        self._run, self._run_of = 0, ""
        self._dead = ""
        """The instance whose ring has died."""
        self._chats = 0

    def plan(self, instance: dict, body: dict, cache: bool) -> dict:
        """Return what will be said and when; `start_s` is left to the caller."""
        inner = next(iter(instance.values()))
        model, prompt = body["model"], "\n".join(str(m.get("content", "")) for m in body["messages"])
        with self._lock:
            request = next(self._requests)
            cold = self._run_of != inner["instanceId"]
            if cold:
                self._run, self._run_of = _count_load(), inner["instanceId"]
            known = self._last.get(model) == prompt or self._cluster.settings.get("prompt_cache", "last") == "always"
            hit = cache and not cold and known
            partial = cache and not cold and not hit and model in self._last
            self._last[model] = prompt
        tokens = said(max(1, int(body.get("max_tokens") or 256)), prompt)
        schedule = self._speed(model, len(nodes_of(instance))).schedule(len(tokens), self._run, request)
        cold = cold or bool(self._cluster.settings.get("always_cold", False))
        if hit:
            saved = schedule[0] * (1 - CACHED_SHARE)
            schedule = [due - saved for due in schedule]
        if cold:
            schedule = [due + self._cluster.settings.number("cold_s", 0.3) for due in schedule]
        return {"tokens": tokens, "schedule": schedule, "asked": len(tokenize(prompt)) + 10, "hit": hit, "partial": partial}

    def whole(self, exchange: Exchange, instance: dict, body: dict, cache: bool) -> dict:
        """Return a complete answer after its time; `usage` alone on the normal endpoint, statistics on the other."""
        plan, lines = self.plan(instance, body, cache), self._ring(instance)
        self._wait_where_dead(instance)
        for index in paced(exchange.arrived_s, plan["schedule"]):
            _pass(lines, index)
        message = {"role": "assistant", "content": "".join(plan["tokens"])} | MESSAGE
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}
        head = _head(body["model"]) | {"choices": [choice]}
        if cache:
            return head | {"usage": _usage(plan), "service_tier": None}
        elapsed_s = time.monotonic() - exchange.arrived_s
        power = {"elapsed_seconds": elapsed_s, "nodes": [], "total_avg_sys_power_watts": 0.0}
        stats = _statistics(plan, "inBytes")
        tail = {"usage": None, "service_tier": None, "generation_stats": stats}
        return head | tail | {"power_usage": power | {"total_energy_joules": 0.0}}

    def stream(self, exchange: Exchange, headers, instance: dict, body: dict) -> None:
        """Send an answer as SSE."""
        plan, lines = self.plan(instance, body, cache=True), self._ring(instance)
        tokens, last, head = plan["tokens"], len(plan["tokens"]) - 1, _head(body["model"])
        cut = self._cluster.settings.get("cut_stream_at", None)
        exchange.start_chunks("200 ", headers)
        exchange.chunk(b": keep-alive\n\n")
        self._wait_where_dead(instance, lambda: exchange.chunk(b": keep-alive\n\n"))
        dies_at = last // 2 if self._chats == self._cluster.settings.get("runner_dies_in", None) else None
        for done in (0, 1):
            progress = {"model": body["model"], "processed_tokens": done, "total_tokens": 1}
            exchange.chunk(f": prefill_progress {_compact({'PrefillProgressChunk': progress})}\n\n".encode())
        for index in paced(exchange.arrived_s, plan["schedule"]):
            if cut is not None and index >= float(cut) * len(tokens):
                exchange.end_chunks()
                return
            if index == dies_at:
                exchange.chunk(f"data: {_compact({'error': KILLED | {'param': None, 'code': 500}})}\n\n".encode())
                exchange.chunk(b"data: [DONE]\n\n")
                exchange.end_chunks()
                return
            _pass(lines, index)
            text = tokens[index]
            if index == HELD_BACK and index != last:
                text = ""
            elif index == HELD_BACK + 1:
                text = tokens[HELD_BACK] + text
            finish = "length" if index == last else None
            delta = {"role": "assistant", "content": text} | MESSAGE
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "usage": None}
            chunk = head | {"choices": [choice], "usage": _usage(plan) if index == last else None}
            exchange.chunk(f"data: {_compact(chunk | {'service_tier': None})}\n\n".encode())
        exchange.chunk(f": generation_stats {_compact(_statistics(plan, 'in_bytes'))}\n\n".encode())
        exchange.chunk(b"data: [DONE]\n\n")
        exchange.end_chunks()

    def _wait_where_dead(self, instance: dict, alive: Callable[[], None] = lambda: None) -> None:
        """Answer nothing over a ring that has died, until its instance is deleted; one placed anew answers."""
        key, beat_s = next(iter(instance.values()))["instanceId"], time.monotonic()
        with self._lock:
            self._chats += 1
            if self._chats == self._cluster.settings.get("ring_dies_in", None):
                self._dead = key
        while self._dead == key:
            if key not in self._cluster.instances:
                raise ConnectionResetError("the instance was deleted")
            if time.monotonic() - beat_s > KEEP_ALIVE_S:
                beat_s = time.monotonic()
                alive()
            time.sleep(0.1)

    def _ring(self, instance: dict) -> list[Line]:
        """Keep a line to every other node of the instance; OSError where one is gone, which ends the connection."""
        others = [node for node in nodes_of(instance) if node != self._cluster.id]
        lines = [dial(*self._cluster.address_of(node), 2.0) for node in others]
        for line in lines:
            line.say({"ask": "prompt"})
            line.hear()
        return lines

    def _speed(self, model: str, nodes: int) -> Speed:
        known = self._cluster.settings
        scale = float(known.get("scale", {}).get(model, 1.0)) * min(nodes, 3) / 3
        return Speed(
            first_token_s=known.number("first_token_s", 0.03) / scale,
            tokens_per_s=known.number("tokens_per_s", 160.0) * scale,
            noise=known.number("noise", 0.0),
            seed=int(known.number("seed", 0)),
            arm="exo",
            slowness=slowness(known.number),
        )


def _pass(lines: list[Line], index: int) -> None:
    for line in lines:
        if line.gone():
            raise ConnectionResetError("a node of the instance is gone")
        line.say({"ask": "token", "index": index})


def _usage(plan: dict) -> dict:
    asked, count = plan["asked"], len(plan["tokens"])
    cached = {"cached_tokens": asked - 2 if plan["hit"] else TEMPLATE if plan["partial"] else 0, "audio_tokens": 0}
    details = {"reasoning_tokens": 0, "audio_tokens": 0}
    details |= {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    counts = {"prompt_tokens": asked, "completion_tokens": count, "total_tokens": asked + count}
    return counts | {"prompt_tokens_details": cached, "completion_tokens_details": details}


def _statistics(plan: dict, key: str) -> dict:
    """Return EXO's own figures: (N - 1) tokens over the time from the first to the last."""
    span_s = max(plan["schedule"][-1] - plan["schedule"][0], 1e-6)
    return {
        "prompt_tps": plan["asked"] / max(plan["schedule"][0], 1e-6),
        "generation_tps": (len(plan["tokens"]) - 1) / span_s,
        "prompt_tokens": plan["asked"],
        "generation_tokens": len(plan["tokens"]),
        "peak_memory_usage": {key: MEMORY_BYTES},
        "prefix_cache_hit": "exact" if plan["hit"] else "partial" if plan["partial"] else "none",
    }


def _head(model: str) -> dict:
    return {"id": str(uuid.uuid4()), "object": "chat.completion", "created": int(time.time()), "model": model}


def _compact(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _count_load() -> int:
    """Return how many loads this node has answered from before: each is a run."""
    book = Path.home() / ".rehearsal-loads"
    count = int(book.read_text()) if book.exists() else 0
    book.write_text(str(count + 1))
    return count
