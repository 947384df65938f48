"""Where does each vector of a batch come from: an identical item, the cache, or the device?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from embedmq_worker.bisect import Relief, encode_parts, hand, nothing
from embedmq_worker.device import Device
from embedmq_worker.engine.seam import Encoded, Engine
from embedmq_worker.jobs import Batch, Part, size
from embedmq_worker.recall import Asked, Recall
from embedmq_worker.twins import Twin, Twins, vector


class Supplied(Struct, frozen=True):
    """What the device computed of a batch, in which time, and what it did not need to."""

    items: int
    tokens: int
    forward_s: float
    coalesced: int
    """Items that have the vector of an identical one."""
    hits: int
    misses: int
    """Of the cache, if it was asked."""


class Supply:
    """Gives the jobs of a batch their vectors, each computed once however many identical items are in flight."""

    def __init__(self, device: Device, twins: Twins, recall: Recall | None = None) -> None:
        """`recall` is the cache, if there is one."""
        self._device = device
        self._twins = twins
        self._recall = recall

    async def supply(self, engine: Engine, batch: Batch, relief: Relief, launched: Callable[[], None]) -> Supplied:
        """Fill a batch; `launched` is called when the device can be given another.

        Another batch is waited for after all of this one's own is computed, so no two wait for each other. What did not
        come of it is computed here.

        Raises:
            DeviceLost: as `encode_parts`.
        """
        facts, asked = engine.facts, Asked(0, {})

        def computed(part: Part, vectors: Encoded) -> None:
            self._twins.share(part, vectors, facts)
            if asked.missed and self._recall is not None:
                self._recall.note(asked, part, vectors)

        async def compute(parts: Sequence[Part], launched: Callable[[], None]) -> float:
            start_s = time.perf_counter()
            await encode_parts(self._device, engine, parts, relief, launched, computed)
            return time.perf_counter() - start_s

        done = asyncio.Event()
        parts, twins = self._twins.divide(batch.parts, facts, done)
        try:
            if self._recall is not None and not batch.alone:
                parts, asked = await self._recall.answer(batch.model, parts, facts, self._twins)
                self._twins.narrow(done, parts)
            forward_s = await compute(parts, launched) if parts else 0.0
        finally:
            self._twins.finish(done)
        launched()
        left = await _join(twins) if twins else ()
        if left:
            forward_s += await compute(left, nothing)
        items, tokens = (batch.items, batch.tokens) if parts is batch.parts else size([*parts, *left])
        return Supplied(items, tokens, forward_s, len(twins) - len(left), asked.hits, len(asked.missed))

    async def remember(self) -> None:
        """Let the cache have what was computed since it last had; bounded in bytes, and in time by its client."""
        if self._recall is not None:
            await self._recall.store()


async def _join(twins: Sequence[Twin]) -> list[Part]:
    """Give twins their vectors when they are there; returns those of which there are none."""
    left: list[Part] = []
    for twin in twins:
        if twin.done is not None:
            await twin.done.wait()
        one = Part(twin.job, twin.index, twin.index + 1)
        vectors = vector(twin)
        if vectors is None:
            left.append(one)
        else:
            hand(one, vectors, 0.0)
    return left
