"""Which texts share a batch? As many as the budget allows, in the order given. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from embedmq_worker.choose import Budget, budget
from embedmq_worker.config import Worker
from embedmq_worker.engine.seam import Ask, Prepared, Slice

BULK_BATCH_MS = 200.0
"""`max_batch_ms` of a worker that is there for throughput, as `embedmq up` starts one."""


def usual(tokens_per_s: float, batch_ms: float = BULK_BATCH_MS) -> Budget:
    """What a worker puts into one batch of a model of that rate."""
    settings = Worker()
    return budget(tokens_per_s, batch_ms, settings.max_batch_tokens, settings.max_batch_items)


def fill(prepared: Iterable[tuple[Ask, Prepared]], limit: Budget) -> Iterator[list[Slice]]:
    """Cut a row of requests into batches: an item that does not fit begins the next one."""
    batch: list[Slice] = []
    tokens = items = 0
    for ask, each in prepared:
        start = 0
        for index, needed in enumerate(each.tokens):
            if items and (tokens + needed > limit.tokens or items == limit.items):
                if index > start:
                    batch.append(Slice(each, ask.options, start, index))
                yield batch
                batch, tokens, items, start = [], 0, 0, index
            tokens += needed
            items += 1
        batch.append(Slice(each, ask.options, start, len(each.tokens)))
    if batch:
        yield batch
