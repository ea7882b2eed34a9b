"""The baselines' Ollama servers, asked through their own API from the bench node; never anything but their API."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from records.facts import OllamaModel, OllamaState
from records.samples import LoadedModel
from records.settings import Baseline
from tasks.errors import StepError, one_each
from tasks.machines.http import call_url
from tasks.machines.lab import Lab, side_by_side
from tasks.machines.node import Node
from tasks.machines.wire import Reply, Request
from tasks.ollama import api as ollama

UNLOAD_TIMEOUT_S = 20
UNLOAD_POLL_S = 0.1


class OllamaError(StepError):
    """A server of Ollama's did not do what was asked: where a run is measured, the run is lost and not the step."""


class OllamaServer:
    """One baseline's server, asked from the bench node."""

    def __init__(self, arm: str, baseline: Baseline, bench_node: Node, node: Node | None = None) -> None:
        self.arm = arm
        self.baseline = baseline
        self.url = baseline.url
        self._bench_node = bench_node
        self._node = node

    def ask(self, request: Request) -> Reply:
        """Send `request` to the server; status 0 where there is no answer."""
        return call_url(self._bench_node, self.url, request)

    def state(self) -> OllamaState:
        """Return its version, its models and what it holds in memory; `error` is set where it does not answer."""
        asked = {"version": ollama.version_request(), "tags": ollama.tags_request(), "loaded": ollama.ps_request()}
        jobs: dict[str, Callable[[], Any]] = {name: partial(self.ask, request) for name, request in asked.items()}
        if self._node is not None:
            jobs["process"] = partial(server_process, self._node, self.url)
        told = side_by_side(jobs)
        boot, started = told.pop("process", ("", ""))
        state = ollama.parse_state(self.arm, self.url, **told)
        if state.error:
            return state
        return msgspec.structs.replace(state, boot=boot, started=started)

    def version(self) -> str:
        """Return its version now, "" where it does not tell."""
        try:
            return ollama.parse_version(self.ask(ollama.version_request()))
        except StepError:
            return ""

    def model(self, name: str) -> OllamaModel | None:
        """Return the model as the server describes it, None where it does not have it. Raises StepError."""
        try:
            return ollama.parse_model(self.arm, name, self.ask(ollama.tags_request()))
        except StepError as error:
            problem = error.problem
            raise OllamaError(problem.found, problem.needed, problem.do, who=_who(self.arm)) from None

    def memory(self) -> list[LoadedModel]:
        """Return the models in its memory. Raises StepError where it does not answer."""
        try:
            return ollama.parse_memory(self.ask(ollama.ps_request()), time.time())
        except StepError as error:
            problem = error.problem
            raise OllamaError(
                f"{self.url}: {problem.found}",
                "an answer",
                f"{ollama.LOOK}; then the same command again",
                who=_who(self.arm),
            ) from None

    def holding(self, name: str) -> list[LoadedModel]:
        """Return what of its memory is the file of model `name`, under whatever name. Raises StepError."""
        listed = self.memory()
        known = self.model(name) if listed else None
        digest = known.digest if known else ""
        ours = [m for m in listed if ollama.same_name(m.name, name) or (digest and m.digest == digest)]
        if known is None or len(ours) == len(listed):
            return ours
        blob = self._blob(name)
        return [m for m in listed if m in ours or (blob and self._blob(m.name) == blob)]

    def unload(self, name: str) -> None:
        """Take a model out of memory, whatever the server calls it, and see that it is gone. Raises StepError."""
        held = self.holding(name)
        for model in held:
            # A name that was removed is listed still; the file goes under ours, if that is there.
            if all(self.ask(ollama.unload_request(one)).status == 404 for one in (model.name, name)):
                raise OllamaError(
                    f"{self.url} has no {model.name} any more, and still holds it in memory",
                    "a model that stays on its server",
                    f"somebody removed it: on its node, ollama pull {model.name}",
                    who=_who(self.arm),
                )
        deadline = time.monotonic() + UNLOAD_TIMEOUT_S
        while held and (held := self.holding(name)):
            if time.monotonic() > deadline:
                names = ", ".join(model.name for model in held)
                raise OllamaError(
                    f"{self.url} still holds {name} (listed as {names}) {UNLOAD_TIMEOUT_S} s after it was told to"
                    " let go of it: another client keeps it loaded",
                    "a server that nobody else uses while it is measured",
                    f"curl {self.url}/api/ps; end what uses {names} there, then the same command again",
                    who=_who(self.arm),
                )
            time.sleep(UNLOAD_POLL_S)

    def load_afresh(self, name: str, num_ctx: int, timeout_s: float) -> Load:
        """See the model gone, load it, and see it there. Raises StepError where one of the three does not happen."""
        self.unload(name)
        begin = time.monotonic()
        request = ollama.load_request(name, num_ctx, keep_s(timeout_s), timeout_s)
        reply = self.ask(request)
        try:
            ollama.parse_version(reply)  # an error is told in the server's words
        except StepError as error:
            gone = f"it is not there any more: on its node, ollama pull {name}"
            raise OllamaError(
                f"{self.url} could not load {name}: {error.problem.found}",
                "a loaded model",
                gone if reply.status == 404 else ollama.LOOK,
                who=_who(self.arm),
            ) from None
        load_s = time.monotonic() - begin
        held = self._held_after_load(name)
        if held and not ollama.same_name(held[0].name, name):
            raise OllamaError(
                f"{self.url} holds {name} as {held[0].name} just after it was told to load it: another client loads it",
                "a server that nobody else uses while it is measured",
                f"end what uses {held[0].name} there (curl {self.url}/api/ps), then the same command again",
                who=_who(self.arm),
            )
        if not held:
            raise OllamaError(
                f"{self.url} loaded {name} and has let go of it at once, though it was told to keep it",
                "a model that stays in memory between two requests",
                f"is the memory too small, or does another client unload it? {ollama.LOOK}",
                who=_who(self.arm),
            )
        return Load(held[0], load_s)

    def _held_after_load(self, name: str) -> list[LoadedModel]:
        """Return how the server lists a model that it has just loaded; where another client loads it anew, then how."""
        deadline = time.monotonic() + UNLOAD_TIMEOUT_S
        while not (held := self.holding(name)) and time.monotonic() < deadline:
            time.sleep(UNLOAD_POLL_S)
        return held

    def _blob(self, name: str) -> str:
        return ollama.parse_blob(self.ask(ollama.show_request(name)))


