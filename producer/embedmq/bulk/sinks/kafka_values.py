"""How is a row written as the value of a Kafka record?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from embedmq_schemas.vectors import Array, to_rows

from embedmq.bulk.rows import Shape, Vectors

ENCODINGS: Final = ("bytes", "array")
"""As on the wire: little-endian numbers in base64, or a list of numbers."""
OWN: Final = frozenset({"id", "vector", "model", "revision", "hash"})


def values(vectors: Vectors, shape: Shape, encoding: str) -> Iterator[bytes]:
    """JSON of each row: `{"id", "vector": {"dtype", "shape", "data"}, "model", "revision", "hash"}` and what is kept;
    `hash` is in hex, and with `array` the vector's data a list.
    """
    encode = msgspec.json.Encoder().encode
    data = _bytes(vectors.dense, shape) if encoding == "bytes" else to_rows(vectors.dense)
    for id, content_hash, kept, numbers in zip(vectors.ids, vectors.hashes, vectors.kept, data, strict=True):
        yield encode(
            {
                **kept,
                "id": id,
                "vector": {"dtype": shape.dtype, "shape": [shape.dimensions], "data": numbers},
                "model": shape.model,
                "revision": shape.revision,
                "hash": content_hash.hex(),
            }
        )


def _bytes(dense: Array, shape: Shape) -> Sequence[bytes]:
    return [row.tobytes() for row in dense.astype("<f4" if shape.dtype == "float32" else "<f2", copy=False)]
