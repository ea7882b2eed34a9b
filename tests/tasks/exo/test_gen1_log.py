"""EXO 1.x's log is read by its levels: what the genuine v1.0.71 wrote, in sickness and in health."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.exo import gen1
from tests.support.recorded import recorded

HEALTHY = """\
[ 12:20:05.6818PM | INFO    ] Starting EXO | pid=1704
[ 12:20:05.8818PM | WARNING ] Failed to read the models' folder
Traceback (most recent call last):
  File "/opt/exo/src/exo/download/coordinator.py", line 300, in look
FileNotFoundError: [Errno 2] No such file or directory: '/home/rig/.local/share/exo/models'
[ 12:20:06.6818PM | WARNING ] Failed to fetch file list: 404
[ 12:20:31.6818PM | ERROR   ] Runner terminated with signal=9 (Killed)
[ 12:20:33.0000PM | INFO    ] Node elected Master
"""
"""Of a fresh machine; `fab start` took it for a death five times of seven."""


def test_a_traceback_below_a_warning_is_no_death() -> None:
    """Nor is an ERROR about a runner, which EXO starts again; colours do not matter."""
    assert gen1.log_problems(HEALTHY) == []
    coloured = HEALTHY.replace("WARNING ", "\x1b[33m\x1b[1mWARNING \x1b[0m")
    assert gen1.log_problems(coloured) == []


def test_critical_is_a_death_told_by_the_innermost_exception() -> None:
    """`| CRITICAL]` has no blank, and the exception groups around what happened say nothing."""
    assert gen1.log_problems(recorded("exo-1.x", "log_crash.txt")) == [
        "EXO terminated due to unhandled exception; anyio.BrokenResourceError"
    ]


def test_what_a_cut_log_begins_with_is_nobodys() -> None:
    """The end of a log may begin within a traceback, whose level is not known."""
    assert gen1.log_problems(HEALTHY[HEALTHY.index("Traceback") :]) == []


def test_a_log_without_records_is_read_as_text() -> None:
    """What ends before it can log says so in a plain traceback, or in argparse's words."""
    assert gen1.log_problems("Traceback (most recent call last):\nModuleNotFoundError: No module named 'exo'") == [
        "ModuleNotFoundError: No module named 'exo'"
    ]
    assert gen1.log_problems("EXO: error: unrecognized arguments: run") != []


def test_elections_are_counted_by_their_campaigns() -> None:
    """Five in the 24 s before that crash; none while a cluster stands."""
    assert gen1.elections(HEALTHY) == 0
    assert gen1.elections(recorded("exo-1.x", "log_crash.txt")) == 5


@settings(max_examples=100)
@given(
    st.text() | st.lists(st.sampled_from([*HEALTHY.splitlines(), "| ExceptionGroup: x", "+-+--- 1 ---"])).map("\n".join)
)
def test_no_log_makes_the_reader_fail(log: str) -> None:
    """Whatever a log holds, it is read."""
    assert isinstance(gen1.log_problems(log), list)
    assert gen1.elections(log) >= 0
