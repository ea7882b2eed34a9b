"""The baselines' Ollama servers, asked through their own API from the bench node; never anything but their API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

from records.facts import OllamaModel, OllamaState
from records.settings import Baseline
from tasks.errors import StepError, one_each
from tasks.machines.http import call_url
from tasks.machines.lab import Lab, side_by_side
from tasks.machines.node import Node
from tasks.machines.wire import Reply, Request
from tasks.ollama import api as ollama

UNLOAD_TIMEOUT_S = 60


class OllamaServer:
    """One baseline's server, asked from the bench node."""

    def __init__(self, arm: str, baseline: Baseline, bench_node: Node) -> None:
        self.arm = arm
        self.baseline = baseline
        self.url = baseline.url
        self._bench_node = bench_node

    def ask(self, request: Request) -> Reply:
        """Send `request` to the server; status 0 where there is no answer."""
        return call_url(self._bench_node, self.url, request)

    def state(self) -> OllamaState:
        """Return its version, its models and what it holds in memory; `error` is set where it does not answer."""
        asked = {"version": ollama.version_request(), "tags": ollama.tags_request(), "loaded": ollama.ps_request()}
        replies = side_by_side({name: partial(self.ask, request) for name, request in asked.items()})
        return ollama.parse_state(self.arm, self.url, **replies)

    def model(self, name: str) -> OllamaModel | None:
        """Return the model as the server describes it, None where it does not have it. Raises StepError."""
        return self._described(ollama.parse_model, name, ollama.tags_request())

    def in_memory(self, name: str) -> OllamaModel | None:
        """Return the model as /api/ps describes it, its share on the GPU included; None where it is not loaded."""
        return self._described(ollama.parse_loaded, name, ollama.ps_request())

    def loaded(self) -> list[str]:
        """Return the models in its memory. Raises StepError where it does not answer."""
        try:
            return ollama.parse_names(self.ask(ollama.ps_request()))
        except StepError as error:
            raise StepError(f"{self.url}: {error}", "an answer", "is it still running?", who=_who(self.arm)) from None

    def unload(self, name: str) -> None:
        """Take a model out of memory and see that it is gone. Raises StepError."""
        if not self._holds(name):
            return
        self.ask(ollama.unload_request(name))
        for _ in range(int(UNLOAD_TIMEOUT_S / 0.2)):
            if not self._holds(name):
                return
            time.sleep(0.2)
        raise StepError(
            f"{self.url} still holds {name} {UNLOAD_TIMEOUT_S} s after it was told to unload it",
            "an arm that is not measured out of memory",
            f"curl {self.url}/api/ps; who else uses that model?",
            who=_who(self.arm),
        )

    def _described(
        self, parse: Callable[[str, str, Reply], OllamaModel | None], name: str, request: Request
    ) -> OllamaModel | None:
        try:
            return parse(self.arm, name, self.ask(request))
        except StepError as error:
            raise error.about(_who(self.arm)) from None

    def _holds(self, name: str) -> bool:
        return any(ollama.same_name(name, loaded) for loaded in self.loaded())


def servers_of(lab: Lab) -> dict[str, OllamaServer]:
    """Return the servers of all baselines."""
    return {arm: OllamaServer(arm, baseline, lab.bench_node) for arm, baseline in lab.inventory.ollama.items()}


def ask_servers(lab: Lab) -> dict[str, OllamaState]:
    """Return every baseline's state; one that does not answer has `error` set."""
    return side_by_side({arm: server.state for arm, server in servers_of(lab).items()})


def refuse_silent(states: Iterable[OllamaState], needed: str, do: str) -> None:
    """Raise StepError with a problem for every server of `states` that did not answer."""
    silent = {_who(state.arm): f"{state.url}: {state.error}" for state in states if state.error}
    if silent:
        raise one_each(silent, needed, do)


def _who(arm: str) -> str:
    return f"Ollama '{arm}'"
