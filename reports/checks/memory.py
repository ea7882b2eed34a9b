"""What /api/ps and the nodes' processes tell about a run: another's model in memory, our own not ours alone."""

from __future__ import annotations

from records.samples import Conditions, LoadedModel

EXPIRY_SLACK_S = 60.0
"""A request of ours sets the time in memory anew each time; another client's default is minutes off ours."""


def strangers(note: Conditions) -> list[str]:
    """Return what was in memory just before and after a run that does not belong there; empty where nothing was.

    A request that another client sent to our model in the middle of a run, and that ours came after, leaves no trace
    here: it shows as slowness alone.
    """
    found = [f"{model} in memory before the run" for model in note.neighbours_loaded]
    found += [
        f"{node}: {seen.runners} EXO runners in memory before the run ({seen.memory_bytes / 1e6:.0f} MB)"
        for node, seen in sorted(note.exo_seen.items())
        if seen.runners
    ]
    for when, memory in (("before", note.memory_before), ("after", note.memory_after)):
        for server, models in memory.items():
            own = _own(note, models) if server == note.arm else None
            found += [f"{server}: {model.name} in memory {when} the run" for model in models if model is not own]
    before = _own(note, note.memory_before.get(note.arm, []))
    after = _own(note, note.memory_after.get(note.arm, []))
    if before is None or note.arm not in note.memory_after:
        return list(dict.fromkeys(found))
    if after is None:
        found.append(f"{note.arm}: {before.name} was gone from memory after the run")
    else:
        found += [f"{note.arm}: {what}" for what in _changed(before, after)]
    return list(dict.fromkeys(found))


def kept_its_engine(note: Conditions) -> bool:
    """Tell whether the very processes that computed before the run computed after it: then nothing was loaded in it.

    The durations that a server tells do not always say that: 0.32.14 spends seconds in each request on a busy machine.
    """
    return bool(note.engines_before) and note.engines_before == note.engines_after


def _own(note: Conditions, models: list[LoadedModel]) -> LoadedModel | None:
    return next((model for model in models if model.name == note.ollama_name), None)


def _changed(before: LoadedModel, after: LoadedModel) -> list[str]:
    """Return the signs that another client loaded or asked our model."""
    found = []
    if None not in (before.context_length, after.context_length) and before.context_length != after.context_length:
        found.append(f"{after.name} was loaded anew by another client (context {after.context_length})")
    elif before.vram_bytes != after.vram_bytes:
        found.append(f"{after.name} was loaded anew: {after.vram_bytes} bytes on the GPU, {before.vram_bytes} before")
    if before.expires_in_s is not None and after.expires_in_s is not None:
        moved_s = after.expires_in_s - before.expires_in_s
        if abs(moved_s) > EXPIRY_SLACK_S:
            found.append(
                f"another client asked {after.name}: it would stay {after.expires_in_s:.0f} s, and we asked for"
                f" {before.expires_in_s:.0f} s"
            )
    return found
