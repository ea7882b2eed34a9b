"""What this node has of each model: files below ~/.local/share/exo/models, fetched in a second or two, hollow."""

import threading
import time
from pathlib import Path

from .cards import model_of, shard
from .engine.settings import Settings

FILES = {"config.json": 1024, "model.safetensors": 9_825_000, "tokenizer.json": 11_430, "tokenizer_config.json": 1_104}
TOTAL = sum(FILES.values())
TICK_S = 0.1


class Downloads:
    """The downloads of one node; only what is not pending is told to the other nodes."""

    def __init__(self, node_id: str) -> None:
        self._id = node_id
        self._settings = Settings("exo")
        self.known: dict[str, dict] = {}
        """Model -> its entry in the state."""

    def folder(self, model: str) -> Path:
        """Return where the files of `model` lie."""
        return Path.home() / ".local" / "share" / "exo" / "models" / model.replace("/", "--")

    def look(self, cards: dict[str, dict]) -> None:
        """Find what an earlier start has left."""
        for model, one in cards.items():
            if model not in self.known and all((self.folder(model) / name).exists() for name in FILES):
                self.known[model] = self._completed(model, shard(one))

    def complete(self, model: str) -> bool:
        """Tell whether all files of `model` are here."""
        return "DownloadCompleted" in self.known.get(model, {})

    def start(self, metadata: dict) -> None:
        """Fetch a model unless it is here or on its way."""
        model = model_of(metadata)
        if set(self.known.get(model, {})) & {"DownloadCompleted", "DownloadOngoing"}:
            return
        self.known[model] = self._ongoing(model, metadata, 0, 0.001)
        threading.Thread(target=self._fetch, args=(model, metadata), daemon=True).start()

    def pending(self, node_id: str, one: dict) -> dict:
        """Return the entry of a model that nobody asked for."""
        entry = {"nodeId": node_id, "shardMetadata": shard(one), "modelDirectory": str(self.folder(one["modelId"]))}
        return {"DownloadPending": entry | {"downloaded": {"inBytes": 0}, "total": {"inBytes": 0}}}

    def _fetch(self, model: str, metadata: dict) -> None:
        began = time.monotonic()
        fails_at = self._settings.get("download_fails_at", None)
        while (share := (time.monotonic() - began) / max(0.001, self._settings.number("download_s", 1.0))) < 1.0:
            if fails_at is not None and share >= float(fails_at):
                said = "Failed to download model.safetensors: Cannot connect to host huggingface.co:443"
                self.known[model] = {"DownloadFailed": self._base(model, metadata) | {"errorMessage": said}}
                return
            self.known[model] = self._ongoing(model, metadata, int(TOTAL * share), time.monotonic() - began)
            time.sleep(TICK_S)
        self.folder(model).mkdir(parents=True, exist_ok=True)
        for name, size in FILES.items():
            with (self.folder(model) / name).open("wb") as file:
                file.truncate(size)
        self.known[model] = self._completed(model, metadata)

    def _base(self, model: str, metadata: dict) -> dict:
        return {"nodeId": self._id, "shardMetadata": metadata, "modelDirectory": str(self.folder(model))}

    def _completed(self, model: str, metadata: dict) -> dict:
        return {"DownloadCompleted": self._base(model, metadata) | {"total": {"inBytes": TOTAL}, "readOnly": False}}

    def _ongoing(self, model: str, metadata: dict, done: int, elapsed_s: float) -> dict:
        speed = done / max(elapsed_s, 0.001)
        progress = {
            "total": {"inBytes": TOTAL},
            "downloaded": {"inBytes": done},
            "downloadedThisSession": {"inBytes": done},
            "completedFiles": 0,
            "totalFiles": len(FILES),
            "speed": speed,
            "etaMs": int((TOTAL - done) / max(speed, 1.0) * 1000),
            "files": {},
        }
        return {"DownloadOngoing": self._base(model, metadata) | {"downloadProgress": progress}}
