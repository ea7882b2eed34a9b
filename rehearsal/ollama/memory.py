"""What an Ollama stand-in has loaded, how often it loaded, and which prompts each model saw.

Runners are kept by file: of two names of one file the list shows the one that loaded it first. Another context makes a
runner start anew.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from rehearsal.engine.settings import Settings
from rehearsal.ollama.models import MODELS, Model

KEEP_ALIVE_S = 300.0
FOR_EVER_S = 1e9
CONTEXT = 4096


@dataclass
class Loaded:
    """A model in memory."""

    model: Model
    run: int
    expires_s: float
    keep_s: float = KEEP_ALIVE_S
    """How long it stays after a request; one that does not say how long leaves that as it is."""
    context: int = CONTEXT
    requests: int = 0
    prompts: list[str] = field(default_factory=list)
    """Those it saw: the last one again, or since 0.30 any of them, is answered from the cache."""
    dead: bool = False
    """Its process was killed: it is listed as before, and the next request starts it anew."""
    others: bool = False
    """Another client loaded it, and it stays for as long as the settings say that others use it."""


@dataclass
class Memory:
    """Which models are loaded; every load is a new run with its own noise."""

    settings: Settings
    loaded: dict[str, Loaded] = field(default_factory=dict)
    """By digest."""
    loads: int = 0
    _answers: tuple[int, int] = (0, 0)
    """As of which change of the settings, and how many."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def answered(self) -> int:
        """Answers since the settings were last changed: a trap counts from when it is laid."""
        as_of_ns, count = self._answers
        return count if as_of_ns == self.settings.changed_ns() else 0

    def count(self) -> int:
        """Count one more answer; returns how many there are."""
        self._answers = (self.settings.changed_ns(), self.answered + 1)
        return self._answers[1]

    def now(self) -> list[Loaded]:
        """Return what is loaded, what has expired taken out."""
        with self._lock:
            used, models = self.settings.get("others_use", []), self.models()
            self.loaded = {
                digest: one
                for digest, one in self.loaded.items()
                if one.expires_s > time.time() and (not one.others or one.model.name in used)
            }
            if self.answered >= self.settings.number("others_come_after", 0):
                for name in used:
                    other = Loaded(models[name], self.loads, time.time() + FOR_EVER_S, others=True)
                    self.loaded.setdefault(models[name].digest, other)
            return list(self.loaded.values())

    def models(self) -> dict[str, Model]:
        """Return what is pulled, other names of one file included (the setting `aliases`: name -> model)."""
        aliases = self.settings.get("aliases", {})
        return MODELS | {name: replace(MODELS[of], name=name, file=of) for name, of in aliases.items()}

    def load(self, model: Model, keep_alive_s: float | None, context: int | None = None) -> tuple[Loaded, float]:
        """Make sure that `model` is loaded, with this context if one is named; returns it and the seconds it took."""
        began = time.monotonic()
        self.now()
        with self._lock:
            one = self.loaded.get(model.digest)
            if one is None or one.dead or (context or one.context) != one.context:
                time.sleep(self.settings.number("load_s", 0.15))
                keep_s = self.settings.number("keep_alive_s", KEEP_ALIVE_S)  # OLLAMA_KEEP_ALIVE
                one = self.loaded[model.digest] = Loaded(model, self.loads, 0.0, keep_s, context or CONTEXT)
                self.loads += 1
            one.keep_s = one.keep_s if keep_alive_s is None else keep_alive_s
            one.expires_s = time.time() + one.keep_s
        return one, time.monotonic() - began

    def unload(self, model: Model) -> None:
        """Take `model` out of memory; one that others use comes back at once."""
        with self._lock:
            self.loaded.pop(model.digest, None)


def keep_alive(value: object) -> float | None:
    """Return Ollama's keep_alive in seconds: a number, `5m`, `30s`, `1h`; negative means for ever; None is not told."""
    if value is None:
        return None
    text = str(value)
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], 0.0)
    seconds = float(text[:-1]) * unit if unit else float(text)
    return FOR_EVER_S if seconds < 0 else seconds
