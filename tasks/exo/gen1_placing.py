"""Getting a model ready on EXO 1.x: add its card, download it, place it, wait for the runners; and back.

`POST /place_instance` answers 200 before
anything is known: too early, or without memory, no instance ever appears, so it is placed again after a while. The
instance is ready when every runner of its own is `RunnerReady`; runners of former instances stay in the state, failed
ones too, and do not count. A runner that fails is started again by EXO, up to five times, and can heal; then the
instance is deleted. A ring that waits for one of its nodes may wait for good (`Idle, Connecting, Idle`): the runner
puts its new state into a queue and goes on into mlx, which waits for the other nodes and keeps Python's lock, so the
thread that would hand the state on never runs. Its EXO waits for that word and does nothing any more, a deletion
included, until the runner has ended. So the instance is deleted here, and whoever began this ends what is left of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from records.settings import ModelPair
from tasks.errors import StepError
from tasks.exo.gen1_download import HUB_TIMEOUT_S, add_card, card_requests, download, state_at
from tasks.exo.gen1_state import Assignments, Runner, instances_of, runner_state
from tasks.exo.interface import Prepared, StuckPlacementError
from tasks.exo.logtext import exo_said
from tasks.exo.patience import Patience
from tasks.machines.wire import Flow, Request, ask, read_reply, shortened

_APPEARS_S = 10.0
"""How long an accepted placement may take to show as an instance before it is placed again."""
_PLACINGS = 12
_GONE_S = 60.0
_STALLED_S = 60.0
_CONNECTS_S = 8.0
"""Runners that have started and wait for each other need a second or two, or go on for good."""
_CONNECTING = ("RunnerIdle", "RunnerConnecting")
_COMPUTES_S = 300.0
"""Loading and the warm-up compute: 37 s were seen for a tiny model on busy CPUs, and a large one takes longer."""
_COMPUTING = ("RunnerLoading", "RunnerLoaded", "RunnerWarmingUp")
"""The ring warms up as one: where a runner is ready and another is not, that one's word was lost, with a link say."""
_LIBRARY = re.compile(r"(\S+): cannot open shared object file")


def make_ready(pair: ModelPair, peers: Sequence[str], entry: str, timeout_s: float) -> Flow[Prepared]:
    """Bring the model of `pair` to every node of `peers` and place it over all of them; returns Prepared.

    Raises StepError.
    """
    patience = Patience(timeout_s)
    ids: dict[str, str] = {}
    for node in peers:
        reply = yield from ask(node, Request("GET", "/node_id"))
        ids[node] = read_reply(reply, str, f"the id of {node}")
    yield from add_card(pair.exo, entry)
    downloaded = yield from download(pair.exo, ids, entry, patience)
    instance = yield from _place(pair.exo, {key: node for node, key in ids.items()}, entry, patience)
    return Prepared(downloaded, instance=instance)


def model_requests(model: str, nodes: int) -> list[Request]:
    """Return what is asked until a model is placed, in this order; what is there already is not asked for again."""
    body = {"model_id": model, "sharding": "Pipeline", "instance_meta": "MlxRing", "min_nodes": nodes}
    return [
        Request("GET", "/node_id"),
        *card_requests(model),
        Request("GET", "/state", timeout_s=30),
        Request("POST", "/download/start", {"shardMetadata": {}}, timeout_s=30),
        Request("POST", "/place_instance", body, timeout_s=HUB_TIMEOUT_S),
    ]


def unload(pair: ModelPair, peers: Sequence[str], entry: str, timeout_s: float) -> Flow[Prepared]:
    """Delete every instance of the model and wait until the state has none; returns Prepared. Raises StepError."""
    patience = Patience(min(timeout_s, _GONE_S))
    state = yield from state_at(entry)
    yield from _delete(list(instances_of(state, pair.exo)), pair.exo, entry, patience)
    return Prepared(dict.fromkeys(peers, "on disk, not in memory"))


def _place(model: str, names: Mapping[str, str], entry: str, patience: Patience) -> Flow[str]:
    """Have one instance of the model over all nodes (EXO's id -> name) and wait for its runners; returns its id.

    Raises StepError; StuckPlacementError where it does not get on, and then it is deleted.
    """
    state = yield from state_at(entry)
    there = instances_of(state, model)
    whole = [key for key, found in there.items() if len(found.node_to_runner or found.runner_to_shard) == len(names)]
    keep = whole[:1]
    yield from _delete([key for key in there if key not in keep], model, entry, patience)
    if keep:
        key, found = keep[0], there[keep[0]]
    else:
        key, found = yield from _new_instance(model, len(names), entry, patience)
    if idle := (yield from _wait_ready(key, found, names, model, entry, patience)):
        yield from _delete([key], model, entry, patience)
        raise StuckPlacementError(
            f"'{model}' was placed and did not get on: {idle}",
            "every runner ready",
            "fab cleanup start download-model; the EXO log of the node named first says more",
        )
    return key


