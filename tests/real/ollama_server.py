"""A genuine Ollama on loopback with three models made of one GGUF file, and what can happen to it in a campaign.

OLLAMA names the program (0.30 and later need `llama-server`, and to make a model `llama-quantize`, where their own
build puts them), OLLAMA_GGUF a small model.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OLLAMA = os.environ.get("OLLAMA", "")
OLLAMA_GGUF = os.environ.get("OLLAMA_GGUF", "")
OLLAMA_OTHER = os.environ.get("OLLAMA_OTHER", "")
"""Another version, for the test of an upgrade; it is skipped without."""
MODEL, TWIN, OTHER = "smol1:135m", "notes:latest", "other:135m"
"""The measured one; another name of its file; one of a file of its own."""
TEMPLATE = """\
TEMPLATE "{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"
PARAMETER stop <|im_start|>
PARAMETER stop <|im_end|>
"""
THINKING = """\
TEMPLATE \"\"\"{{- range .Messages }}<|im_start|>{{ .Role }}
{{ if .Thinking }}<think>
{{ .Thinking }}
</think>
{{ end }}{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
<think>
\"\"\"
"""
"""By this template Ollama takes a model for one that thinks, and all that it says for thoughts until it closes them."""
UP_S = 60.0


def absent() -> str:
    """Return what is missing, "" where nothing is."""
    named = (("OLLAMA", "Ollama's program", OLLAMA), ("OLLAMA_GGUF", "small GGUF model", OLLAMA_GGUF))
    return "; ".join(f"{name} names no {what}" for name, what, path in named if not path or not Path(path).is_file())


class GenuineOllama:
    """One `ollama serve` on an address of its own; ended with everything that it started."""

    def __init__(self, folder: Path, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.url = f"http://{address}:{port}"
        self._folder = folder
        self._running: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)

    def start(self, program: str = OLLAMA, **variables: str) -> None:
        """Start it and wait for its answer."""
        own = {"OLLAMA_HOST": f"{self.address}:{self.port}", "OLLAMA_MODELS": str(self._folder / "models")}
        environment = os.environ | own | {"HOME": str(self._folder), "OLLAMA_NO_CLOUD": "1"} | variables
        with (self._folder / "serve.log").open("ab") as log:
            self._running = subprocess.Popen(
                [program, "serve"], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + UP_S
        while self.ask("GET", "/api/version")[0] != 200:
            assert time.monotonic() < deadline, (self._folder / "serve.log").read_text()[-2000:]
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the server; its runners, which outlive a killed one, end with their group."""
        if self._running is not None:
            os.killpg(self._running.pid, how)
            self._running.wait(30)
            self._running = None

    def make_models(self) -> None:
        """Make the three models."""
        gguf = Path(OLLAMA_GGUF).read_bytes()
        another = self._folder / "other.gguf"
        another.write_bytes(gguf.replace(b"HuggingFace", b"HuggingBase", 1))
        for name, path in ((MODEL, OLLAMA_GGUF), (TWIN, OLLAMA_GGUF), (OTHER, str(another))):
            self.make(name, path)

    def make(self, name: str, path: str = OLLAMA_GGUF, more: str = "", template: str = TEMPLATE) -> None:
        """Make a model of a file, with `more` lines in its Modelfile."""
        modelfile = self._folder / "Modelfile"
        modelfile.write_text(f"FROM {path}\n{template}{more}")
        self.command("create", name, "-f", str(modelfile))

    def command(self, *words: str) -> None:
        """Type `ollama WORDS`."""
        environment = os.environ | {"OLLAMA_HOST": f"{self.address}:{self.port}", "HOME": str(self._folder)}
        subprocess.run([OLLAMA, *words], env=environment, check=True, capture_output=True, timeout=120)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Ask its API; status 0 where it does not answer."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=120)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return 0, None
        finally:
            connection.close()

    def load(self, name: str, keep_alive: int | str = "5m") -> None:
        """Load a model as another client would."""
        assert self.ask("POST", "/api/generate", {"model": name, "stream": False, "keep_alive": keep_alive})[0] == 200

    def say(self, name: str, tokens: int, **options: int) -> None:
        """Have a model say something as another client would."""
        body = {"model": name, "prompt": f"Tell a story, {time.monotonic()}.", "stream": False}
        self.ask("POST", "/api/generate", body | {"options": {"num_predict": tokens} | options})

    def die_alone(self) -> None:
        """Kill the server and nothing of what it started."""
        assert self._running is not None
        os.kill(self._running.pid, signal.SIGKILL)
        self._running.wait(30)

    def runners(self) -> list[int]:
        """Return the processes that compute for it."""
        pid = self._running.pid if self._running else 0
        return [int(p) for task in Path(f"/proc/{pid}/task").glob("*/children") for p in task.read_text().split()]

    def kill_runner(self) -> None:
        """Kill what computes, as the kernel does where memory is short."""
        for pid in self.runners():
            os.kill(pid, signal.SIGKILL)


@contextmanager
def again_and_again(act: Callable[[], object]) -> Iterator[None]:
    """Do something over and over in the background while the body runs."""

    def not_yet() -> bool:
        act()
        return False

    with once(not_yet, act):
        yield


@contextmanager
def once(when: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """Do something once in the background as soon as it is time, while the body runs."""
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            if when():
                act()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
