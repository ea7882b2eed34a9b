"""Stand-in for mlx.core: what a prompt asks of it; without a back end it does not load, and 0.31.1 lacks a stream."""

from importlib.metadata import PackageNotFoundError, version

from numpy import float16, full, ndarray, triu  # noqa: F401 - `mx.full` is what is used

try:
    version("mlx-cpu")
except PackageNotFoundError:
    raise ImportError("libmlx.so: cannot open shared object file: No such file or directory") from None


def default_device():
    return "Device(cpu, 0)"


def array(source):
    return ndarray(source if isinstance(source, list) else source.tolist())


if version("mlx") >= "0.31.2":

    def new_thread_local_stream(device):
        return f"Stream({device}, 1)"
