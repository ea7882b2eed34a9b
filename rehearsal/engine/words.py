"""A tokenizer that knows no model, and an endless text of which every word is one token of it.

So the text that a stand-in says, given back to its tokenizer, counts exactly as many tokens as were said.
"""

from __future__ import annotations

import random
import re

TOKEN = re.compile(r"<\|[^|<>]*\|>|\n+| ?[A-Za-z]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9]|\s+")

SENTENCES = (
    "The answer lies in the way light is scattered by the air . Short waves are bent more than long ones , so the sky"
    " looks blue at noon and red in the evening . A list that is sorted can be searched by halves : look at the middle"
    " then keep the one that may hold the value . Each step halves what is left , and a million entries need twenty ."
)
VOCABULARY = [f" {word}" for word in SENTENCES.split()]


def tokenize(text: str) -> list[str]:
    """Split `text` into tokens; joined they are `text` again."""
    return TOKEN.findall(text)


def said(tokens: int, seed: str) -> list[str]:
    """Return `tokens` tokens of text that depends on `seed` alone."""
    start = random.Random(seed).randrange(len(VOCABULARY))
    words = [VOCABULARY[(start + k) % len(VOCABULARY)] for k in range(tokens)]
    return [words[0].strip(), *words[1:]] if words else []


def token_ids(tokens: list[str]) -> list[int]:
    """Return a number for each token; the same token has the same number."""
    return [sum(ord(c) * 31**i for i, c in enumerate(token)) % 128000 for token in tokens]
