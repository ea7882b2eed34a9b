"""The HTTP API of Ollama 0.5.13, header by header as Go sent it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rehearsal.engine.gpu import Gpu
from rehearsal.engine.misbehave import misbehave
from rehearsal.engine.settings import Settings
from rehearsal.engine.wire import Exchange, date
from rehearsal.ollama import gojson
from rehearsal.ollama.answers import chat, completions, generate
from rehearsal.ollama.memory import Memory
from rehearsal.ollama.models import Model
from rehearsal.ollama.speech import RunnerDiedError

VERSION = "0.5.13"
MODIFIED = 1_795_451_899.667967184
REASONS = {200: "200 OK", 400: "400 Bad Request", 404: "404 Not Found", 500: "500 Internal Server Error"}
JSON = "application/json; charset=utf-8"


class Api:
    """Routes of one Ollama stand-in; the setting `gpu` says whether it claims to hold its models in video memory."""

    def __init__(self, settings: Settings, gpu: Gpu) -> None:
        self.settings = settings
        self.gpu = gpu
        self.memory = Memory(settings)
        self.answered = 0
        self._routes: dict[tuple[str, str], Callable[[Exchange], None]] = {
            ("GET", "/"): lambda x: send(x, b"Ollama is running", kind="text/plain; charset=utf-8"),
            ("GET", "/api/version"): lambda x: send_json(x, {"version": self.version()}),
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("GET", "/v1/models"): self._v1_models,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/generate"): lambda x: self._inference(x, generate),
            ("POST", "/api/chat"): lambda x: self._inference(x, chat),
            ("POST", "/v1/chat/completions"): lambda x: self._inference(x, completions),
        }

    def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        if how := self.settings.get("misbehaves", ""):
            misbehave(exchange, how)
            return
        method = "GET" if exchange.method == "HEAD" else exchange.method
        route = self._routes.get((method, exchange.path))
        if route is None:
            send(exchange, b"404 page not found", 404, "text/plain")
        else:
            route(exchange)

    def broken(self, exchange: Exchange) -> None:
        """Answer where `answer` raised: most of the time the body was no JSON."""
        send_json(exchange, {"error": gojson.syntax_error(exchange.body)}, 400)

    def models(self) -> dict[str, Model]:
        """Return what is pulled; a model can vanish after some answers."""
        gone = self.settings.get("lost_model", "") if self._changed() else ""
        return {name: model for name, model in self.memory.models().items() if name != gone}

    def found(self, name: str) -> Model | None:
        """Return the model of a name: a missing tag is `:latest`, and case is nothing."""
        known = {known.lower(): model for known, model in self.models().items()}
        return known.get(name.lower()) or known.get(f"{name.lower()}:latest")

    def version(self) -> str:
        """Return the version; it can change after some answers, as after an upgrade."""
        version = str(self.settings.get("version", VERSION))
        return str(self.settings.get("new_version", version)) if self._changed() else version

    @property
    def modern(self) -> bool:
        """Whether it lists what 0.33 lists: contexts and capabilities."""
        return bool(self.settings.get("modern", False))

    def _changed(self) -> bool:
        return self.answered >= self.settings.number("changes_after", float("inf"))

    def _tags(self, exchange: Exchange) -> None:
        listed = []
        for m in self.models().values():
            entry = {"name": m.name, "model": m.name, "modified_at": gojson.stamp(MODIFIED), "size": m.size}
            entry |= {"digest": m.digest, "details": m.details()}
            if self.modern:
                entry["details"] = m.details() | {"context_length": m.context, "embedding_length": m.layers * 64}
                entry["capabilities"] = ["completion"]
            listed.append(entry)
        send_json(exchange, {"models": listed})

    def _ps(self, exchange: Exchange) -> None:
        listed = []
        for one in self.memory.now():
            m = one.model
            size = m.footprint(one.context)
            vram = size if self.settings.get("gpu", False) else 0
            entry = {"name": m.name, "model": m.name, "size": size, "digest": m.digest, "details": m.details()}
            entry |= {"expires_at": gojson.stamp(one.expires_s), "size_vram": vram}
            listed.append(entry | ({"context_length": one.context} if self.modern else {}))
        send_json(exchange, {"models": listed})

    def _v1_models(self, exchange: Exchange) -> None:
        listed = [
            {"id": name, "object": "model", "created": int(MODIFIED), "owned_by": "library"} for name in self.models()
        ]
        send(exchange, gojson.encode({"object": "list", "data": listed}) + b"\n", kind="application/json")

    def _show(self, exchange: Exchange) -> None:
        data = exchange.json()
        model = self.found(str(data.get("model") or data.get("name") or ""))
        if model is None:
            send_json(exchange, {"error": f"model '{data.get('model')}' not found"}, 404)
            return
        blob = f"/usr/share/ollama/.ollama/models/blobs/sha256-{model.digest}"
        template = "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}{{ end }}"
        head = '# Modelfile generated by "ollama show"\n# To build a new Modelfile based on this, replace FROM with:\n'
        head += f"# FROM {model.name}\n\n"
        shown: dict[str, Any] = {
            "modelfile": f'{head}FROM {blob}\nTEMPLATE "{template}"\n',
            "parameters": "",
            "template": template,
        }
        shown |= {"details": model.details(blob), "model_info": model.info(), "modified_at": gojson.stamp(MODIFIED)}
        exchange.start_chunks("200 OK", [("Content-Type", JSON), ("Date", date()), ("Transfer-Encoding", "chunked")])
        exchange.chunk(gojson.encode(shown))
        exchange.end_chunks()

    def _inference(self, exchange: Exchange, answer: Callable[[Memory, Exchange, Model, dict[str, Any]], None]) -> None:
        data = exchange.json()
        name = str(data.get("model", ""))
        model = self.found(name)
        if model is None:
            send_json(exchange, {"error": f"model '{name}' not found"}, 404)
            return
        answered = self.memory.answered
        self.gpu.enter()
        try:
            answer(self.memory, exchange, model, data)
        except RunnerDiedError as died:
            send_json(exchange, {"error": str(died)}, 500)
        finally:
            self.gpu.leave()
        self.answered += 1
        if self.settings.get("forgets_models", False) and self.memory.answered > answered:
            self.memory.unload(model)


def send_json(exchange: Exchange, value: Any, status: int = 200) -> None:
    """Send JSON as gin does."""
    send(exchange, gojson.encode(value), status, JSON)


def send(exchange: Exchange, body: bytes, status: int = 200, kind: str = JSON) -> None:
    """Send a whole answer in Go's order of headers."""
    headers = [("Content-Type", kind), ("Date", date()), ("Content-Length", str(len(body)))]
    exchange.send(REASONS[status], headers, body)
