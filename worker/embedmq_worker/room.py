"""May one more request be held?"""

from __future__ import annotations

import asyncio

from embedmq_schemas.requests import Lane

from embedmq_worker.config import Worker
from embedmq_worker.jobs import Cost

NOTHING = Cost(0)


class Room:
    """The one bound on what the worker holds, in bytes, items and tokens, over all lanes and partitions.

    The bulk lane may fill a share of it, so that it never keeps the interactive lane out. A request larger than the
    whole room is admitted when nothing else is held: it would wait for ever otherwise.
    """

    def __init__(self, settings: Worker) -> None:
        self._limit = Cost(settings.max_in_flight_bytes, settings.max_in_flight_items, settings.max_in_flight_tokens)
        self._bulk_share = settings.bulk_share
        self._freed = asyncio.Event()
        self.held = NOTHING
        self.peak_bytes = 0

    def enter(self, cost: Cost, lane: Lane) -> bool:
        """Take the room for one request if there is enough of it."""
        share = self._bulk_share if lane == "bulk" else 1.0
        held, limit = self.held, self._limit
        fits = (
            held.bytes + cost.bytes <= limit.bytes * share
            and held.items + cost.items <= limit.items * share
            and held.tokens + cost.tokens <= limit.tokens * share
        )
        if not fits and held.bytes:
            return False
        self.held = Cost(held.bytes + cost.bytes, held.items + cost.items, held.tokens + cost.tokens)
        self.peak_bytes = max(self.peak_bytes, self.held.bytes)
        return True

    async def wait(self, cost: Cost, lane: Lane) -> None:
        """Take the room for one request as soon as there is enough of it."""
        while not self.enter(cost, lane):
            self._freed.clear()
            await self._freed.wait()

    def change(self, before: Cost, after: Cost) -> None:
        """Correct an estimate, once the tokens are counted: what it was too high is room for others."""
        held = self.held
        self.held = Cost(
            held.bytes + after.bytes - before.bytes,
            held.items + after.items - before.items,
            held.tokens + after.tokens - before.tokens,
        )
        self._freed.set()

    def leave(self, cost: Cost) -> None:
        """Give the room of one request back."""
        self.change(cost, NOTHING)
