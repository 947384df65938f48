"""What does an item get that failed? Numbers that nobody can take for an answer."""

from __future__ import annotations

import numpy as np
from embedmq_schemas.results import Sparse
from embedmq_schemas.vectors import Array, Dtype, row_bytes

from embedmq_worker.engine.seam import Block, Encoded, ModelFacts, Options


def void(facts: ModelFacts, options: Options, count: int) -> Encoded:
    """The answer to `count` items that all failed, in every output that `options` asks of this model."""
    if facts.scores:
        return Encoded(scores=np.full(count, np.nan, np.float32))
    wanted, width = options.outputs, options.dimensions
    return Encoded(
        dense=void_block(count, width or facts.dimensions, options.dtype) if "dense" in wanted else None,
        sparse=[Sparse([], []) for _ in range(count)] if "sparse" in wanted else None,
        multivector=[void_block(0, width or facts.token_dimensions, options.dtype) for _ in range(count)]
        if "multivector" in wanted
        else None,
    )


def void_block(count: int, width: int, dtype: Dtype) -> Block:
    """Void rows of `width` dimensions; `int8` has scales of zero."""
    kind = np.dtype(np.uint8 if dtype == "ubinary" else dtype)
    data: Array = np.full((count, row_bytes(dtype, width) // kind.itemsize), void_number(kind), kind)
    return Block(data, np.zeros(count, np.float32) if dtype == "int8" else None)


def void_number(kind: np.dtype[np.number]) -> float:
    """NaN; in integer types, which have none, zero."""
    return np.nan if kind.kind == "f" else 0
