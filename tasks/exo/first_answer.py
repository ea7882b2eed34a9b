"""The first chat through the whole ring, and what stops it: told within seconds, 900 of them are never waited out.

While EXO owes the answer, every node is looked at about once a second. What its log says against this pair ends the
wait. A ring that hangs is told from one that is slow by what the nodes do (`work`).
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Mapping

from records.settings import ModelPair
from tasks import console
from tasks.errors import StepError, one_each
from tasks.exo import trouble
from tasks.exo.cluster import ExoCluster
from tasks.exo.interface import Answer
from tasks.exo.logtext import exo_said, last_word, likely_cause
from tasks.exo.node import ExoNode
from tasks.exo.work import HUNG_S, Work
from tasks.machines.daemon import LOG_CAP_BYTES, Daemon, Pulse
from tasks.machines.http import Line
from tasks.machines.node import journal
from tasks.machines.threads import Outcome
from tasks.machines.wire import Reply, Request

PROMPT = "Say hello to the people of a small town by the sea, in one friendly sentence of about twenty words."
TOKENS = 24
"""More than 10 each way: a few tokens pass where longer prompts fail, and a ring may fail at the first token sent back.
EXO 0.0.x answers with as many as it was started for."""

LOOK_S = 1.0
_TELL_S = 10.0


def first_answer(
    cluster: ExoCluster, pair: ModelPair, timeout_s: float, logs: Mapping[str, int]
) -> tuple[Answer, float]:
    """Have the cluster answer one chat, which loads the model; return the answer and the seconds it took.

    `logs` is how long every node's log was before the pair was asked for. Raises StepError where another model
    answers, where a log or the reply says what is wrong, and where the ring hangs.
    """
    generation, begin = cluster.generation, time.monotonic()
    console.doing("exo", f"waits for the first answer of {pair.exo} (loads the model)")
    watch = _Watch(cluster, pair, logs)
    reply = watch.await_reply(generation.chat_request(pair.exo, PROMPT, TOKENS, timeout_s))
    try:
        return generation.parse_chat(reply, pair.exo), time.monotonic() - begin
    except StepError as error:
        watch.look()  # where the logs know why, they are told instead
        if reply.status == 0 and (working := watch.at_work(_TELL_S)):
            raise _too_slow(timeout_s, working, pair) from None
        raise (trouble.in_reply(reply, _whose(reply, cluster)) or error) from None


def _whose(reply: Reply, cluster: ExoCluster) -> str:
    """Return the node that an error answer speaks of: the entry's own, or over gRPC a peer's, first the GPU's."""
    if "AioRpcError" not in reply.text:
        return cluster.entry.key
    peers = [exo for exo in cluster.nodes.values() if exo is not cluster.entry]
    return next((exo.key for exo in peers if exo.claims_gpu), cluster.entry.key)


def _too_slow(timeout_s: float, working: list[str], pair: ModelPair) -> StepError:
    return StepError(
        f"no answer of `{pair.exo}` within {timeout_s:g} s; to the end at work: {', '.join(working)}",
        "an answer within bench.request_timeout_s: this ring computes, and is slow or waits for something",
        "raise bench.request_timeout_s in hosts.yaml (EXO itself gives up after 900 s), or take a smaller model; see"
        f" what {working[0]} does (`top`): another program there makes it slow; then: fab download-model",
    )


class _Watch:
    """What the nodes do and say while an answer is awaited."""

    def __init__(self, cluster: ExoCluster, pair: ModelPair, logs: Mapping[str, int]) -> None:
        self._cluster, self._pair = cluster, pair
        self._read = dict(logs)
        """How many bytes of each node's log have been read."""
        self._written = dict.fromkeys(logs, "")
        self._news: set[str] = set()
        """Nodes whose log has grown since it was last read through."""
        self._processes: dict[str, Daemon | None] = cluster.each(lambda exo: exo.process())
        self._told = time.monotonic()
        self._work = {key: Work(self._told) for key in logs}

    def await_reply(self, request: Request) -> Reply:
        """Send it from a thread of its own and look at the nodes until it is answered. Raises StepError.

        Whoever gives up hangs up. EXO 0.0.15 itself goes on with a chat that nobody awaits, for its response time-out.
        """
        outcome, line = Outcome[Reply](), Line()
        keep = (outcome.keep, lambda: self._cluster.entry.ask(request, line))
        sender = threading.Thread(target=contextvars.copy_context().run, args=keep, daemon=True)
        sender.start()
        try:
            sender.join(LOOK_S)
            while sender.is_alive():
                self.look()
                self._refuse_hung()
                sender.join(LOOK_S)
        finally:
            line.hang_up()
        return outcome.value()

    def look(self) -> None:
        """Read every node's log and pulse. Raises StepError where one says what is wrong, or EXO has ended."""
        journaled = journal.set(None)  # a record need not hold a look a second
        try:
            pulses = self._cluster.each(self._look_at)
        finally:
            journal.reset(journaled)
        news = {key: self._written[key] for key in self._news}
        self._news.clear()
        if error := trouble.in_logs(news, self._cluster.generation, self._pair.exo):
            raise error
        ended = {key: likely_cause(self._written[key]) for key, pulse in pulses.items() if not pulse.alive}
        if ended:
            raise one_each(
                {key: f"EXO ended while it owed the first answer: {cause}" for key, cause in ended.items()},
                "EXO alive on every node until it has answered",
                {
                    key: f"read {self._cluster.nodes[key].log_path} on that node and `dmesg`; then: fab start"
                    for key in ended
                },
                {key: exo_said(last_word(self._written[key])[0]) for key in ended},
            )
        now = time.monotonic()
        if now - self._told > _TELL_S:
            self._told = now
            console.doing("exo", f"owes the first answer; at work: {', '.join(self.at_work()) or 'no node'}")

    def at_work(self, within_s: float = 2 * LOOK_S + 1) -> list[str]:
        """Return the nodes that were seen doing something in the last seconds."""
        now = time.monotonic()
        return [key for key, work in self._work.items() if now - work.last_s < within_s]

    def _look_at(self, exo: ExoNode) -> Pulse:
        process = self._processes[exo.key]
        if process is None:
            return Pulse(alive=False)
        pulse, text = exo.pulse(process, self._read[exo.key])
        self._written[exo.key] = (self._written[exo.key] + text)[-2 * LOG_CAP_BYTES :]
        self._read[exo.key] = pulse.log_bytes
        if text:
            self._news.add(exo.key)
        self._work[exo.key].take(pulse, time.monotonic())
        return pulse

    def _refuse_hung(self) -> None:
        now = time.monotonic()
        if now - max(work.last_s for work in self._work.values()) < HUNG_S:
            return
        idle = {
            key: f"did nothing for {now - work.last_s:.0f} s while EXO owed an answer"
            for key, work in self._work.items()
        }
        raise one_each(
            idle,
            "a node that computes while EXO owes the first answer: this ring hangs",
            "read the EXO log of every node, the one that worked last first, and see that each reaches the hub (curl"
            " -sI ${HF_ENDPOINT:-https://huggingface.co}): EXO asks it for its list of files even where all are on the"
            " disk, for 4 minutes without a word; then: fab cleanup start download-model",
            {key: exo_said(last_word(text)[0]) for key, text in self._written.items()},
        )
