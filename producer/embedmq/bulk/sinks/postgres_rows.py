"""How do vectors look in PostgreSQL's binary COPY?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from embedmq_schemas.vectors import Array

from embedmq.bulk.rows import Vectors
from embedmq.bulk.sinks.kept import as_text

Kind = Literal["vector", "halfvec", "real[]"]
"""The types that hold vectors: pgvector's two, and the array of a database without it."""

_FLOAT4_OID: Final = 700


def copy_rows(vectors: Vectors, kind: Kind, keep: Sequence[str]) -> Iterator[Sequence[str | bytes | None]]:
    """Id, vector, hash and kept columns of each row.

    A vector is what the type's receive function reads: https://github.com/pgvector/pgvector (`vector_recv`), and for an
    array `array_recv` in PostgreSQL's arrayfuncs.c. Everything is big-endian.
    """
    packed = _PACK[kind](vectors.dense)
    for id, vector, content_hash, kept in zip(vectors.ids, packed, vectors.hashes, vectors.kept, strict=True):
        yield id, vector, content_hash, *(as_text(kept.get(name)) for name in keep)


def _vector(dense: Array) -> list[bytes]:
    return _headed(dense, ">f4")


def _halfvec(dense: Array) -> list[bytes]:
    return _headed(dense, ">f2")


def _headed(dense: Array, number: str) -> list[bytes]:
    head = np.array([dense.shape[1], 0], ">u2").tobytes()
    return [head + row.tobytes() for row in np.ascontiguousarray(dense, number)]


def _real_array(dense: Array) -> list[bytes]:
    """One dimension, no nulls, numbered from 1; each number behind its length."""
    rows, width = dense.shape
    head = np.array([1, 0, _FLOAT4_OID, width, 1], ">i4").tobytes()
    cells = np.empty((rows, width), [("bytes", ">i4"), ("number", ">f4")])
    cells["bytes"], cells["number"] = 4, dense
    return [head + row.tobytes() for row in cells]


_PACK: Final[Mapping[Kind, Callable[[Array], list[bytes]]]] = {
    "vector": _vector,
    "halfvec": _halfvec,
    "real[]": _real_array,
}
