"""Whose failure a line of EXO's tells: its own, or one that its operator mends."""

from __future__ import annotations

import pytest

from tasks.errors import all_of, one_each
from tasks.exo.logtext import exo_said, last_word


@pytest.mark.parametrize(
    "line",
    [
        "OSError: [Errno 28] No space left on device",
        "PermissionError: [Errno 13] Permission denied: '/dev/kfd'",
        "OSError: [Errno 98] error while attempting to bind on address: address already in use",
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "FileNotFoundError: [Errno 2] No such file or directory: 'clang'",
        "ModuleNotFoundError: No module named 'pyrsmi'",
        "exo: error: unrecognized arguments: --speed",
        "RuntimeError: ROCm driver initilization failed",
    ],
)
def test_what_an_operator_mends_is_no_word_of_exos(line: str) -> None:
    """A full disk, a right, a port, a name, a missing tool or driver, a mistyped option say nothing about EXO."""
    assert exo_said(line) == ""


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: assignment destination is read-only",
        "Unsupported model: qwen-2.5-3b with inference engine TinygradDynamicShardInferenceEngine",
        "RuntimeError: underlying buffer is not writable",
        "Segmentation fault",
    ],
)
def test_what_exo_cannot_do_is_its_own_word(line: str) -> None:
    """Everything else that EXO says of a failure is quoted as it stands."""
    assert exo_said(f"  {line}\n") == line


def test_the_last_word_of_a_log_is_the_last_that_sounds_wrong() -> None:
    """Without one it is the last line; an empty log has none."""
    assert last_word("starts\nValueError: no\nbye\n") == ("ValueError: no", True)
    assert last_word("starts\nbye\n") == ("bye", False)
    assert last_word("\n") == ("", False)


def test_each_node_keeps_its_own_line() -> None:
    """An error about several nodes carries the line of each, where there is one."""
    error = all_of([one_each({"a": "ended", "b": "ended"}, "life", "fab start", {"b": "RuntimeError: no"})])
    assert [(p.what, p.exo_said) for p in error.problems] == [("a", ""), ("b", "RuntimeError: no")]
