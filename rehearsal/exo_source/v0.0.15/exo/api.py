"""The HTTP API of EXO 0.0.15, header by header as aiohttp 3.10.11 on Python 3.12 sent it."""

import json
import os
import signal
from pathlib import Path

from . import dummy
from .cards import ENGINES, MODELS, TINYGRAD, loadable
from .chat import Chat
from .download import Downloads, folder
from .engine.misbehave import misbehave
from .engine.wire import Exchange, date
from .engine.words import token_ids, tokenize
from .node import Node
from .peers import UnavailableError

SERVER = ("Server", "Python/3.12 aiohttp/3.10.11")
PAGE = Path(__file__).parent / "recorded" / "index.html"
PAGE_HEADERS = [
    ("Content-Type", "text/html"),
    ("Etag", '"182792ff04fd2200-51a4"'),
    ("Last-Modified", "Tue, 25 Feb 2025 22:10:05 GMT"),
]
REASONS = {200: "200 OK", 400: "400 Bad Request", 404: "404 Not Found", 408: "408 Request Timeout"}
REASONS |= {500: "500 Internal Server Error"}


class Api:
    """Routes of one node."""

    def __init__(self, node: Node, chat: Chat, downloads: Downloads, flags) -> None:
        self._node, self._chat, self._downloads = node, chat, downloads
        self._default = flags.default_model or "llama-3.2-1b"
        self._engine = ENGINES.get(flags.inference_engine or "tinygrad", ENGINES["tinygrad"])
        self._routes = {
            ("GET", "/"): self._page,
            ("GET", "/v1/topology"): lambda x: send(x, self._node.topology.to_json()),
            ("GET", "/topology"): lambda x: send(x, self._node.topology.to_json()),
            ("GET", "/healthcheck"): lambda x: send(x, {"status": "ok"}),
            ("GET", "/v1/models"): self._models,
            ("GET", "/models"): self._models,
            ("GET", "/initial_models"): self._initial,
            ("GET", "/modelpool"): self._pool,
            ("GET", "/v1/download/progress"): lambda x: send(x, dict(self._node.downloads)),
            ("POST", "/download"): self._download,
            ("POST", "/v1/chat/completions"): self._completions,
            ("POST", "/chat/completions"): self._completions,
            ("POST", "/v1/chat/token/encode"): self._encode,
            ("POST", "/chat/token/encode"): self._encode,
            ("POST", "/quit"): self._quit,
        }

    def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        if how := self._node.settings.get("misbehaves", ""):
            misbehave(exchange, how)
            return
        method = "GET" if exchange.method == "HEAD" else exchange.method
        route = self._routes.get((method, exchange.path))
        if route is not None:
            route(exchange)
            return
        headers = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/octet-stream")]
        exchange.start_chunks(REASONS[404], [*headers, ("Date", date()), SERVER])
        exchange.end_chunks()

    def broken(self, exchange: Exchange) -> None:
        """Answer where `answer` raised, as aiohttp does."""
        body = b"500 Internal Server Error\n\nServer got itself in trouble"
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        exchange.send(REASONS[500], [*headers, ("Date", date()), SERVER, ("Connection", "close")], body)
        exchange.keep_open = False

    def _page(self, exchange: Exchange) -> None:
        body = PAGE.read_bytes()
        size = [("Content-Length", str(len(body))), ("Accept-Ranges", "bytes")]
        exchange.send(REASONS[200], [*PAGE_HEADERS, *size, ("Date", date()), SERVER], body)

    def _models(self, exchange: Exchange) -> None:
        listed = [{"id": model, "object": "model", "owned_by": "exo", "ready": True} for model in MODELS]
        send(exchange, {"object": "list", "data": listed})

    def _initial(self, exchange: Exchange) -> None:
        unknown = {"downloaded": None, "download_percentage": None, "total_size": None, "total_downloaded": None}
        names = {model: TINYGRAD[model][2] if model in TINYGRAD else None for model in loadable(self._engine)}
        send(exchange, {model: {"name": name, **unknown, "loading": True} for model, name in names.items()})

    def _pool(self, exchange: Exchange) -> None:
        plain = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("Connection", "keep-alive")]
        exchange.start_chunks(REASONS[200], [*plain, ("Transfer-Encoding", "chunked"), ("Date", date()), SERVER])
        for model in TINYGRAD if self._engine == ENGINES["tinygrad"] else ():
            there, total = (folder(model) / "config.json").exists(), 9838360
            state = {"downloaded": there, "download_percentage": 100 if there else 0.0}
            state |= {"total_size": total, "total_downloaded": total if there else 0}
            exchange.chunk(f"data: {json.dumps({model: state})}\n\n".encode())
        exchange.chunk(b"data: [DONE]\n\n")
        exchange.end_chunks()

    def _download(self, exchange: Exchange) -> None:
        model = exchange.json().get("model")
        if not model:
            send(exchange, {"error": "model parameter is required"}, 400)
        elif model not in MODELS:
            send(exchange, {"error": f"Invalid model: {model}. Supported models: {MODELS}"}, 400)
        elif model == "dummy" and self._engine == ENGINES["dummy"]:
            send(exchange, {"error": "'DummyInferenceEngine' object has no attribute 'shard_downloader'"}, 500)
        elif model not in TINYGRAD or self._engine == ENGINES["dummy"]:
            send(exchange, {"error": f"Could not build shard for model {model}"}, 400)
        else:
            self._downloads.ensure_aside(model)
            send(exchange, {"status": "success", "message": f"Download started for model: {model}"})

    def _model(self, asked: str | None) -> str:
        """Return the model that answers: an unknown name silently becomes the default."""
        return asked if asked in MODELS else self._default

    def _completions(self, exchange: Exchange) -> None:
        data = exchange.json()
        stream, prompt = data.get("stream", False), _prompt(data["messages"])
        model, able = self._model(data.get("model", self._default)), loadable(self._engine)
        if model not in able:
            said = f"Unsupported model: {model} with inference engine {self._engine}. Supported models for this engine:"
            send(exchange, {"detail": f"{said} {able}"}, 400)
            return
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
        headers += [("Transfer-Encoding", "chunked"), ("Date", date()), SERVER]
        try:
            if self._engine == ENGINES["dummy"]:
                whole = dummy.answer(exchange, stream, headers)
            else:
                whole = self._chat.answer(exchange, model, prompt, stream, headers)
        except UnavailableError as error:
            send(exchange, {"detail": f"Error processing prompt (see logs with DEBUG>=2): {error}"}, 500)
            return
        except TimeoutError:
            send(exchange, {"detail": "Response generation timed out"}, 408)
            return
        if whole is not None:
            send(exchange, whole)

    def _encode(self, exchange: Exchange) -> None:
        data = exchange.json()
        if self._model(data.get("model", self._default)) not in TINYGRAD or self._engine == ENGINES["dummy"]:
            raise ValueError("no shard for this model")
        prompt = _prompt(data.get("messages", []))
        tokens = tokenize(prompt)
        counted = {"length": len(prompt), "num_tokens": len(tokens)}
        send(exchange, counted | {"encoded_tokens": token_ids(tokens), "encoded_prompt": prompt})

    def _quit(self, exchange: Exchange) -> None:
        send(exchange, {"detail": "Quit signal received"})
        os.kill(os.getpid(), signal.SIGINT)


def send(exchange: Exchange, answer: dict, status: int = 200) -> None:
    """Send `answer` as aiohttp's json_response does."""
    body = json.dumps(answer).encode()
    headers = [("Content-Type", "application/json; charset=utf-8"), ("Content-Length", str(len(body)))]
    exchange.send(REASONS[status], [*headers, ("Date", date()), SERVER], body)


def _prompt(messages: list[dict]) -> str:
    """Return the prompt in Llama 3's template; KeyError where a message lacks its role or content."""
    turns = [(m["role"], m["content"]) for m in messages]
    said = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in turns)
    return f"<|begin_of_text|>{said}<|start_header_id|>assistant<|end_header_id|>\n\n"
