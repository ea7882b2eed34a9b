"""Sample how busy the GPUs are, and what they draw, while a run goes on: seeing a GPU is not using it.

Nothing may disturb a timed request, so no command is sent meanwhile. One process a node, started before the run, sleeps
and reads what the kernel tells, without starting any program; what it saw is fetched after the run.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType

from tasks.errors import StepError
from tasks.gpu import witnesses
from tasks.machines.lab import side_by_side
from tasks.machines.node import Node
from tasks.machines.paths import ROOT

EVERY_S = 0.5
_FILES = f'"$HOME"/{ROOT}/gpu-busy.'

# Reads on until its file is gone, or for $2 turns. Bash's `read` with a time-out, on a pipe that never says a word, is
# a sleep without a process of its own.
_READER = rf"""exec 3<> <(:)
for ((turn = 0; turn < $2; turn++)); do
  [ -e "$1" ] || exit
  for file in "${{EXO_PHASE1_SYSROOT:-}}"/sys/class/drm/card*/device/gpu_busy_percent; do
    {{ read -r percent <"$file"; }} 2>/dev/null && printf '%s ' "$percent"
    for sensors in "${{file%/*}}"/hwmon/hwmon*; do
      {{ read -r microwatts <"$sensors/power1_average" || read -r microwatts <"$sensors/power1_input"; }} 2>/dev/null \
        && printf '%suW ' "$microwatts"
    done
  done
  echo; read -r -t {EVERY_S} -u 3
done"""


def begin_command(turns: int) -> str:
    """Return the command that starts a reader for so many turns and prints the file that it writes."""
    return (
        f'mkdir -p "$HOME"/{ROOT} && rm -f {_FILES}* && file=$(mktemp {_FILES}XXXXXX) || exit 1\n'
        f'setsid bash -c {shlex.quote(_READER)} gpu-busy "$file" {turns} >"$file" 2>/dev/null </dev/null &'
        '\necho "$file"'
    )


class GpuWatch:
    """While entered, a reader on each of `nodes` with a GPU; `busy` then holds percentages, `power_w` watts by node.

    It ends by itself after `longest_s`, or with the next watch. A watch that fails must not fail the run; its absence
    is seen in the record.
    """

    def __init__(self, nodes: Iterable[Node], longest_s: float) -> None:
        self.busy: dict[str, list[float]] = {}
        self.power_w: dict[str, list[float]] = {}
        self._nodes = {node.key: node for node in nodes if node.spec.gpu is not None}
        self._turns = int(longest_s / EVERY_S)
        self._files: dict[str, str] = {}

    def __enter__(self) -> GpuWatch:
        begin = begin_command(self._turns)
        self._files = self._on_each(lambda node: node.run(begin, check=False, timeout_s=10).stdout.strip())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        def fetched(node: Node) -> str:
            if not self._files[node.key]:
                return ""
            file = shlex.quote(self._files[node.key])
            return node.run(f"cat {file} && rm -f {file}", check=False, timeout_s=10).stdout

        told = self._on_each(fetched)
        self.busy = _read(told, witnesses.read_busy)
        self.power_w = _read(told, witnesses.read_power_w)

    def _on_each(self, work: Callable[[Node], str]) -> dict[str, str]:
        def tried(node: Node) -> str:
            try:
                return work(node)
            except StepError:
                return ""

        return side_by_side({key: partial(tried, node) for key, node in self._nodes.items()})


def _read(told: Mapping[str, str], read: Callable[[str], float | None]) -> dict[str, list[float]]:
    """Return what `read` finds in each line of each node; a node that tells nothing is left out."""
    found = {key: [v for line in text.splitlines() if (v := read(line)) is not None] for key, text in told.items()}
    return {key: values for key, values in found.items() if values}
