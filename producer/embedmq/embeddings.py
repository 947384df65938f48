"""What does the caller of `embed` get: vectors, and what is known about them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, overload

import numpy as np
from embedmq_schemas.results import Embedded, Failure, Sparse, Timing
from embedmq_schemas.vectors import Array, TensorMismatch, to_array
from msgspec import Struct
from numpy.typing import NDArray

from embedmq.errors import RequestFailed


class SparseVector(NamedTuple):
    """One item's sparse vector: vocabulary indices, ascending, and their weights."""

    indices: NDArray[np.int32]
    values: NDArray[np.float32]


class Embedding(Struct, frozen=True, kw_only=True):
    """One item's vectors; outputs that were not asked for, and those of a failed item, are None."""

    dense: Array | None
    """`(d,)`, read-only."""
    sparse: SparseVector | None = None
    multivector: Array | None = None
    """`(tokens, d)`, read-only."""
    tokens: int
    truncated: bool
    item_id: str | None
    failure: Failure | None = None


class Embeddings(Sequence[Embedding]):
    """The vectors of one call, in the order of its items; a sequence of `Embedding`.

    `dense` is a read-only view of the bytes that arrived: keep a copy of a few rows rather than the view, if the rest
    may go. Where a large call was cut into several requests, it is their rows put together.
    """

    __slots__ = (
        "_count",
        "_dense",
        "_multivector",
        "_sparse",
        "computed_in",
        "failures",
        "id",
        "item_ids",
        "meta",
        "model",
        "revision",
        "scales",
        "timing",
        "tokens",
        "truncated",
    )

    def __init__(
        self,
        *,
        result: Embedded,
        dense: Array | None,
        sparse: Sequence[SparseVector] | None,
        multivector: Sequence[Array] | None,
        scales: Sequence[float] | None,
        failures: Mapping[int, Failure],
    ) -> None:
        self._dense = dense
        self._sparse = sparse
        self._multivector = multivector
        self.id: str = result.id
        self.model: str = result.model
        self.revision: str = result.revision
        self.computed_in: str = result.computed_in
        self._count: int = result.count
        self.scales: NDArray[np.float32] | None = None if scales is None else np.array(scales, np.float32)
        """With `dtype="int8"`: one factor a row, which gives the float back."""
        self.failures: Mapping[int, Failure] = failures
        self.tokens: Sequence[int] = result.tokens
        self.truncated: Sequence[int] = result.truncated
        self.meta: Mapping[str, str] = result.meta or {}
        self.item_ids: Sequence[str] | None = result.item_ids
        self.timing: Timing = result.timing

    @classmethod
    def read(cls, result: Embedded) -> Embeddings:
        """Read a result; raises RequestFailed where its blocks do not fit each other."""
        try:
            tensor = result.dense
            dense = None if tensor is None else to_array(tensor)
            multivector = None if result.multivector is None else [to_array(each) for each in result.multivector]
        except TensorMismatch as error:
            raise RequestFailed(f"request {result.id}: broken reply: {error}", result.id) from None
        failures = {failure.index: failure for failure in result.failures} if result.failures else {}
        if dense is not None:
            if len(dense) != result.count:
                message = f"request {result.id}: broken reply: {len(dense)} rows for {result.count} items"
                raise RequestFailed(message, result.id)
            if failures:
                dense = _void(dense, [index for index in failures if 0 <= index < len(dense)])
        return cls(
            result=result,
            dense=dense,
            sparse=None if result.sparse is None else [_sparse(each) for each in result.sparse],
            multivector=multivector,
            scales=None if tensor is None else tensor.scales,
            failures=failures,
        )

    @property
    def dense(self) -> Array:
        """`(n, d)`; failed rows are NaN, in integer types zero."""
        if self._dense is None:
            raise AttributeError('no dense vectors here: ask for them with outputs=("dense",)')
        return self._dense

    @property
    def sparse(self) -> Sequence[SparseVector]:
        """n pairs of indices and values; those of failed items are empty."""
        if self._sparse is None:
            raise AttributeError('no sparse vectors here: ask for them with outputs=("sparse",)')
        return self._sparse

    @property
    def multivector(self) -> Sequence[Array]:
        """n arrays `(tokens_i, d)`; those of failed items have no rows."""
        if self._multivector is None:
            raise AttributeError('no multivectors here: ask for them with outputs=("multivector",)')
        return self._multivector

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Embedding: ...
    @overload
    def __getitem__(self, index: slice) -> list[Embedding]: ...
    def __getitem__(self, index: int | slice) -> Embedding | list[Embedding]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        i = index + self._count if index < 0 else index
        if not 0 <= i < self._count:
            raise IndexError(f"item {index} of {self._count}")
        failure = self.failures.get(i)
        return Embedding(
            dense=None if self._dense is None or failure else self._dense[i],
            sparse=None if self._sparse is None or failure else self._sparse[i],
            multivector=None if self._multivector is None or failure else self._multivector[i],
            tokens=self.tokens[i] if i < len(self.tokens) else 0,
            truncated=i in self.truncated,
            item_id=None if self.item_ids is None else self.item_ids[i],
            failure=failure,
        )

    def __repr__(self) -> str:
        shape = "" if self._dense is None else f", dense {self._dense.shape} {self._dense.dtype}"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<Embeddings of {self._count} by {self.model}{shape}{failed}>"


def _void(dense: Array, rows: list[int]) -> Array:
    """Failed rows as NaN or zero; copied only where the worker left something else in them."""
    floating = np.issubdtype(dense.dtype, np.floating)
    failed = dense[rows]
    if bool(np.isnan(failed).all()) if floating else not failed.any():
        return dense
    copy = dense.copy()
    copy[rows] = np.nan if floating else 0
    copy.flags.writeable = False
    return copy


def _sparse(sparse: Sparse) -> SparseVector:
    return SparseVector(np.array(sparse.indices, np.int32), np.array(sparse.values, np.float32))
