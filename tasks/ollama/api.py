"""Ollama's own API as requests and parsers; nothing else of Ollama is ever touched.

Observed on 0.5.13; fields that other versions leave out are None or absent here, never an error. Names are compared as
Ollama does it: `llama3.2` is `llama3.2:latest`.
"""

from __future__ import annotations

import msgspec

from records.facts import DeviceKind, OllamaModel, OllamaState
from tasks.errors import StepError
from tasks.machines.wire import Reply, Request, read_reply


class _Details(msgspec.Struct, frozen=True):
    parameter_size: str | None = None
    quantization_level: str | None = None


class _Model(msgspec.Struct, frozen=True):
    name: str = ""
    model: str = ""
    digest: str | None = None
    size: int | None = None
    size_vram: int | None = None
    details: _Details | None = None


class _Models(msgspec.Struct, frozen=True):
    models: list[_Model] | None = None


class _Version(msgspec.Struct, frozen=True):
    version: str | None = None


def version_request() -> Request:
    """Return the request for the server's version."""
    return Request("GET", "/api/version")


def tags_request() -> Request:
    """Return the request for the models on its disk."""
    return Request("GET", "/api/tags")


def ps_request() -> Request:
    """Return the request for the models in its memory."""
    return Request("GET", "/api/ps")


def unload_request(model: str) -> Request:
    """Return the request that takes `model` out of memory; only /api/ps tells when it is gone."""
    return Request("POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False}, 60)


def parse_state(arm: str, url: str, version: Reply, tags: Reply, loaded: Reply) -> OllamaState:
    """Read the answers to version, tags and ps; the first that is none becomes `error`, for people."""
    try:
        number = read_reply(version, _Version, "Ollama's version").version
        models = {m.name or m.model: m.digest or "" for m in _models(tags, "Ollama's models")}
        memory = parse_names(loaded)
    except StepError as error:
        return OllamaState(arm, url, None, {}, error=error.problem.found)
    return OllamaState(arm, url, number, models, memory)


def parse_names(loaded: Reply) -> list[str]:
    """Return the names of the models that /api/ps lists. Raises StepError."""
    return [m.name or m.model for m in _models(loaded, "Ollama's loaded models")]


def parse_model(arm: str, model: str, tags: Reply) -> OllamaModel | None:
    """Return what /api/tags says of `model`, None where the server does not have it. Raises StepError."""
    return _described(arm, model, _find(model, _models(tags, "Ollama's models")))


def parse_loaded(arm: str, model: str, loaded: Reply) -> OllamaModel | None:
    """Return what /api/ps says of `model` with `size_vram_bytes`, None where it is not loaded. Raises StepError."""
    return _described(arm, model, _find(model, _models(loaded, "Ollama's loaded models")))


def device_of(model: OllamaModel) -> tuple[str, DeviceKind]:
    """Return where a loaded model computes, as words and as `gpu`, `cpu` or `unknown`.

    Ollama offloads layers: with a part of the model in VRAM, the GPU and the CPU both compute, which is not `gpu`.
    """
    vram, whole = model.size_vram_bytes, model.size_bytes
    if vram is None:
        return "Ollama does not tell", "unknown"
    if vram == 0:
        return "CPU (size_vram 0)", "cpu"
    if whole and vram < 0.98 * whole:
        return f"GPU and CPU ({100 * vram / whole:.0f} % in VRAM)", "unknown"
    return "GPU (all in VRAM)", "gpu"


def same_name(one: str, other: str) -> bool:
    """Tell whether two names mean one model: a missing tag is `:latest`."""
    return _tagged(one) == _tagged(other)


def changes(before: OllamaState, after: OllamaState) -> list[str]:
    """Return what is different in a server's version, models and health; empty means unaffected by us.

    What is loaded does not count: Ollama unloads by itself after its keep-alive.
    """
    if before.error or after.error:
        return [f"{state.arm}: {state.error}" for state in (before, after) if state.error]
    changed = []
    if before.version != after.version:
        changed.append(f"version {before.version} is now {after.version}")
    changed += [f"{name} is gone" for name in sorted(before.models.keys() - after.models.keys())]
    both = sorted(before.models.keys() & after.models.keys())
    changed += [f"{name} has another digest" for name in both if before.models[name] != after.models[name]]
    return [f"{before.arm}: {change}" for change in changed]


def _models(reply: Reply, what: str) -> list[_Model]:
    return read_reply(reply, _Models, what).models or []


def _find(model: str, among: list[_Model]) -> _Model | None:
    return next((m for m in among if same_name(m.name or m.model, model)), None)


def _described(arm: str, model: str, found: _Model | None) -> OllamaModel | None:
    if found is None:
        return None
    details = found.details or _Details()
    return OllamaModel(
        arm=arm,
        model=model,
        digest=found.digest or "",
        quantization=details.quantization_level or None,
        parameter_size=details.parameter_size or None,
        size_bytes=found.size,
        size_vram_bytes=found.size_vram,
    )


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
