"""What an Ollama stand-in has loaded, how often it loaded, and which prompt each model saw last."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from rehearsal.engine.settings import Settings
from rehearsal.ollama.models import MODELS, Model

KEEP_ALIVE_S = 300.0
FOR_EVER_S = 1e9


@dataclass
class Loaded:
    """A model in memory."""

    model: Model
    run: int
    expires_s: float
    requests: int = 0
    prompt: str = ""
    """The last one: the same again is answered from the cache."""


@dataclass
class Memory:
    """Which models are loaded; every load is a new run with its own noise."""

    settings: Settings
    loaded: dict[str, Loaded] = field(default_factory=dict)
    loads: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> list[Loaded]:
        """Return what is loaded, what has expired taken out."""
        with self._lock:
            self.loaded = {name: one for name, one in self.loaded.items() if one.expires_s > time.time()}
            for name in self.settings.get("others_use", []):
                self.loaded.setdefault(name, Loaded(MODELS[name], self.loads, time.time() + FOR_EVER_S))
            return list(self.loaded.values())

    def load(self, model: Model, keep_alive_s: float) -> tuple[Loaded, float]:
        """Make sure that `model` is loaded; returns it and the seconds that this took."""
        began = time.monotonic()
        self.now()
        with self._lock:
            one = self.loaded.get(model.name)
            if one is None:
                time.sleep(self.settings.number("load_s", 0.15))
                one = self.loaded[model.name] = Loaded(model, self.loads, 0.0)
                self.loads += 1
            one.expires_s = time.time() + keep_alive_s
        return one, time.monotonic() - began

    def unload(self, model: Model) -> None:
        """Take `model` out of memory; one that others use comes back at once."""
        with self._lock:
            self.loaded.pop(model.name, None)


def keep_alive(value: object) -> float:
    """Return Ollama's keep_alive in seconds: a number, `5m`, `30s`, `1h`; negative means for ever."""
    if value is None:
        return KEEP_ALIVE_S
    text = str(value)
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], 0.0)
    seconds = float(text[:-1]) * unit if unit else float(text)
    return FOR_EVER_S if seconds < 0 else seconds
