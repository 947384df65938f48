"""How do the answers to the parts of one large call become one answer?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import numpy as np
from embedmq_schemas.results import Embedded, Failed, Failure, Timing
from embedmq_schemas.vectors import Array

from embedmq.embeddings import Embeddings, SparseVector
from embedmq.errors import RequestFailed
from embedmq.outcome import error_of

_T = TypeVar("_T")


class Answer(msgspec.Struct, frozen=True):
    """What came back for a part of the items: vectors, or the failure of them all."""

    items: range
    result: Embeddings | Failed


def join(id: str, answers: Sequence[Answer], item_ids: Sequence[str] | None) -> Embeddings:
    """Put the parts of a call together, in order; a part that failed becomes failures of its items.

    Raises:
        RequestFailed: all parts failed, or two were computed by different revisions of the model.
    """
    parts = [(answer.items, answer.result) for answer in answers if isinstance(answer.result, Embeddings)]
    if not parts:
        raise error_of(next(answer.result for answer in answers if isinstance(answer.result, Failed)))
    results = [result for _, result in parts]
    revisions = sorted({result.revision for result in results})
    if len(revisions) > 1:
        message = f"request {id}: its parts were computed by revisions {', '.join(revisions)}, which cannot be compared"
        raise RequestFailed(f"{message}: ask again, or name the revision", id, retryable=True)
    count = answers[-1].items.stop
    first = results[0]
    joined = Embedded(
        id=id,
        model=first.model,
        revision=first.revision,
        computed_in=first.computed_in,
        count=count,
        tokens=_spread(count, parts, lambda part: part.tokens, 0),
        truncated=[items.start + i for items, part in parts for i in part.truncated],
        meta=dict(first.meta) or None,
        item_ids=None if item_ids is None else list(item_ids),
        timing=Timing(
            queue_ms=max(part.timing.queue_ms for part in results),
            tokenize_ms=max(part.timing.tokenize_ms for part in results),
            forward_ms=max(part.timing.forward_ms for part in results),
        ),
    )
    empty = SparseVector(np.empty(0, np.int32), np.empty(0, np.float32))
    return Embeddings(
        result=joined,
        dense=_stack(count, parts),
        sparse=None if first._sparse is None else _spread(count, parts, lambda part: part._sparse or (), empty),
        multivector=None
        if first._multivector is None
        else _spread(count, parts, lambda part: part._multivector or (), np.empty((0, 0), np.float32)),
        scales=None
        if first.scales is None
        else _spread(count, parts, lambda part: [] if part.scales is None else part.scales.tolist(), 0.0),
        failures=_failures(answers),
    )


def _failures(answers: Sequence[Answer]) -> dict[int, Failure]:
    failures: dict[int, Failure] = {}
    for answer in answers:
        result, start = answer.result, answer.items.start
        if isinstance(result, Failed):
            failures |= {i: Failure(i, result.code, result.message) for i in answer.items}
        else:
            failures |= {start + i: Failure(start + i, f.code, f.message) for i, f in result.failures.items()}
    return failures


def _stack(count: int, parts: Sequence[tuple[range, Embeddings]]) -> Array | None:
    blocks = [(items, part._dense) for items, part in parts if part._dense is not None]
    if not blocks:
        return None
    kind = blocks[0][1].dtype
    void = np.nan if np.issubdtype(kind, np.floating) else 0
    dense: Array = np.full((count, blocks[0][1].shape[1]), void, kind)
    for items, block in blocks:
        dense[items.start : items.stop] = block
    dense.flags.writeable = False
    return dense


def _spread(
    count: int, parts: Sequence[tuple[range, Embeddings]], of: Callable[[Embeddings], Sequence[_T]], void: _T
) -> list[_T]:
    """One value an item, where parts that failed leave `void`."""
    values = [void] * count
    for items, part in parts:
        for i, value in zip(items, of(part), strict=False):  # a reply may leave a list out
            values[i] = value
    return values
