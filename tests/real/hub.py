"""A look-alike of the model hub, as far as EXO asks it: `python -m tests.real.hub FOLDER PORT`.

`/api/models/OWNER/NAME/tree/main` lists a repository, `/api/models/OWNER/NAME/revision/main` does so for the hub's own
client in EXO 1.x, `/OWNER/NAME/resolve/main/FILE` is one of its files.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """Serves the repositories below `folder`."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:
        """Answer with the body."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without it."""
        self._answer()

    def _answer(self) -> None:
        match self.path.partition("?")[0].strip("/").split("/"):
            case ["api", "models", owner, name, "tree", _] if (self.folder / owner / name).is_dir():
                files = sorted((self.folder / owner / name).iterdir())
                self._json(200, [{"type": "file", "path": f.name, "size": f.stat().st_size} for f in files])
            case ["api", "models", _, _, "tree", _]:
                # EXO 1.x asks for each of its 120 models every few minutes; where all are refused, its own log of that
                # takes a third of a processor on every node.
                self._json(200, [{"type": "file", "path": "model.safetensors", "size": 10**9}])
            case ["api", "models", owner, name, "revision", _] if (self.folder / owner / name).is_dir():
                files = sorted((self.folder / owner / name).iterdir())
                listed = [{"rfilename": f.name, "size": f.stat().st_size} for f in files]
                self._json(200, {"id": f"{owner}/{name}", "sha": REVISION, "siblings": listed})
            case [owner, name, "resolve", _, file] if (self.folder / owner / name / file).is_file():
                self._file(self.folder / owner / name / file)
            case _:
                self._json(404, {"error": "Entry not found"})

    def _json(self, status: int, content: object) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, path: Path) -> None:
        data, etag = path.read_bytes(), f'"{_digest(path)}"'
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": etag, "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        if path.suffix == ".safetensors":
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": etag}
        self._send(206 if start else 200, data[start:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@cache
def _digest(path: Path) -> str:
    """Return the hub's ETag: SHA-256 for what it keeps as a large file, git's own for the rest."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    ThreadingHTTPServer(("", int(sys.argv[2])), Hub).serve_forever()