class Load(NamedTuple):
    """A load that was seen: what it left in memory, and how long it took."""

    model: LoadedModel
    seconds: float


def keep_s(timeout_s: float) -> int:
    """Return how long a server is to keep a model after each request: past the longest one, but not for good."""
    return math.ceil(timeout_s) + 60


_PROCESS = r"""
cat /proc/sys/kernel/random/boot_id; ss -Hltnp "sport = :%d" 2>/dev/null | grep -o 'pid=[0-9]*' | sort -u | head -n 1 |
while IFS== read -r _ pid; do echo "$pid $(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)"; done
"""


def server_process(node: Node, url: str) -> tuple[str, str]:
    """Return the boot of a server's node, and PID and start of the process that listens on its port.

    Only read, and only from /proc: "" where the kernel does not show another user's sockets.
    """
    told = node.run(_PROCESS % (urlsplit(url).port or 80), check=False).stdout.splitlines()
    return (told[0].strip() if told else ""), (told[1].strip() if len(told) > 1 else "")


def servers_of(lab: Lab) -> dict[str, OllamaServer]:
    """Return the servers of all baselines."""
    return {
        arm: OllamaServer(arm, baseline, lab.bench_node, lab.nodes.get(baseline.node))
        for arm, baseline in lab.inventory.ollama.items()
    }


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
