"""Threads may begin to decode one type at the same time."""

from __future__ import annotations

import subprocess
import sys

from tests import PROJECT

AT_ONCE = """
import sys, threading, msgspec
from tasks.decode import decode
sys.setswitchinterval(1e-6)
for number in range(300):
    inner = msgspec.defstruct(f"Inner{number}", [(f"f{n}", int | None, None) for n in range(30)])
    kind = msgspec.defstruct(f"Outer{number}", [("xs", list[inner] | None, None), ("d", dict[str, inner] | None, None)])
    gate = threading.Barrier(8)
    def work():
        gate.wait()
        decode(b'{"xs": [{"f1": 1}]}', kind)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print("whole")
"""


def test_a_type_may_be_used_first_by_several_threads() -> None:
    """Eight threads decode 300 fresh types at once and the interpreter lives; with bare msgspec 0.22 it does not."""
    done = subprocess.run([sys.executable, "-c", AT_ONCE], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "whole")
