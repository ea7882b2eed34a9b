"""Answer a chat: every peer of the ring is really asked, and the tokens leave when the schedule says.

Without one of its peers a ring says nothing: refused at first (500 in the real one's words), then silence until the
response time-out, and in mid-stream silence and then a clean end without a finish_reason.
"""

import itertools
import json
import threading
import time
import uuid

from .cards import TINYGRAD
from .crowd import Crowd
from .download import Downloads, weights_of
from .engine.lines import Line
from .engine.pace import Speed, slowness, sleep_until
from .engine.wire import Exchange
from .engine.words import said, tokenize
from .node import Node
from .peers import UnavailableError
from .stalls import words

HANGS_AFTER_SHARE = 0.67
"""Of the time that a lost peer stays in the topology, the share after which a chat hangs instead of failing."""
CLUSTER_NODES = 3
"""A ring of fewer nodes is slower in proportion: an island must not look like a cluster."""


class PeerLostError(Exception):
    """A member of the ring ended while it was needed."""


class Chat:
    """Everything between a checked request and its tokens."""

    def __init__(self, node: Node, downloads: Downloads, flags, run: int) -> None:
        self._node, self._downloads, self._flags, self._run = node, downloads, flags, run
        self._requests = itertools.count()
        self._warm: set[str] = set()
        self._crowd = Crowd()
        self._lock = threading.Lock()
        self._stalled = False
        """A peer stands still at the first token that is sent back."""

    def answer(self, exchange: Exchange, model: str, prompt: str, stream: bool, headers) -> dict | None:
        """Return the whole completion, or send it as a stream and return None.

        Raises UnavailableError where a peer refuses, TimeoutError where nothing came within the response time-out.
        """
        request_id, request = str(uuid.uuid4()), next(self._requests)
        lines: list[Line] = []
        try:
            with self._crowd.place() as place:
                self._ask_ring(model, request_id, lines)
                start = self._warm_up(exchange, model)
                tokens = said(self._length(), prompt)
                schedule = self._speed(model).schedule(len(tokens), self._run, request)
                sleep_until(start + schedule[0] / 2)  # the real one's headers come after its own layers' first pass
                self._send_first_back(model, lines)
                answer = place.answer(start, tokens, schedule)
                if stream:
                    self._stream(exchange, headers, model, request_id, answer, len(tokens), lines)
                    return None
                text = ""
                for index, token in enumerate(answer):
                    self._check(lines, index)
                    text += token
                return _whole(model, request_id, prompt, text)
        except PeerLostError as error:
            time.sleep(self._flags.chatgpt_api_response_timeout)
            raise TimeoutError from error
        finally:
            for line in lines:
                line.close()

    def _ask_ring(self, model: str, request_id: str, lines: list[Line]) -> None:
        """Bring the model to every node of the ring and put a line to each into `lines`.

        Raises UnavailableError where one is gone.
        """
        for node_id, since in dict(self._node.lost_since).items():
            gone_s = time.monotonic() - since
            if node_id in self._node.peers and gone_s > HANGS_AFTER_SHARE * self._node.settings.number("stale_s", 3.0):
                time.sleep(self._flags.chatgpt_api_response_timeout)
                raise TimeoutError
        ring = list(self._node.peers.values())
        for index, peer in enumerate(ring, start=1):
            lines.append(peer.open(5.0))
            weights = weights_of(index, len(ring) + 1)
            place = {"index": index, "nodes": len(ring) + 1}
            lines[-1].say({"ask": "prompt", "id": request_id, "model": model, "weights": weights} | place)
        if model in TINYGRAD:
            self._downloads.ensure(model, weights_of(0, len(ring) + 1))
            if not self._downloads.there(model):
                print(f"ValueError: [TODO] Unsupported model: {TINYGRAD[model][0]}")
                raise ValueError(model)
        for line in lines:
            line.sock.settimeout(60.0)
            try:
                self._stalled |= bool(line.hear().get("stalls"))
            except (OSError, ValueError) as error:
                raise UnavailableError(f"Peer of request {request_id} is gone: {error}") from error

    def _send_first_back(self, model: str, lines: list[Line]) -> None:
        """Send the first token back into the ring, which is where one that cannot compute stands still for good."""
        own = self._node.settings.get("stall", "")
        if own:
            print(words(own, model, 0, len(lines) + 1), flush=True)
        if own or self._stalled:
            time.sleep(self._flags.chatgpt_api_response_timeout)
            raise TimeoutError

    def _warm_up(self, exchange: Exchange, model: str) -> float:
        """Return from when the schedule counts: the request's arrival, later where the model is cold."""
        with self._lock:
            if model in self._warm and not self._node.settings.get("always_cold", False):
                return exchange.arrived_s
            self._warm.add(model)
        return time.monotonic() + self._node.settings.number("cold_s", 0.3)

    def _length(self) -> int:
        """Return how many tokens come: the start flag says it, no request does."""
        share = self._node.settings.number("length_share", 1.0)
        return max(1, int(self._flags.max_generate_tokens * share))

    def _speed(self, model: str) -> Speed:
        known = self._node.settings
        nodes = len(self._node.peers) + 1
        scale = float(known.get("scale", {}).get(model, 1.0)) * min(nodes, CLUSTER_NODES) / CLUSTER_NODES
        return Speed(
            first_token_s=known.number("first_token_s", 0.03) / scale,
            tokens_per_s=known.number("tokens_per_s", 160.0) * scale,
            noise=known.number("noise", 0.0),
            seed=int(known.number("seed", 0)),
            arm="exo",
            slowness=slowness(known.number),
        )

    def _check(self, lines: list[Line], index: int) -> None:
        """Pass a token around the ring; PeerLostError where a member is gone."""
        for line in lines:
            if line.gone():
                raise PeerLostError
            try:
                line.say({"ask": "token", "index": index})
            except OSError as error:
                raise PeerLostError from error

    def _stream(self, exchange, headers, model, request_id, answer, length, lines) -> None:
        cut = self._node.settings.get("cut_stream_at", None)
        exchange.start_chunks("200 OK", headers)
        try:
            for index, token in enumerate(answer):
                if cut is not None and index >= float(cut) * length:
                    time.sleep(self._node.settings.number("cut_silence_s", 0.5))
                    break
                self._check(lines, index)
                event = _event(model, request_id, token, "length" if index == length - 1 else None)
                exchange.chunk(b"data: " + json.dumps(event).encode() + b"\n\n")
        except PeerLostError:
            time.sleep(self._flags.chatgpt_api_response_timeout)
        exchange.end_chunks()


def _event(model: str, request_id: str, text: str, finish: str | None) -> dict:
    said_now = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": said_now, "logprobs": None, "finish_reason": finish, "delta": said_now}
    return _completion(model, request_id, choice)


def _whole(model: str, request_id: str, prompt: str, text: str) -> dict:
    said_now = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": said_now, "logprobs": None, "finish_reason": "length"}
    asked, got = len(tokenize(prompt)), len(tokenize(text))
    usage = {"prompt_tokens": asked, "completion_tokens": got, "total_tokens": asked + got}
    return _completion(model, request_id, choice) | {"usage": usage}


def _completion(model: str, request_id: str, choice: dict) -> dict:
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": "exo_0.0.1",
        "choices": [choice],
    }
