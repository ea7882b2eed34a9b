"""Dumb servers for the tests of the benchmark script: real sockets, answers by rote, and a log of what was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scripts.benchmark_exo_vs_ollama import metronome_frames

Asked = tuple[str, dict[str, Any]]


class Engine:
    """What one server does: speaks both wire formats, loads and unloads like Ollama, and misbehaves when told to."""

    def __init__(self, tokens: int = 4, gap_s: float = 0.0, cut_after: int | None = None, answers_as: str = "") -> None:
        self.tokens = tokens
        self.gap_s = gap_s
        self.cut_after = cut_after
        """Close the connection after so many frames."""
        self.answers_as = answers_as
        """The model name to answer with, instead of the one asked for."""
        self.missing_models: set[str] = set()
        self.muddled_from = 99
        """From so many requests at once on, answer with other text (EXO 0.0.15 does)."""
        self.never_unloads = False
        self.loaded: set[str] = set()
        self.digests: dict[str, str] = {}
        """Model on its disk -> digest; runners are kept by it, as Ollama does."""
        self.log: list[Asked] = []
        self.url = ""
        self.in_flight = 0
        self.lock = threading.Lock()

    def asked_prompts(self) -> list[str]:
        """Return the prompts of all requests for text, in order of arrival."""
        return [_prompt(payload) for _, payload in self.log if _prompt(payload)]


def _prompt(payload: dict[str, Any]) -> str:
    messages = payload.get("messages")
    return str(messages[0]["content"] if messages else payload.get("prompt", ""))


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    """Serve `engine` on a free loopback port, with its URL in `engine.url`."""

    class Handler(_Handler):
        served = engine

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    engine.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Engine

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        """List the loaded models."""
        with self.served.lock:
            self.served.log.append((self.path, {}))
            names = self.served.digests if self.path == "/api/tags" else self.served.loaded
            models = [{"name": name, "model": name, "digest": self.served.digests.get(name)} for name in names]
        self._json(200, {"models": models})

    def do_POST(self) -> None:
        """Load, unload or generate."""
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        engine, model = self.served, str(payload["model"])
        with engine.lock:
            engine.log.append((self.path, payload))
        if model in engine.missing_models:
            self._json(404, {"error": f"model '{model}' not found"})
        elif _prompt(payload):
            self._generate(engine, model)
        else:
            with engine.lock:
                if payload.get("keep_alive") != 0:
                    engine.loaded.add(model)
                elif not engine.never_unloads:
                    engine.loaded.discard(model)
            self._json(200, {"model": model, "response": "", "done": True, "done_reason": "load"})

    def _generate(self, engine: Engine, model: str) -> None:
        with engine.lock:
            engine.loaded.add(model)
            engine.in_flight += 1
        time.sleep(0.3 if engine.muddled_from < 99 else 0)  # by then all that were sent at once have come
        muddled = engine.in_flight >= engine.muddled_from
        head, frames, end = metronome_frames(self.path, engine.answers_as or model, 1, engine.tokens)
        try:
            self.wfile.write(head)
            for number, frame in enumerate(frames):
                if number == engine.cut_after:
                    return
                self.wfile.write(frame.replace(b"tick", b"tock") if muddled else frame)
                time.sleep(engine.gap_s)
            self.wfile.write(end)
        except OSError:
            pass  # the client was killed, as some tests mean it to be
        finally:
            with engine.lock:
                engine.in_flight -= 1

    def _json(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
