"""Ollama's own API as requests and parsers; nothing else of Ollama is ever touched.

Observed on 0.5.13, 0.32.14 and 0.33.0-rc2; fields that other versions leave out are None or absent here, never an
error. Names are compared as Ollama does it: `llama3.2` is `llama3.2:latest`, and case is nothing. A model in memory is
known by its file, not by its name: Ollama keeps runners by file, and /api/ps shows the name that loaded one first.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TypeVar

import msgspec

from records.facts import DeviceKind, OllamaModel, OllamaState
from records.samples import LoadedModel
from tasks.decode import decode
from tasks.errors import StepError
from tasks.machines.wire import Reply, Request, shortened

T = TypeVar("T")
LOOK = "look at that Ollama on its node: systemctl status ollama; journalctl -u ollama"


class _Details(msgspec.Struct, frozen=True):
    parameter_size: str | None = None
    quantization_level: str | None = None


class _Model(msgspec.Struct, frozen=True):
    name: str = ""
    model: str = ""
    digest: str | None = None
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None
    expires_at: str | None = None
    details: _Details | None = None


class _Models(msgspec.Struct, frozen=True):
    models: list[_Model] | None = None


class _Shown(msgspec.Struct, frozen=True):
    modelfile: str | None = None


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


def show_request(model: str) -> Request:
    """Return the request for what a model is made of."""
    return Request("POST", "/api/show", {"model": model})


def load_request(model: str, num_ctx: int, keep_s: int, timeout_s: float) -> Request:
    """Return the request that loads `model` as the runs ask for it, or an answer to it would load it once more.

    `keep_s` is sent too: a server with OLLAMA_KEEP_ALIVE=0 lets go of a model after each answer otherwise.
    """
    body = {"model": model, "stream": False, "options": {"num_ctx": num_ctx}, "keep_alive": f"{keep_s}s"}
    return Request("POST", "/api/generate", body, timeout_s)


def unload_request(model: str) -> Request:
    """Return the request that takes `model` out of memory; only /api/ps tells when it is gone."""
    return Request("POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False}, 60)


def parse_state(arm: str, url: str, version: Reply, tags: Reply, loaded: Reply) -> OllamaState:
    """Read the answers to version, tags and ps; the first that is none becomes `error`, for people."""
    try:
        number = _read(version, _Version, "Ollama's version").version
        models = {m.name or m.model: m.digest or "" for m in _models(tags, "Ollama's models")}
        memory = [m.name or m.model for m in _models(loaded, "Ollama's loaded models")]
    except StepError as error:
        return OllamaState(arm, url, None, {}, error=error.problem.found)
    return OllamaState(arm, url, number, models, memory)


def parse_version(reply: Reply) -> str:
    """Return the version that an answer names, "" where it names none. Raises StepError where it is an error."""
    return _read(reply, _Version, "Ollama").version or ""


def parse_model(arm: str, model: str, tags: Reply) -> OllamaModel | None:
    """Return what /api/tags says of `model`, None where the server does not have it. Raises StepError."""
    return _described(arm, model, _find(model, _models(tags, "Ollama's models")))


def parse_memory(loaded: Reply, now_s: float) -> list[LoadedModel]:
    """Return all that /api/ps lists; `now_s` is the time (Unix) to which expiry is counted. Raises StepError."""
    return [
        LoadedModel(
            name=m.name or m.model,
            digest=m.digest or "",
            memory_bytes=m.size,
            vram_bytes=m.size_vram,
            context_length=m.context_length,
            expires_in_s=_seconds_until(m.expires_at, now_s),
        )
        for m in _models(loaded, "Ollama's loaded models")
    ]


def parse_blob(shown: Reply) -> str:
    """Return the file of weights that a Modelfile names (`FROM .../blobs/sha256-...`), "" where it names none."""
    try:
        modelfile = _read(shown, _Shown, "Ollama's model").modelfile or ""
    except StepError:
        return ""
    found = re.search(r"^FROM \S*(sha256[-:][0-9a-f]{64})\s*$", modelfile, re.MULTILINE)
    return found[1] if found else ""


def with_memory(model: OllamaModel, loaded: LoadedModel | None) -> OllamaModel:
    """Return a model with what it is in memory, beside what it is on disk."""
    if loaded is None:
        return model
    return msgspec.structs.replace(
        model,
        size_vram_bytes=loaded.vram_bytes,
        memory_bytes=loaded.memory_bytes,
        context_length=loaded.context_length,
    )


def device_of(model: OllamaModel) -> tuple[str, DeviceKind]:
    """Return where a loaded model computes, as words and as `gpu`, `cpu` or `unknown`.

    Ollama offloads layers: with a part of the model in VRAM, the GPU and the CPU both compute, which is not `gpu`.
    """
    vram, whole = model.size_vram_bytes, model.memory_bytes or model.size_bytes
    if vram is None:
        return "Ollama does not tell", "unknown"
    if vram == 0:
        return "CPU (size_vram 0)", "cpu"
    if whole and vram < 0.98 * whole:
        return f"GPU and CPU ({100 * vram / whole:.0f} % in VRAM)", "unknown"
    return "GPU (all in VRAM)", "gpu"


def same_name(one: str, other: str) -> bool:
    """Tell whether two names mean one model: a missing tag is `:latest`, and case is nothing."""
    return _tagged(one).lower() == _tagged(other).lower()


def changes(before: OllamaState, after: OllamaState) -> list[str]:
    """Return what is different in a server's version, in the models that it had, and in its health.

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


def touched(before: OllamaState, after: OllamaState) -> list[str]:
    """Return what others did to a server that leaves it the same Ollama: started anew, or a model pulled to it."""
    if before.error or after.error:
        return []
    told = [f"{name} is new" for name in sorted(after.models.keys() - before.models.keys())]
    if before.boot and after.boot and before.boot != after.boot:
        told.append("its node was started anew")
    elif before.started and after.started and before.started != after.started:
        told.append("its process was started anew")
    return [f"{before.arm}: {what}" for what in told]


def _read(reply: Reply, kind: type[T], what: str) -> T:
    """Decode a 200 answer as `kind`. Raises StepError, with advice about Ollama, for anything else."""
    if reply.status != 200:
        raise StepError(f"{what}: {reply.words}", "HTTP 200", LOOK)
    try:
        return decode(reply.text, kind)
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError) as error:
        raise StepError(f"{what} cannot be read ({error}): {shortened(reply.text)}", "Ollama's JSON", LOOK) from error


def _models(reply: Reply, what: str) -> list[_Model]:
    return _read(reply, _Models, what).models or []


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
    )


def _seconds_until(stamp: str | None, now_s: float) -> float | None:
    """Return the seconds from `now_s` until one of Go's time stamps, which have up to nine decimals."""
    try:
        at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", stamp or ""))
    except ValueError:
        return None
    return round(at.timestamp() - now_s, 3) if at.tzinfo else None


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
