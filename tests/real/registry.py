"""A registry that a genuine Ollama pulls one model from, and an /api/ps that tells no digests: HTTP on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MODEL, CONFIG = "application/vnd.ollama.image.model", "application/vnd.docker.container.image.v1+json"
PULLED = "library/pulled:135m"


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ThreadingHTTPServer

    def log_message(self, *_: object) -> None:
        """Say nothing: what is proven is what the product says."""

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def registry(gguf: bytes) -> Iterator[str]:
    """Serve a model of one GGUF file under PULLED; gives the address. Like the real one it sends to another host."""
    config = json.dumps({"model_format": "gguf", "model_family": "llama", "model_type": "135M", "file_type": "Q4_1"})
    blobs = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in (config.encode(), gguf)}
    config_layer, model_layer = (
        {"mediaType": kind, "digest": digest, "size": len(data)}
        for kind, (digest, data) in zip((CONFIG, MODEL), blobs.items(), strict=True)
    )
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config_layer, "layers": [model_layer]}

    class Registry(_Server):
        def do_GET(self) -> None:
            asked = self.path.rpartition("/")[2]
            span = self.headers.get("Range", "").removeprefix("bytes=")
            if "/manifests/" in self.path:
                self.reply(200, json.dumps(manifest).encode(), Content_Type=MANIFEST)
            elif asked not in blobs:
                self.reply(404, b"{}")
            elif span:
                first, _, last = span.partition("-")
                whole = blobs[asked]
                part = whole[int(first) : int(last) + 1 if last else None]
                self.reply(206, part, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(whole)}")
            elif self.command == "HEAD":
                self.reply(200, blobs[asked])
            else:
                self.reply(307, b"", Location=f"http://localhost:{self.server.server_port}{self.path}")

        def do_HEAD(self) -> None:
            self.do_GET()

    with _served("127.0.0.1", Registry) as url:
        yield url


@contextmanager
def without_digests(url: str, address: str) -> Iterator[str]:
    """Hand every request to `address` on to the Ollama at `url`, less the digests of its /api/ps; gives the URL."""

    class Between(_Server):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = urllib.request.Request(url + self.path, sent or None, method=self.command)
            try:
                with urllib.request.urlopen(asked, timeout=120) as answer:
                    status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
            except urllib.error.HTTPError as error:
                status, kind, body = error.code, error.headers["Content-Type"], error.read()
            if self.path == "/api/ps":
                told = json.loads(body)
                body = json.dumps(
                    {"models": [{k: v for k, v in m.items() if k != "digest"} for m in told["models"]]}
                ).encode()
            self.reply(status, body, Content_Type=kind)

        def do_POST(self) -> None:
            self.do_GET()

    with _served(address, Between) as between:
        yield between


@contextmanager
def _served(address: str, handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port while the body runs; gives the URL."""
    with ThreadingHTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{address}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(30)
