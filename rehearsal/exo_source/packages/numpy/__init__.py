"""Stand-in for numpy on the rehearsal's nodes: what the compute probe and the stand-in engines use of it, on lists."""

import struct

float16, float32 = "e", "f"


class ndarray:  # noqa: N801 - numpy's name
    """Rows of numbers; `data` is the memory they came from, where they came from some."""

    def __init__(self, rows, data=None):
        self._rows, self.data = rows, data

    def reshape(self, _rows, columns):
        numbers = self._rows
        return ndarray([numbers[i : i + columns] for i in range(0, len(numbers), columns)], self.data)

    def tolist(self):
        return self._rows

    def astype(self, dtype):
        return ndarray(_each(lambda number: _rounded(number, dtype), self._rows))

    @property
    def T(self):  # noqa: N802 - numpy's name
        return ndarray([list(column) for column in zip(*self._rows, strict=True)])

    def __add__(self, number):
        return ndarray(_each(lambda own: own + number, self._rows))

    def __matmul__(self, other):
        columns = other.T.tolist()
        return ndarray([[sum(map(float.__mul__, row, column)) for column in columns] for row in self._rows])


def frombuffer(data, dtype):
    """Return the numbers in `data`, whose memory is only as writable as it was."""
    view = memoryview(data)
    return ndarray(view.cast(dtype).tolist(), view)


def full(shape, value, dtype):
    """Return an array of `shape` that is `value` everywhere."""
    rows = _rounded(value, dtype)
    for length in reversed(shape):
        rows = [rows] * length
    return ndarray(rows)


def triu(array, k):
    """Return the upper triangles of the last two dimensions, from the k-th diagonal on."""
    return ndarray(_triangles(array.tolist(), k))


def _triangles(rows, k):
    if isinstance(rows[0][0], list):
        return [_triangles(inner, k) for inner in rows]
    return [[number if x >= y + k else 0.0 for x, number in enumerate(row)] for y, row in enumerate(rows)]


def _each(change, rows):
    return [_each(change, row) for row in rows] if isinstance(rows, list) else change(rows)


def _rounded(number, dtype):
    try:
        return struct.unpack(dtype, struct.pack(dtype, number))[0]
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
