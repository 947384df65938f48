"""May one more request be held?"""

from __future__ import annotations

import asyncio

from embedmq_schemas.requests import LANES, Lane

from embedmq_worker.config import Worker
from embedmq_worker.jobs import Cost

NOTHING = Cost(0)
INTERACTIVE_SHARE = 0.9
"""Part of the room that the interactive lane may fill, so that a flood of live requests still lets bulk move."""


class Room:
    """The one bound on what the worker holds, in bytes, items and tokens, over all lanes and partitions.

    Each lane may fill a share of it, so that neither keeps the other out. A request larger than its lane's share is
    admitted when its lane holds nothing, one larger than the whole room when nothing is held at all: it would wait for
    ever otherwise.
    """

    def __init__(self, settings: Worker) -> None:
        self._limit = Cost(settings.max_in_flight_bytes, settings.max_in_flight_items, settings.max_in_flight_tokens)
        self._shares: dict[Lane, float] = {"interactive": INTERACTIVE_SHARE, "bulk": settings.bulk_share}
        self._lanes: dict[Lane, Cost] = dict.fromkeys(LANES, NOTHING)
        self._freed = asyncio.Event()
        self.held = NOTHING
        self.peak_bytes = 0

    def enter(self, cost: Cost, lane: Lane) -> bool:
        """Take the room for one request if there is enough of it."""
        mine, limit = self._lanes[lane], self._limit
        if self.held.bytes and not _fits(self.held, cost, limit, 1.0):
            return False
        if mine.bytes and not _fits(mine, cost, limit, self._shares[lane]):
            return False
        self._lanes[lane], self.held = _add(mine, cost), _add(self.held, cost)
        self.peak_bytes = max(self.peak_bytes, self.held.bytes)
        return True

    def used_ratio(self, lane: Lane) -> float:
        """How near a lane is to what keeps it out: its share, or the whole room. May be read from any thread."""
        mine, held, limit, share = self._lanes[lane], self.held, self._limit, self._shares[lane]
        return max(_ratio(mine, limit) / share, _ratio(held, limit))

    async def wait(self, cost: Cost, lane: Lane) -> None:
        """Take the room for one request as soon as there is enough of it."""
        while not self.enter(cost, lane):
            self._freed.clear()
            await self._freed.wait()

    def change(self, before: Cost, after: Cost, lane: Lane) -> None:
        """Correct an estimate, once the tokens are counted: what it was too high is room for others."""
        delta = Cost(after.bytes - before.bytes, after.items - before.items, after.tokens - before.tokens)
        self._lanes[lane], self.held = _add(self._lanes[lane], delta), _add(self.held, delta)
        self._freed.set()

    def leave(self, cost: Cost, lane: Lane) -> None:
        """Give the room of one request back."""
        self.change(cost, NOTHING, lane)


def _add(held: Cost, cost: Cost) -> Cost:
    return Cost(held.bytes + cost.bytes, held.items + cost.items, held.tokens + cost.tokens)


def _ratio(held: Cost, limit: Cost) -> float:
    return max(held.bytes / limit.bytes, held.items / limit.items, held.tokens / limit.tokens)


def _fits(held: Cost, cost: Cost, limit: Cost, share: float) -> bool:
    return (
        held.bytes + cost.bytes <= limit.bytes * share
        and held.items + cost.items <= limit.items * share
        and held.tokens + cost.tokens <= limit.tokens * share
    )
