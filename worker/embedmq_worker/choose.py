"""Which work goes to the device next? Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from embedmq_schemas.requests import Lane
from msgspec import Struct

from embedmq_worker.jobs import Batch, Job, Part


class Budget(Struct, frozen=True):
    """What one batch of a model may hold: `tokens` is its device time by the rate measured at load."""

    tokens: int
    items: int


class Queue(Struct, eq=False):
    """The jobs of one model and lane, oldest first; of the first, the items below `next` are already dispatched."""

    model: str
    lane: Lane
    jobs: Sequence[Job]
    next: int = 0


def budget(tokens_per_s: float, max_batch_ms: float, max_batch_tokens: int, max_batch_items: int) -> Budget:
    """Turn device time into tokens."""
    return Budget(max(1, int(min(tokens_per_s * max_batch_ms / 1000, max_batch_tokens))), max_batch_items)


def choose(queues: Sequence[Queue], budgets: Mapping[str, Budget], now_s: float) -> Batch | None:
    """Choose the next batch: first come, first served, until the budget of that model is full.

    The model is that of the job which has waited longest; its jobs of all lanes follow in order of arrival. The first
    item is always taken, however large, so nothing waits for ever. A job that does not fit is split between items.
    Returns None when nothing waits. `now_s` is the caller's monotonic clock.
    """
    waiting = [queue for queue in queues if queue.jobs]
    if not waiting:
        return None
    oldest = max(waiting, key=lambda queue: now_s - queue.jobs[0].arrived_s)
    parts: list[Part] = []
    limit = budgets[oldest.model]
    items = tokens = 0
    for job, start in _arrivals([queue for queue in waiting if queue.model == oldest.model]):
        counts = job.prepared.tokens
        stop = len(counts)
        weight = sum(counts[start:]) if start else job.cost.tokens
        if tokens + weight > limit.tokens or items + stop - start > limit.items:
            stop, weight = _fit(counts, start, limit.tokens - tokens, limit.items - items, first=not parts)
        if stop > start:
            parts.append(Part(job, start, stop))
            items += stop - start
            tokens += weight
        if stop < len(counts):
            break
    return Batch(oldest.model, parts, items, tokens)


def _arrivals(queues: Sequence[Queue]) -> Iterator[tuple[Job, int]]:
    """The jobs of one model's lanes, merged by arrival, each with its first item that is not dispatched yet."""
    streams = [_heads(queue) for queue in queues]
    return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda head: head[0].arrived_s)


def _heads(queue: Queue) -> Iterator[tuple[Job, int]]:
    start = queue.next
    for job in queue.jobs:
        yield job, start
        start = 0


def _fit(counts: Sequence[int], start: int, tokens: int, items: int, *, first: bool) -> tuple[int, int]:
    """How far a job fits into what is left of a budget: the index after its last item, and their tokens."""
    stop, weight = start, 0
    while (
        stop < len(counts) and stop - start < items and (weight + counts[stop] <= tokens or (first and stop == start))
    ):
        weight += counts[stop]
        stop += 1
    return stop, weight
