"""Ask the baselines' Ollama servers through their own API, from the bench node; never anything but their API."""

from __future__ import annotations

from functools import partial

from records.facts import OllamaState
from tasks.machines.http import call_url
from tasks.machines.lab import Lab, side_by_side
from tasks.ollama import api as ollama


def ask_servers(lab: Lab) -> dict[str, OllamaState]:
    """Return every baseline's state; one that does not answer has `error` set."""
    return side_by_side({arm: partial(ask_server, lab, arm) for arm in lab.inventory.ollama})


def ask_server(lab: Lab, arm: str) -> OllamaState:
    """Return one baseline's version, models and what it holds in memory."""
    url = lab.inventory.ollama[arm].url
    version, tags, loaded = (
        call_url(lab.bench_node, url, request)
        for request in (ollama.version_request(), ollama.tags_request(), ollama.ps_request())
    )
    return ollama.parse_state(arm, url, version, tags, loaded)
