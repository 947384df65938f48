"""How long does a bulk job wait for what is away?"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

FIRST_S, LAST_S = 0.5, 15.0


class Patience:
    """Waits with growing pauses while nothing gets better, for `limit_s` in all; `waiting_for` says for what."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._since_s: float | None = None
        self._pause_s = FIRST_S
        self.waiting_for = ""

    async def wait(self, error: Exception, least_s: float | None = None) -> None:
        """Wait before the next attempt; raises `error` when there have been enough. `least_s` is how long there is to
        wait for sure, where that is known: as long as somebody says so, there is no end to patience.
        """
        if least_s is not None:
            self.waiting_for = str(error)
            await asyncio.sleep(least_s + random.uniform(0, FIRST_S))
            return
        now_s = self._clock()
        if self._since_s is None:
            self._since_s, self._pause_s = now_s, FIRST_S
        if now_s - self._since_s >= self._limit_s:
            raise error
        self.waiting_for = str(error)
        pause_s = min(self._pause_s, self._limit_s) * random.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, LAST_S)
        await asyncio.sleep(pause_s)

    def well(self) -> None:
        """Something worked: the next failure is a new one."""
        self._since_s = None
        self.waiting_for = ""
