"""How do blocks of numbers become arrays without a copy, and arrays blocks?"""

from __future__ import annotations

from math import isfinite
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from embedmq_schemas.results import Rows, Tensor

Dtype = Literal["float32", "float16", "int8", "ubinary"]
Array = NDArray[np.number]

_NUMPY: Final[dict[str, np.dtype[np.number]]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int8": np.dtype("i1"),
    "ubinary": np.dtype("u1"),
}


_MAX_WIDTH: Final = 2**31 - 1


class TensorMismatch(ValueError):
    """A tensor whose dtype, shape and data do not fit each other."""


def row_bytes(dtype: str, dimensions: int) -> int:
    """Bytes of one row of `dimensions` numbers; `ubinary` packs eight into one."""
    return -(-dimensions // 8) if dtype == "ubinary" else _NUMPY[dtype].itemsize * dimensions


def to_array(tensor: Tensor) -> Array:
    """View a tensor's bytes as a read-only array `(rows, width)`; rows of numbers are converted, null to NaN (or 0).

    Raises:
        TensorMismatch: unknown dtype, or the data has another size than the shape says (nothing is allocated then),
            or a number that the dtype cannot hold.
    """
    kind = _NUMPY.get(tensor.dtype)
    rows, width = tensor.shape
    if kind is None or rows < 0 or not 0 <= width <= _MAX_WIDTH or (rows and not width):
        raise TensorMismatch(f"no tensor: dtype {tensor.dtype!r}, shape {tensor.shape}")
    if isinstance(tensor.data, list):
        return _from_rows(tensor.data, rows, width, kind)
    if tensor.data.nbytes != rows * width * kind.itemsize:
        raise TensorMismatch(f"{tensor.data.nbytes} bytes for shape {tensor.shape} of {tensor.dtype}")
    array: Array = np.frombuffer(tensor.data, dtype=kind).reshape(rows, width)
    return array


def _from_rows(data: Rows, rows: int, width: int, kind: np.dtype[np.number]) -> Array:
    if len(data) != rows or any(len(row) != width for row in data):
        raise TensorMismatch(f"{len(data)} rows for shape {(rows, width)}")
    void = float("nan") if kind.kind == "f" else 0
    try:
        with np.errstate(over="raise"):
            block = np.array([[void if x is None else x for x in row] for row in data], dtype=kind)
    except (OverflowError, FloatingPointError) as error:
        raise TensorMismatch(f"numbers that are no {kind.name}: {error}") from None
    array: Array = block.reshape(rows, width)
    array.flags.writeable = False
    return array


def to_rows(array: Array, failed: frozenset[int] = frozenset()) -> Rows:
    """Numbers for readers who cannot decode bytes; a failed row, and what is not finite, become nulls.

    They do so here and not in the codec, since JSON would write null where MessagePack writes NaN.
    """
    rows: Rows = array.tolist()
    for i in np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist():
        rows[i] = [x if isfinite(x) else None for x in array[i].tolist()]
    return [[None] * len(row) if i in failed else row for i, row in enumerate(rows)]
