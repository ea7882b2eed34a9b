"""One answer of an Ollama stand-in: its tokens, when they leave, and the durations that its last frame tells."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rehearsal.engine.pace import Speed, paced, slowness
from rehearsal.engine.settings import Settings
from rehearsal.engine.words import said, token_ids, tokenize
from rehearsal.ollama.memory import Loaded

CACHED_SHARE = 0.15
"""Of the time to the first token, what a prompt costs that is in the cache (recorded: 41 of 381 ms)."""
WARM_LOAD_S = (0.007, 0.007)
"""What load_duration says, from and to, when nothing was loaded: it is work, and spent (0.33: 1 to 2 ms; 0.32.14: 97 to
345 ms)."""
DIED = "an error was encountered while running the model: unexpected EOF"
DEFAULT_TOKENS = 128
TEMPLATE_TOKENS = 10


class RunnerDiedError(Exception):
    """The process that computes was killed."""


@dataclass
class Speech:
    """A planned answer. `done_reason` is `length` or `stop`."""

    prompt: str
    words: list[str]
    schedule: list[float]
    start_s: float
    load_s: float
    prompt_s: float
    done_reason: str
    dies: bool = False
    """Its runner is killed half-way."""
    evaluated: int = 0
    """Tokens of the prompt, or of what of it was not in the cache, as the version counts."""
    cached: int | None = None
    """Tokens of the prompt that came from the cache, told since 0.33.3."""

    def spoken(self) -> Iterator[str]:
        """Yield each token when it is due. Raises RunnerDiedError where its runner is killed."""
        for index in paced(self.start_s, self.schedule):
            if self.dies and index >= len(self.words) // 2:
                raise RunnerDiedError(DIED)
            yield self.words[index]

    def figures(self, arrived_s: float) -> dict[str, Any]:
        """Return counts and durations (ns) of the last frame; Ollama 0.5.13 rounds two of them to milliseconds."""
        eval_s = self.schedule[-1] - self.schedule[0]
        cached = {} if self.cached is None else {"prompt_eval_cached_count": self.cached}
        return {
            "total_duration": int((time.monotonic() - arrived_s) * 1e9),
            "load_duration": int(self.load_s * 1e9),
            "prompt_eval_count": self.evaluated,
            **cached,
            "prompt_eval_duration": int(self.prompt_s * 1000) * 1_000_000,
            "eval_count": len(self.words),
            "eval_duration": max(1, int(eval_s * 1000)) * 1_000_000,
        }

    def context(self) -> list[int]:
        """Return the numbers of all tokens so far."""
        return token_ids(tokenize(self.prompt) + self.words)


def plan(
    settings: Settings, one: Loaded, prompt: str, options: dict[str, Any], arrived_s: float, load_s: float
) -> Speech:
    """Plan the answer to `prompt` by a loaded model; the schedule counts from the request's arrival, or the load."""
    asked = int(options.get("num_predict", DEFAULT_TOKENS))
    count = asked if asked > 0 else DEFAULT_TOKENS  # 0 is no limit either: 0.33 went on until its context was full
    count_said = max(1, int(count * settings.number("length_share", 1.0)))
    scale = one.model.scale
    speed = Speed(
        settings.number("first_token_s", 0.05) / scale,
        settings.number("tokens_per_s", 70.0) * scale,
        settings.number("noise", 0.0),
        int(settings.number("seed", 0)),
        f"ollama {settings.get('node', '')}",
        slowness(settings.number),
    )
    schedule = speed.schedule(count_said, one.run, one.requests)
    prompt_s, tokens = schedule[0], len(tokenize(prompt)) + TEMPLATE_TOKENS
    cached = _remembered(settings, one, prompt)
    if cached:
        saved = prompt_s * (1 - CACHED_SHARE)
        schedule, prompt_s = [due - saved for due in schedule], prompt_s - saved
    one.prompts.append(prompt)
    one.requests += 1
    # A cold request pays for the load before anything else; a warm one loses nothing between arrival and here.
    cold = load_s > settings.number("load_s", 0.15) / 2
    least, most = settings.get("warm_load_s", WARM_LOAD_S)
    warm_s = least + (most - least) * random.Random(f"{prompt} {one.run}").random()
    overhead_s = warm_s if "warm_load_s" in settings else 0.0
    return Speech(
        prompt=prompt,
        words=said(count_said, f"{prompt} again" if cached and settings.get("texts_by_cache", False) else prompt),
        schedule=[due + overhead_s for due in schedule],
        start_s=time.monotonic() if cold else arrived_s,
        load_s=load_s if cold else warm_s,
        prompt_s=prompt_s,
        done_reason="length" if count_said == count else "stop",
        evaluated=1 if cached and not settings.get("counts_cached", True) else tokens,
        cached=(tokens - 1 if cached else TEMPLATE_TOKENS // 2) if settings.get("tells_cached", False) else None,
    )


def _remembered(settings: Settings, one: Loaded, prompt: str) -> bool:
    """Tell whether a prompt is answered from the cache: `last` up to 0.13, `all` since 0.30, `always` as a trap."""
    kind = settings.get("prompt_cache", "last")
    if kind == "always":
        return one.requests > 0
    return prompt in (one.prompts if kind == "all" else one.prompts[-1:])
