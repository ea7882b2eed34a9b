"""Stand-in for tinygrad: what a prompt asks of it, computed on lists, and failing where and as its release fails.

The errors are those of the packages from the index and of tinygrad's emulated AMD GPU, word for word; the table of
releases is in docs/decisions/0002-profiles.md. What a node has is told by the rehearsal: `gpu.usable`, `gpu.comgr`
and `cpu.clang` in its settings.
"""

import ctypes
import json
import os
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np

VERSION = tuple(int(number) for number in version("tinygrad").split("."))


def _is_set(name, default="0"):
    return os.environ.get(name, default) not in ("", "0")


Device = SimpleNamespace(
    DEFAULT=next((name for name in ("AMD", "CUDA") if _is_set(name)), "CPU" if VERSION > (0, 10, 1) else "CLANG")
)
dtypes = SimpleNamespace(half=np.float16)


class CompileError(Exception):
    """A compiler refused what tinygrad wrote."""


class Tensor:
    """An array; nothing happens on the device before its numbers are asked for."""

    def __init__(self, source, data=None):
        self._array = np.ndarray(source) if isinstance(source, list) else source
        self._data = getattr(source, "data", None) if data is None else data

    @staticmethod
    def full(shape, value, dtype):
        return Tensor(np.full(shape, value, dtype=dtype))

    def triu(self, diagonal):
        return Tensor(np.triu(self._array, diagonal))

    def half(self):
        return Tensor(self._array.astype(np.float16))

    @property
    def T(self):  # noqa: N802 - tinygrad's name
        return Tensor(self._array.T)

    def __add__(self, number):
        return Tensor(self._array + number, self._data)

    def __matmul__(self, other):
        return Tensor(self._array @ other._array)

    def realize(self):
        if Device.DEFAULT == "AMD":
            _on_amd("-inf" in str(self._array.tolist()))
        elif Device.DEFAULT == "CUDA":
            raise AttributeError("module 'tinygrad.runtime.autogen.cuda' has no attribute 'cuInit'")
        else:
            if not _told("cpu").get("clang", True):
                raise FileNotFoundError(2, "No such file or directory", "clang")
            if self._data is not None and VERSION >= (0, 10, 3):
                # The genuine one shares the array's memory in just this way, and Python refuses.
                ctypes.c_char.from_buffer(self._data)
        return self

    def numpy(self):
        return self.realize()._array


def _on_amd(has_infinity):
    gpu, by_llvm = _told("gpu"), _is_set("AMD_LLVM", "1" if VERSION >= (0, 11, 0) else "0")
    if VERSION < (0, 10, 3):
        raise ModuleNotFoundError("No module named 'tinygrad.runtime.autogen.am'")
    if not gpu.get("usable", False):
        raise RuntimeError(
            "Cannot find a usable interface for AMD:0:\n\nKFDIface: FileNotFoundError: [Errno 2] No such file or"
            " directory: '/dev/kfd'\n\nPCIIface: IndexError: list index out of range"
        )
    if not by_llvm and not gpu.get("comgr", True):
        raise AttributeError("module 'tinygrad.runtime.autogen.comgr' has no attribute 'amd_comgr_create_action_info'")
    if by_llvm and has_infinity:
        raise CompileError("src:13:30: error: expected value token\n  %v10 = select i1 %v9, half -inf, half 0.0")


def _told(section):
    try:
        return json.loads((Path.home() / ".rehearsal.json").read_text()).get(section, {})
    except (OSError, ValueError):
        return {}
