"""The HTTP API of EXO 1.0.71, header by header as hypercorn sent it; a stream's headers are read from its code."""

import json
import re
import time
import uuid
from pathlib import Path

from .cards import from_hub, listed
from .chat import Chat
from .cluster import Cluster
from .engine.wire import Exchange, date
from .placing import place, previews
from .state import state

JSON = "application/json"
PAGE = Path(__file__).parent / "dashboard" / "index.html"
NO_HUB = "Cannot connect to host huggingface.co:443 ssl:default [Temporary failure in name resolution]"
HUB_WAITS_S = 0.5
"""The real one tries for 22 s."""
ERRORS = {400: "Bad Request", 404: "Not Found", 422: "Unprocessable Entity"}


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Routes of one node."""

    def __init__(self, cluster: Cluster, chat: Chat) -> None:
        self._cluster, self._chat = cluster, chat
        self._routes = {
            ("GET", r"/"): self._page,
            ("GET", r"/node_id"): lambda x: send(x, cluster.id),
            ("GET", r"/state(?:/(.+))?"): self._state,
            ("GET", r"/v1/models|/models"): self._models,
            ("POST", r"/models/add"): self._add,
            ("POST", r"/download/start"): self._fetch,
            ("POST", r"/place_instance"): self._place,
            ("GET", r"/instance/previews"): self._previews,
            ("POST", r"/instance"): self._create,
            ("GET", r"/instance/([^/]+)"): self._instance,
            ("DELETE", r"/instance/([^/]+)"): self._delete,
            ("POST", r"/bench/chat/completions"): self._bench,
            ("POST", r"/v1/chat/completions"): self._completions,
            ("GET", r"/ollama/api/version"): lambda x: send(x, {"version": "exo v1.0"}),
            ("GET", r"/ollama/api/ps"): self._ps,
        }

    def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        try:
            for (method, pattern), route in self._routes.items():
                match = re.fullmatch(pattern, exchange.path)
                if match and exchange.method == method:
                    if method != "GET":
                        time.sleep(self._cluster.links.paused())
                    route(exchange, *match.groups())
                    return
            raise ApiError(404, "Not Found")
        except ApiError as error:
            told = {"message": str(error), "type": ERRORS[error.status], "param": None, "code": error.status}
            send(exchange, {"error": told}, error.status)

    def broken(self, exchange: Exchange) -> None:
        """Answer where `answer` raised, as hypercorn does."""
        headers = [("content-length", "21"), ("content-type", "text/plain; charset=utf-8"), ("date", date())]
        exchange.send("500 ", [*headers, ("server", "hypercorn-h11")], b"Internal Server Error")

    def _page(self, exchange: Exchange) -> None:
        body = PAGE.read_bytes()
        headers = [("content-type", "text/html; charset=utf-8"), ("content-length", str(len(body)))]
        exchange.send("200 ", [*headers, ("date", date()), ("server", "hypercorn-h11")], body)

    def _state(self, exchange: Exchange, path: str | None) -> None:
        value = state(self._cluster)
        for key in path.split("/") if path else []:
            if not isinstance(value, dict) or key not in value:
                raise ApiError(404, "Not Found")
            value = value[key]
        send(exchange, value)

    def _models(self, exchange: Exchange) -> None:
        wanted = list(self._cluster.cards.values())
        if exchange.query.get("status") == "downloaded":
            wanted = [card for card in wanted if self._cluster.downloads.complete(card["modelId"])]
        send(exchange, {"object": "list", "data": [listed(card) for card in wanted]})

    def _card(self, model: str, failure: str, status: int = 400) -> dict:
        """Return a model's card; what EXO does not know it asks the hub for, and that takes a while to fail."""
        found = self._cluster.cards.get(model) or from_hub(model)
        if found is None:
            time.sleep(HUB_WAITS_S)
            if status == 500:
                raise ValueError(failure)
            raise ApiError(status, f"{failure}: {NO_HUB}")
        return found

    def _add(self, exchange: Exchange) -> None:
        card = self._card(exchange.json()["model_id"], "Failed to fetch model")
        self._cluster.tell_all({"ask": "card", "card": card})
        send(exchange, listed(card) | {"context_length": 0, "family": "", "quantization": "", "base_model": ""})

    def _fetch(self, exchange: Exchange) -> None:
        body = exchange.json()
        message = {"ask": "fetch", "node": body["targetNodeId"], "shard": body["shardMetadata"]}
        self._cluster.tell_all(message)
        send(exchange, {"commandId": str(uuid.uuid4())})

    def _place(self, exchange: Exchange) -> None:
        body = exchange.json()
        card = self._card(body["model_id"], "Failed to load model card", 500)
        place(self._cluster, card, int(body.get("min_nodes", 1)))
        send(exchange, _received() | {"model_card": card})

    def _create(self, exchange: Exchange) -> None:
        instance = exchange.json()["instance"]
        inner = next(iter(instance.values()))
        self._cluster.tell_all({"ask": "place", "id": inner["instanceId"], "instance": instance})
        shards = inner["shardAssignments"]["runnerToShard"].values()
        send(exchange, _received() | {"model_card": next(iter(next(iter(shards)).values()))["modelCard"]})

    def _previews(self, exchange: Exchange) -> None:
        card = self._card(exchange.query.get("model_id", ""), "Failed to load model card")
        send(exchange, {"previews": previews(self._cluster, card)})

    def _instance(self, exchange: Exchange, key: str) -> None:
        send(exchange, self._found(key))

    def _delete(self, exchange: Exchange, key: str) -> None:
        self._found(key)
        self._cluster.tell_all({"ask": "delete", "id": key})
        send(exchange, _received() | {"instance_id": key})

    def _found(self, key: str) -> dict:
        if key not in self._cluster.instances:
            raise ApiError(404, "Instance not found")
        return self._cluster.instances[key]

    def _ready(self, body: dict) -> dict:
        found = self._cluster.ready_instance(body["model"])
        if found is None:
            raise ApiError(404, f"No instance found for model {body['model']}")
        return found

    def _bench(self, exchange: Exchange) -> None:
        body = exchange.json()
        cache = bool(body.get("use_prefix_cache", False))
        whole = self._chat.whole(exchange, self._ready(body), body, cache=False)
        send(exchange, whole | ({"usage": None} if not cache else {}))

    def _completions(self, exchange: Exchange) -> None:
        body = exchange.json()
        instance = self._ready(body)
        tail = [("vary", "Origin"), ("date", date()), ("server", "hypercorn-h11"), ("transfer-encoding", "chunked")]
        if body.get("stream"):
            plain = [("cache-control", "no-cache"), ("connection", "close"), ("x-accel-buffering", "no")]
            headers = [*plain, ("content-type", "text/event-stream; charset=utf-8"), *tail]
            self._chat.stream(exchange, headers, instance, body)
            exchange.keep_open = False
            return
        whole = self._chat.whole(exchange, instance, body, cache=True)
        exchange.start_chunks("200 ", [("content-type", JSON), *tail])
        exchange.chunk(_encode(whole))
        exchange.end_chunks()

    def _ps(self, exchange: Exchange) -> None:
        names = [next(iter(i.values()))["shardAssignments"]["modelId"] for i in self._cluster.instances.values()]
        blank = {"size": 0, "digest": None, "details": None, "expires_at": None, "size_vram": None}
        send(exchange, {"models": [{"name": name, "model": name} | blank for name in names]})


def send(exchange: Exchange, value, status: int = 200) -> None:
    """Send JSON as FastAPI behind hypercorn does."""
    body = _encode(value)
    headers = [("content-length", str(len(body))), ("content-type", JSON), ("vary", "Origin"), ("date", date())]
    exchange.send(f"{status} ", [*headers, ("server", "hypercorn-h11")], body)


def _encode(value) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _received() -> dict:
    return {"message": "Command received.", "command_id": str(uuid.uuid4())}
