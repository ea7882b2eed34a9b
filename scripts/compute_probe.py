"""Compute with an engine of EXO as EXO does, in the Python that EXO runs in: `compute_probe.py tinygrad|mlx`.

One line of JSON a stage, between two marks, so that whatever else is printed is not taken for an answer. Every stage
runs even where one before it failed: a node with two faults is mended once. Read in EXO v0.0.15-alpha: a hidden state
arrives over gRPC as `np.frombuffer(...)`, which is read-only, and llama's mask is a half-precision triangle of
-100000000, which is not the same to a compiler as one of -inf. In v1.0.71 every stage of a ring owns a thread-local
stream.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

BEGIN, END = "===== compute probe begins =====", "===== compute probe ends ====="
TELLING = ("tinygrad", "mlx", "mlx-cpu", "mlx-cuda-12", "mlx-cuda-13", "mlx-metal", "mlx-lm", "numpy", "pyrsmi")
MASK = -100000000.0


def main(engine: str) -> None:
    """Run every stage of `engine` and print what came of it."""
    print(f"\n{BEGIN}", flush=True)
    stages = {"tinygrad": with_tinygrad, "mlx": with_mlx}[engine]()
    for name, stage in stages.items():
        begin = time.perf_counter()
        told: dict[str, Any] = {"stage": name, "error": "", "trace": ""}
        try:
            told |= stage() or {}
        except BaseException as error:
            told["error"] = f"{type(error).__name__}: {error}"
            told["trace"] = traceback.format_exc()[-6000:]
        print(json.dumps(told | {"seconds": round(time.perf_counter() - begin, 3)}), flush=True)
        if name == "import" and told["error"]:
            break
    print(END, flush=True)


Stage = Callable[[], "dict[str, Any] | None"]


def versions() -> dict[str, str]:
    """Return the versions that decide what works."""
    found = {"python": sys.version.split()[0]}
    for name in TELLING:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def received(values: list[float]) -> Any:
    """Return one row of single precision as it comes out of a gRPC message: a read-only array."""
    import numpy as np

    return np.frombuffer(struct.pack(f"{len(values)}f", *values), dtype=np.float32).reshape(1, len(values))


def expect(found: Any, wanted: Any) -> None:
    """Raise where the numbers, rows or rows of rows, are not the right ones; half precision may be a little off."""
    told, right = flat(found), flat(wanted)
    if not all(math.isclose(f, w, rel_tol=0.01, abs_tol=0.01) for f, w in zip(told, right, strict=True)):
        raise ArithmeticError(f"wrong numbers: {told[:4]}, right are {right[:4]}")


def flat(rows: Any) -> list[float]:
    """Return the numbers of nested lists in their order."""
    return [number for row in rows for number in flat(row)] if isinstance(rows, list) else [float(rows)]


ROW = [float(number) for number in range(8)]
ROW_AND_ONE = [number + 1 for number in ROW]
TRIANGLE = [[-math.inf if column > row else 0.0 for column in range(12)] for row in range(12)]
"""Llama's mask of twelve tokens at half precision."""
SQUARE = [[(64 * row + column) % 7 / 8 for column in range(64)] for row in range(64)]
PRODUCT = [[sum(a * b for a, b in zip(row, other, strict=True)) for other in SQUARE] for row in SQUARE]
"""SQUARE times itself transposed."""


def with_tinygrad() -> dict[str, Stage]:
    """Return the stages of EXO 0.0.x."""

    def load() -> dict[str, Any]:
        from tinygrad import Device

        return {"device": str(Device.DEFAULT), "versions": versions()}

    def ask_rocm_smi() -> None:
        from tinygrad import Device

        if Device.DEFAULT != "AMD":
            return
        from pyrsmi import rocml

        rocml.smi_initialize()
        name, memory = rocml.smi_get_device_name(0), rocml.smi_get_device_memory_total(0)
        rocml.smi_shutdown()
        if not name or memory <= 0:
            raise ValueError(f"rocm-smi tells name {name!r} and {memory} bytes of memory")

    def take_read_only() -> None:
        from tinygrad import Tensor

        expect((Tensor(received(ROW)) + 1).numpy().tolist(), ROW_AND_ONE)

    def mask_in_half() -> None:
        from tinygrad import Tensor, dtypes

        mask = Tensor.full((1, 1, 12, 12), MASK, dtype=dtypes.half).triu(1).realize()
        expect(mask.numpy().tolist(), TRIANGLE)

    def multiply() -> None:
        from tinygrad import Tensor

        half = Tensor(SQUARE).half()
        expect((half @ half.T).numpy().tolist(), PRODUCT)

    # EXO asks rocm-smi when it starts, before it ever computes.
    return {
        "import": load,
        "rocm-smi": ask_rocm_smi,
        "read-only array": take_read_only,
        "fp16 mask": mask_in_half,
        "matmul": multiply,
    }


def with_mlx() -> dict[str, Stage]:
    """Return the stages of EXO 1.x."""

    def load() -> dict[str, Any]:
        import mlx.core as mx

        return {"device": str(mx.default_device()), "versions": versions()}

    def own_stream() -> None:
        import mlx.core as mx

        mx.new_thread_local_stream(mx.default_device())

    def take_read_only() -> None:
        import mlx.core as mx

        expect((mx.array(received(ROW)) + 1).tolist(), ROW_AND_ONE)

    def mask_in_half() -> None:
        import mlx.core as mx

        expect(mx.triu(mx.full((12, 12), MASK, dtype=mx.float16), 1).tolist(), TRIANGLE)

    def multiply() -> None:
        import mlx.core as mx

        half = mx.array(SQUARE).astype(mx.float16)
        expect((half @ half.T).tolist(), PRODUCT)

    return {
        "import": load,
        "thread-local stream": own_stream,
        "read-only array": take_read_only,
        "fp16 mask": mask_in_half,
        "matmul": multiply,
    }


if __name__ == "__main__":
    # A kernel out of tinygrad's cache would hide that its compiler is missing.
    os.environ["CACHELEVEL"] = "0"
    main(sys.argv[1])
