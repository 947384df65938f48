"""How does a model's vector become the vector that a request asked for? Slice, normalise, cast: in this order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedmq_worker.engine.seam import Block, Encoded, Options

Floats = NDArray[np.float32]


def finish(vectors: Floats, options: Options, normalizes: bool) -> Encoded:
    """Finish the rows `(n, width)` of one request; NaN rows stay void (NaN, or 0 in integer types).

    `normalize=None` does what the model does (`normalizes`). Slicing comes before normalising, so that a sliced vector
    has length one again (Kusupati et al., Matryoshka Representation Learning, 2022).
    """
    rows = vectors[:, : options.dimensions]
    if normalizes if options.normalize is None else options.normalize:
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.maximum(length, np.float32(1e-12))
    if options.dtype == "float16":
        with np.errstate(over="ignore"):  # what half precision cannot hold is infinite
            return Encoded(dense=Block(rows.astype(np.float16)))
    if options.dtype == "int8":
        return _quantize(rows)
    if options.dtype == "ubinary":
        return Encoded(dense=Block(np.packbits(rows > 0, axis=1)))
    dense = np.ascontiguousarray(rows, np.float32)
    # a view would keep the whole batch in memory for as long as one of its results waits
    return Encoded(dense=Block(dense if dense.base is None else dense.copy()))


def _quantize(rows: Floats) -> Encoded:
    """Symmetric per row: the largest magnitude becomes 127."""
    safe = np.nan_to_num(rows)
    scales = np.maximum(np.abs(safe).max(axis=1), np.float32(1e-12)) / np.float32(127)
    return Encoded(dense=Block(np.rint(safe / scales[:, None]).astype(np.int8), scales.astype(np.float32)))