def _new_instance(model: str, nodes: int, entry: str, patience: Patience) -> Flow[tuple[str, Assignments]]:
    """Place the model over `nodes` nodes, again and again until an instance shows."""
    place = model_requests(model, nodes)[-1]
    for attempt in range(1, _PLACINGS + 1):
        reply = yield from ask(entry, place)
        if reply.status != 200:
            raise StepError(f"'{model}' cannot be placed: {reply.words}", "HTTP 200", f"look at the EXO log of {entry}")
        since_s = patience.waited_s
        while patience.waited_s - since_s < _APPEARS_S:
            state = yield from state_at(entry)
            for key, found in instances_of(state, model).items():
                return key, found
            yield from patience.wait(f"no instance yet, placed {attempt} times", f"an instance of '{model}'")
    raise StepError(
        f"'{model}' was placed {_PLACINGS} times with HTTP 200 and no instance ever appeared",
        f"an instance over {nodes} nodes",
        f"fab verify-cluster; enough free memory on the nodes? the reason stands in the EXO log of the master: "
        f"grep 'command processor' (start with {entry})",
    )


def _wait_ready(
    key: str, found: Assignments, names: Mapping[str, str], model: str, entry: str, patience: Patience
) -> Flow[str]:
    """Wait until every runner is ready and return ""; return who does what where nothing changed for too long.

    A failed runner is EXO's to start again, up to five times; it is final once EXO has deleted the instance.
    """
    nodes = {runner: names.get(node, node) for node, runner in found.node_to_runner.items()}
    failures: dict[str, None] = {}
    before: list[tuple[str, Runner]] = []
    changed_s = patience.waited_s
    while True:
        state = yield from state_at(entry)
        states = {runner: runner_state(state, runner) for runner in found.runner_to_shard}
        failures |= dict.fromkeys(told.error_message for name, told in states.values() if name == "RunnerFailed")
        if key not in state.instances:
            raise _runner_failed(model, list(failures))
        if all(name == "RunnerReady" for name, _ in states.values()):
            return ""
        if list(states.values()) != before:
            before, changed_s = list(states.values()), patience.waited_s
        who = {nodes.get(runner, runner): _state_words(*told) for runner, told in states.items()}
        words = ", ".join(f"{node} {doing}" for node, doing in who.items())
        if patience.waited_s - changed_s >= _longest_s([name for name, _ in states.values()]):
            if failures:
                raise _runner_failed(model, list(failures))
            return f"for {patience.waited_s - changed_s:.0f} s {words}"
        yield from patience.wait(f"runners: {words}", f"every runner of '{model}' ready")


def _longest_s(states: list[str]) -> float:
    """Return how long runners may stay in these states."""
    if all(name in _COMPUTING for name in states):
        return _COMPUTES_S
    return _CONNECTS_S if all(name in _CONNECTING for name in states) else _STALLED_S


def _state_words(name: str, told: Runner) -> str:
    if name == "RunnerLoading":
        return f"loads {told.layers_loaded}/{told.total_layers}"
    return name.removeprefix("Runner")


def _runner_failed(model: str, messages: list[str]) -> StepError:
    why = "; ".join(shortened(text) for text in messages if text)
    if not why:
        return StepError(
            f"the instance of '{model}' was deleted while it was loading: a node was lost or a runner ended",
            "every runner ready",
            "fab verify-cluster, then: fab download-model; the EXO logs of the nodes say more",
        )
    found = f"a runner of '{model}' failed for good: {why}"
    if library := _LIBRARY.search(why):
        return StepError(
            found,
            f"the library {library[1]} on every node; MLX for the CPU needs none of CUDA's",
            "set exo.extras to [cpu] in hosts.yaml, which brings mlx-cpu, then: fab install start download-model",
        )
    pin = "new_thread_local_stream" in why or "GenerationBatch" in why
    return StepError(
        found,
        "every runner ready",
        "as locked, 1.0.71 cannot run a model on Linux: set exo.overrides to mlx==0.31.2 and mlx-cpu==0.31.2 in"
        " hosts.yaml, then: fab install start"
        if pin
        else "look at the EXO logs of the nodes, then: fab download-model",
        exo_said=exo_said(why),
    )


def _delete(keys: list[str], model: str, entry: str, patience: Patience) -> Flow[None]:
    """Delete instances and wait until the state has them no more."""
    for key in keys:
        reply = yield from ask(entry, Request("DELETE", f"/instance/{quote(key, safe='')}", timeout_s=30))
        if reply.status not in (200, 404):
            raise StepError(f"the instance of '{model}' cannot be deleted: {reply.words}", "HTTP 200", "fab cleanup")
    while keys:
        state = yield from state_at(entry)
        left = [key for key in keys if key in state.instances]
        if not left:
            return
        yield from patience.wait(f"an instance of '{model}' is still there", "no instance of it")
