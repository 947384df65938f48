"""How many items may be on their way at once, and who goes next?"""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """A bound on items in flight, first come, first served. A call larger than the bound goes alone."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, items: int) -> bool:
        """Take room at once; False where there is none, or where others wait for it."""
        used = self._used + self._cost(items)
        if self._waiting or used > self._max_items:
            return False
        self._used = used
        return True

    async def wait(self, items: int, turn: asyncio.Future[None]) -> None:
        """Wait for room and take it. Whoever has the `turn` can end the wait by an error."""
        self._waiting.append((items, turn))
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(items)
            else:
                self._admit()
            raise

    def give_back(self, items: int) -> None:
        """Make room; whoever waits first takes it."""
        self._used -= self._cost(items)
        if self._waiting:
            self._admit()

    def _admit(self) -> None:
        waiting = self._waiting
        while waiting:
            items, turn = waiting[0]
            if turn.done():
                waiting.popleft()
            elif self._used + self._cost(items) <= self._max_items:
                waiting.popleft()
                self._used += self._cost(items)
                turn.set_result(None)
            else:
                return

    def _cost(self, items: int) -> int:
        return min(items, self._max_items)
