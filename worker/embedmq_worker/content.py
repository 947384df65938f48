"""By which hash is the vector of an item found again, and is what was found there really its vector? Pure."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np
from embedmq_schemas.requests import Item
from embedmq_schemas.results import Sparse, Tensor
from embedmq_schemas.vectors import Dtype, TensorMismatch, row_bytes, to_array
from msgspec import Struct

from embedmq_worker.engine.seam import Block, Encoded, ModelFacts, Options

FORM: Final = 1
"""Of what is hashed and of what is kept: whoever changes either raises it, and nothing older is found."""

DIGEST_BYTES: Final = 32
SEAL_BYTES: Final = 16

Digest = Callable[[Item], bytes]
"""The hash of one item."""


class Rows(Struct, frozen=True, gc=False, array_like=True):
    """The vectors of one item: one dense, or one for each token."""

    count: int
    data: bytes
    scales: bytes | None


class Content(Struct, frozen=True, gc=False, array_like=True):
    """The answer to one item, whatever was asked for."""

    dense: Rows | None
    sparse: tuple[list[int], list[float]] | None
    multivector: Rows | None
    score: float | None


def digests(model: str, facts: ModelFacts, options: Options, query: str | None) -> Digest:
    """How items are hashed (BLAKE2b) for one model as it was loaded, one set of options and one query.

    Everything that a vector depends on goes in: also where texts are cut, and how many dimensions there are.
    """
    way = (facts.revision, facts.computed_in, facts.path, facts.max_tokens, facts.dimensions, facts.token_dimensions)
    # `ascii` names every field, and whatever characters a query or a prompt may have
    base = blake2b(ascii((FORM, model, way, facts.outputs, options, query)).encode(), digest_size=DIGEST_BYTES)

    def digest(item: Item) -> bytes:
        found = base.copy()
        found.update(b"\0text" + item.encode("utf-8", "surrogatepass") if isinstance(item, str) else _ids(item))
        return found.digest()

    return digest


def seal(digest: bytes, vectors: Encoded) -> bytes:
    """The answer to one item as it is kept: under a seal (keyed BLAKE2b) of item and content, without the text."""
    content = msgspec.msgpack.encode(
        Content(
            None if vectors.dense is None else _rows(vectors.dense),
            None if vectors.sparse is None else (vectors.sparse[0].indices, vectors.sparse[0].values),
            None if vectors.multivector is None else _rows(vectors.multivector[0]),
            None if vectors.scores is None else float(vectors.scores[0]),
        )
    )
    return _seal(digest, content) + content


def unseal(digest: bytes, value: bytes, facts: ModelFacts, options: Options) -> Encoded | None:
    """What was kept of an item; None if it is of another item, damaged, or no answer to this request."""
    content = value[SEAL_BYTES:]
    if _seal(digest, content) != value[:SEAL_BYTES]:
        return None
    try:
        kept = msgspec.msgpack.decode(content, type=Content)
        found = Encoded(
            dense=None if kept.dense is None else _block(kept.dense, options, facts.dimensions),
            sparse=None if kept.sparse is None else [Sparse(*kept.sparse)],
            multivector=None
            if kept.multivector is None
            else [_block(kept.multivector, options, facts.token_dimensions)],
            scores=None if kept.score is None else np.array([kept.score], np.float32),
        )
    except (msgspec.MsgspecError, TensorMismatch):
        return None
    return found if _names(found) == set(("scores",) if facts.scores else options.outputs) else None


def _names(found: Encoded) -> set[str]:
    return {name for name in Encoded.__struct_fields__ if getattr(found, name) is not None}


def _ids(item: list[int]) -> bytes:
    return b"\0ids" + np.array(item, np.int64).tobytes()


def _seal(digest: bytes, content: bytes) -> bytes:
    return blake2b(content, key=digest, digest_size=SEAL_BYTES).digest()


def _rows(block: Block) -> Rows:
    return Rows(len(block.data), block.data.tobytes(), None if block.scales is None else block.scales.tobytes())


def _block(rows: Rows, options: Options, width: int) -> Block:
    dtype: Dtype = options.dtype
    width = options.dimensions or width
    shape = (rows.count, row_bytes("ubinary", width) if dtype == "ubinary" else width)
    scales = None if rows.scales is None else np.frombuffer(rows.scales, np.float32)
    if (None if scales is None else len(scales)) != (rows.count if dtype == "int8" else None):
        raise TensorMismatch(f"{rows.count} rows of {dtype} with other scales than those have")
    return Block(to_array(Tensor(dtype, shape, memoryview(rows.data))), scales)
