"""Python libraries as clients: each does what its manual shows, one streamed request after another.

A process of its own runs one of them (`python -m benchmarks.client_libraries NAME URL MODEL REQUESTS`) and prints, as
JSON, when each piece of text was handed over.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator

Ask = Callable[[str], Iterator[str]]
"""Ask a model for one streamed answer; yields its pieces of text."""


def _http_client(url: str) -> Ask:
    def ask(model: str) -> Iterator[str]:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        body = json.dumps({"model": model, "prompt": "x", "stream": True})
        connection.request("POST", "/api/generate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        while line := answer.readline():
            yield json.loads(line)["response"]

    return ask


def _httpx(url: str) -> Ask:
    import httpx  # type: ignore[import-not-found, unused-ignore]

    client = httpx.Client(base_url=url, timeout=60)

    def ask(model: str) -> Iterator[str]:
        payload = {"model": model, "prompt": "x", "stream": True}
        with client.stream("POST", "/api/generate", json=payload) as answer:
            for line in answer.iter_lines():
                yield json.loads(line)["response"]

    return ask


def _ollama(url: str) -> Ask:
    import ollama  # type: ignore[import-not-found, unused-ignore]

    client = ollama.Client(host=url)
    return lambda model: (part["response"] for part in client.generate(model=model, prompt="x", stream=True))


def _openai(url: str) -> Ask:
    import openai  # type: ignore[import-not-found, unused-ignore]

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")

    def ask(model: str) -> Iterator[str]:
        said = [{"role": "user", "content": "x"}]
        for part in client.chat.completions.create(model=model, messages=said, stream=True):
            yield part.choices[0].delta.content or ""

    return ask


LIBRARIES = {"http.client": _http_client, "httpx": _httpx, "ollama": _ollama, "openai": _openai}


def installed(name: str) -> bool:
    """Tell whether this interpreter has the library."""
    return importlib.util.find_spec(name) is not None


def library_command(name: str, url: str, model: str, requests: int) -> list[str]:
    """Return the call of this module that measures one library, from the project's folder."""
    return [sys.executable, "-m", "benchmarks.client_libraries", name, url, model, str(requests)]


def loop(ask: Ask, model: str, requests: int) -> list[list[float]]:
    """Stream `requests` answers; return, per request, seconds from its start to each piece of text."""
    timings = []
    for _ in range(requests):
        begin = time.monotonic()
        timings.append([time.monotonic() - begin for text in ask(model) if text])
    return timings


if __name__ == "__main__":
    _, name, url, model, requests = sys.argv
    print(json.dumps(loop(LIBRARIES[name](url), model, int(requests))))
