"""Which calls of one moment travel in one record, and what of its answer is whose?"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from embedmq_schemas.limits import KIB, Limits
from embedmq_schemas.requests import Embed, Item
from embedmq_schemas.results import Embedded, Failure, Tensor
from msgspec.structs import replace

SHARED_ITEMS = 64
"""Most items in a record that calls share. 1,000 calls to a model that computes nothing took 84 ms by 16, 78 by 32,
63 by 64 and 71 by 128; and the first vectors of a record wait for its last.
"""
SHARED_BYTES = 16 * KIB
"""Most bytes of items in such a record: texts of some length gain nothing by company, and would wait for each other."""
FRAME_BYTES = KIB
"""More than all else in a request takes that has no prompt."""


class Mismatch(ValueError):
    """An answer that is not one to the requests it was made for."""


def weigh(items: Sequence[Item]) -> int:
    """How many bytes items take in a record, at most: 4 a character beyond ASCII, 5 a token id, 5 before each."""
    size = 5 * len(items)
    for item in items:
        size += len(item) if isinstance(item, str) and item.isascii() else 5 * len(item)
    return size


def can_share(request: Embed, size_bytes: int, limits: Limits) -> bool:
    """Whether a request whose items take `size_bytes` is small enough for company, and records are large enough."""
    if len(request.items) > min(SHARED_ITEMS, limits.max_items) or size_bytes > SHARED_BYTES:
        return False
    space = limits.max_request_bytes - FRAME_BYTES - SHARED_BYTES
    return space >= weigh(
        [text for text in (request.prompt, request.prompt_name, request.tenant, request.revision) if text]
    )


def kind(topic: str, request: Embed) -> Hashable:
    """Requests for which this is equal differ in nothing but their items and deadlines."""
    outputs = None if request.outputs is None else tuple(request.outputs)
    return (
        topic,
        request.model,
        outputs,
        request.prompt_name,
        request.prompt,
        request.dimensions,
        request.dtype,
        request.normalize,
        request.truncate,
        request.tenant,
        request.revision,
    )


def pack(sizes: Sequence[tuple[int, int]], max_items: int) -> list[range]:
    """Which of several requests of one kind, each of so many items and bytes, share a record, in their order."""
    parts: list[range] = []
    start, items, size = 0, 0, 0
    for i, (more_items, more_bytes) in enumerate(sizes):
        if i > start and (items + more_items > max_items or size + more_bytes > SHARED_BYTES):
            parts.append(range(start, i))
            start, items, size = i, 0, 0
        items += more_items
        size += more_bytes
    if sizes:
        parts.append(range(start, len(sizes)))
    return parts


def merge(id: str, requests: Sequence[Embed]) -> Embed:
    """One request for the items of several of one kind, good until the last of their deadlines."""
    deadlines = [request.deadline_unix_ms for request in requests if request.deadline_unix_ms is not None]
    return replace(
        requests[0],
        id=id,
        items=[item for request in requests for item in request.items],
        deadline_unix_ms=max(deadlines) if len(deadlines) == len(requests) else None,
    )


def split(result: Embedded, owners: Sequence[tuple[str, int]]) -> Iterator[Embedded]:
    """The answer to each of the requests in turn, by its id and number of items; vectors are not copied.

    Raises:
        Mismatch: this is no answer to them.
    """
    if result.count != sum(count for _, count in owners):
        raise Mismatch(f"{result.count} rows for the items of {len(owners)} requests")
    start = 0
    for id, count in owners:
        stop = start + count
        yield Embedded(
            id=id,
            model=result.model,
            revision=result.revision,
            computed_in=result.computed_in,
            count=count,
            dense=None if result.dense is None else _rows(result.dense, result.count, start, stop),
            sparse=None if result.sparse is None else result.sparse[start:stop],
            multivector=None if result.multivector is None else result.multivector[start:stop],
            failures=_failures(result.failures, start, stop) if result.failures else [],
            tokens=result.tokens[start:stop],
            truncated=[i - start for i in result.truncated if start <= i < stop] if result.truncated else [],
            timing=result.timing,
        )
        start = stop


def _failures(failures: Sequence[Failure], start: int, stop: int) -> list[Failure]:
    return [Failure(each.index - start, each.code, each.message) for each in failures if start <= each.index < stop]


def _rows(block: Tensor, count: int, start: int, stop: int) -> Tensor:
    rows, width = block.shape
    data = block.data
    row_bytes, rest = (1, 0) if isinstance(data, list) else divmod(data.nbytes, rows or 1)
    if rows != count or rest:
        raise Mismatch(f"a block of {rows} rows for {count} items")
    scales = None if block.scales is None else block.scales[start:stop]
    return Tensor(block.dtype, (stop - start, width), data[start * row_bytes : stop * row_bytes], scales)
