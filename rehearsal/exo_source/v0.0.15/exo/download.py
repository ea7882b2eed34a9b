"""Fetch a model: files below ~/.cache/exo/downloads, progress told to every node, in about a second.

File names, sizes and the progress JSON are those recorded from a tiny model; the files are of that size, but hollow.
"""

import os
import threading
import time
from pathlib import Path

from .cards import TINYGRAD
from .node import Node

FILES = {
    "config.json": 283,
    "model-00001-of-00004.safetensors": 2539880,
    "model-00002-of-00004.safetensors": 2367224,
    "model-00003-of-00004.safetensors": 2367248,
    "model-00004-of-00004.safetensors": 2540496,
    "model.safetensors.index.json": 11430,
    "special_tokens_map.json": 68,
    "tokenizer.json": 10536,
    "tokenizer_config.json": 1195,
}
TICK_S = 0.1
ATTEMPTS = 30


def folder(model: str) -> Path:
    """Return where the files of `model` lie on this node."""
    home = Path(os.environ.get("EXO_HOME") or Path.home() / ".cache" / "exo")
    return home / "downloads" / TINYGRAD[model][0].replace("/", "--")


class Downloads:
    """What this node fetches; a model that is being fetched is waited for, not fetched twice."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._locks: dict[str, threading.Lock] = {}

    def ensure(self, model: str, weights: list[int]) -> None:
        """Fetch what is missing of `model`; `weights` are the numbers of its weight files that are needed here."""
        with self._locks.setdefault(model, threading.Lock()):
            if self._node.settings.get("hub_down", False) and "HF_ENDPOINT" not in os.environ:
                _ask_in_vain(TINYGRAD[model][0])
            wanted = [name for name in FILES if not name.startswith("model-000") or int(name[6:11]) in weights]
            missing = [name for name in wanted if not (folder(model) / name).exists()]
            if missing:
                self._fetch(model, wanted, missing)

    def there(self, model: str) -> bool:
        """Tell whether the model's tokenizer is on this node, without which it cannot even be asked."""
        return (folder(model) / "tokenizer.json").exists()

    def ensure_aside(self, model: str) -> None:
        """Fetch the whole of `model` from a thread of its own."""
        threading.Thread(target=self.ensure, args=(model, [1, 2, 3, 4]), daemon=True).start()

    def _fetch(self, model: str, wanted: list[str], missing: list[str]) -> None:
        target, began, began_wall = folder(model), time.monotonic(), time.time()
        target.mkdir(parents=True, exist_ok=True)
        fails_at = self._node.settings.get("download_fails_at", None)
        while True:
            elapsed_s = time.monotonic() - began
            share = min(1.0, elapsed_s / max(0.001, self._node.settings.number("download_s", 1.0)))
            if fails_at is not None and share >= float(fails_at):
                break  # as the real one: no record of the failure, it just is not there
            if share >= 1.0:
                for name in missing:
                    with (target / name).open("wb") as file:
                        file.truncate(FILES[name])
                break
            self._node.tell_download(_progress(model, wanted, missing, share, elapsed_s, began_wall))
            time.sleep(TICK_S)
        self._node.tell_download(None)


def _ask_in_vain(repo: str) -> None:
    """Ask a hub that is out of reach for the list of files, in the real one's rhythm; even where all files are here."""
    for attempt in range(ATTEMPTS):
        print(
            f"Download error on attempt {attempt}/{ATTEMPTS} for repo_id='{repo}' revision='main'"
            f" path='model.safetensors.index.json' target_dir=PosixPath('/tmp/exo/{repo.replace('/', '--')}')"
        )
        print("Traceback (most recent call last):\naiohttp.client_exceptions.ClientConnectorDNSError: Cannot connect to"
              " host huggingface.co:443 ssl:default [Name or service not known]", flush=True)  # fmt: skip
        time.sleep(min(8, 0.1 * 2**attempt))


def weights_of(index: int, nodes: int) -> list[int]:
    """Return which of the 4 weight files hold the layers of member `index` of a ring of `nodes`."""
    first, last = index * 4 // nodes, -(-(index + 1) * 4 // nodes)
    return list(range(first + 1, last + 1))


def _progress(
    model: str, wanted: list[str], missing: list[str], share: float, elapsed_s: float, began_wall: float
) -> dict:
    repo, layers, _ = TINYGRAD[model]
    files, here, total = {}, 0, sum(FILES[name] for name in wanted)
    for name in wanted:
        size = FILES[name]
        small = size < 100_000
        got = size if name not in missing or small else int(size * share) // 100_000 * 100_000
        here += got
        speed = got / max(elapsed_s, 0.001)
        files[name] = {
            "repo_id": repo,
            "repo_revision": "main",
            "file_path": name,
            "downloaded": got,
            "downloaded_this_session": got,
            "total": size,
            "speed": speed,
            "eta": 0.0 if got == size else round((size - got) / max(speed, 1.0), 6),
            "status": "complete" if got == size else "in_progress",
            "start_time": began_wall,
        }
    speed = here / max(elapsed_s, 0.001)
    return {
        "shard": {"model_id": model, "start_layer": 0, "end_layer": layers - 1, "n_layers": layers},
        "repo_id": repo,
        "repo_revision": "main",
        "completed_files": sum(f["status"] == "complete" for f in files.values()),
        "total_files": len(wanted),
        "downloaded_bytes": here,
        "downloaded_bytes_this_session": here,
        "total_bytes": total,
        "overall_speed": speed,
        "overall_eta": round((total - here) / max(speed, 1.0), 6),
        "file_progress": files,
        "status": "in_progress",
    }
