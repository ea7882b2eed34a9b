"""What a node runs of each instance: a state that moves to RunnerReady in about a second, and a child process.

As locked, 1.0.71 comes with an mlx that lacks `new_thread_local_stream`: then every runner fails. A placement may get
stuck for good, one node connecting while the others idle: `stuck_in` names the states in which the first ones stay.
With `holds_on` this node's EXO waits for a stuck runner's word: until that has ended it deletes and starts none.
"""

import importlib.metadata
import subprocess
import sys
import threading
import time

from .engine.settings import Settings

WORKING_MLX = (0, 31, 2)
FAILURE = "module 'mlx.core' has no attribute 'new_thread_local_stream'"
CHILD = "import time; time.sleep(86400)  # stand-in for multiprocessing.spawn's runner"


class Runners:
    """The runners of one node."""

    def __init__(self) -> None:
        self._settings = Settings("exo")
        self.states: dict[str, dict] = {}
        self._children: dict[str, subprocess.Popen] = {}
        self._awaited: subprocess.Popen | None = None
        self.begun = 0
        self.ready = 0
        """How many became ready since the start: each is a run with its own noise."""

    def start(self, runner: str, layers: int) -> None:
        """Start a runner with `layers` layers, once."""
        if runner not in self.states:
            self.states[runner] = {"RunnerIdle": {}}
            threading.Thread(target=self._live, args=(runner, layers), daemon=True).start()

    def stop(self, runner: str) -> None:
        """End a runner; a failed one stays in the state."""
        if "RunnerFailed" not in self.states.get(runner, {}):
            self.states.pop(runner, None)
        child = self._children.pop(runner, None)
        if child and child is not self._awaited:
            child.kill()
            child.wait()

    def stop_all(self) -> None:
        """End every runner."""
        self._awaited = None
        for runner in list(self._children):
            self.stop(runner)

    def _live(self, runner: str, layers: int) -> None:
        if self._awaited:
            self._awaited.wait()
            self._awaited = None
        self._children[runner] = subprocess.Popen([sys.executable, "-c", CHILD])
        stuck_in = self._settings.get("stuck_in", [])
        self.begun += 1
        if self.begun <= len(stuck_in):
            self._move(runner, {stuck_in[self.begun - 1]: {}})
            if self._settings.get("holds_on", False):
                self._awaited = self._children[runner]
            return
        step_s = self._settings.number("load_s", 0.8) / 4
        time.sleep(step_s)
        if _mlx() < WORKING_MLX:
            self._move(runner, {"RunnerFailed": {"errorMessage": FAILURE}})
            return
        half = {"layersLoaded": layers // 2, "totalLayers": layers}
        for state in ({"RunnerLoading": half}, {"RunnerLoaded": {}}, {"RunnerWarmingUp": {}}):
            self._move(runner, state)
            time.sleep(step_s)
        self._move(runner, {"RunnerReady": {}})
        self.ready += 1

    def _move(self, runner: str, state: dict) -> None:
        if runner in self.states:
            self.states[runner] = state


def _mlx() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in importlib.metadata.version("mlx").split("."))
    except importlib.metadata.PackageNotFoundError:
        return (0,)
