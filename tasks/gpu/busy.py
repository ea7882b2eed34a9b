"""Sample how busy the GPUs are while a run goes on: seeing a GPU is not using it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType

from tasks.errors import StepError
from tasks.gpu import witnesses
from tasks.machines.node import Node

EVERY_S = 0.5


class GpuWatch:
    """While entered, asks each of `nodes` that has a GPU how busy it is; `busy` then holds the percentages by node."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.busy: dict[str, list[float]] = {}
        self._nodes = [node for node in nodes if node.spec.gpu is not None]
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> GpuWatch:
        self._threads = [threading.Thread(target=self._ask, args=(node,), daemon=True) for node in self._nodes]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(10)

    def _ask(self, node: Node) -> None:
        while True:
            try:
                percent = witnesses.read_busy(node.run(witnesses.busy_command(), check=False, timeout_s=5).stdout)
            except StepError:
                return  # a watch that fails must not fail the run; its absence is seen in the record
            if percent is not None:
                self.busy.setdefault(node.key, []).append(percent)
            if self._end.wait(EVERY_S):
                return
