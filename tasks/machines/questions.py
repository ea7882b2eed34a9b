"""Several questions to a node in one round trip, answered side by side there and read here."""

from __future__ import annotations

from collections.abc import Mapping

_MARK = "@@exo-phase1 answer@@"


def ask_all(questions: Mapping[str, str]) -> str:
    """Return one command that runs every command of `questions` in a shell of its own, all at once.

    Each writes into a pipe, so nothing is laid on the node; standard error is thrown away.
    """
    opened = "\n".join(f"exec {{q{number}}}< <(\n{asked}\n)" for number, asked in enumerate(questions.values()))
    told = "\n".join(f"echo; echo '{_MARK}{name}'; cat <&$q{number}" for number, name in enumerate(questions))
    return f"exec 2>/dev/null\n{opened}\n{told}\ntrue"


def answers(text: str) -> dict[str, str]:
    """Return what every question was answered, by its name."""
    parts = (part.partition("\n") for part in f"\n{text}".split(f"\n{_MARK}")[1:])
    return {name: body for name, _, body in parts}
