"""How does one piece of work run with nothing beside it, where usually many run side by side?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Quiet:
    """Whoever wants to be alone waits for those who work, and nobody begins meanwhile."""

    def __init__(self) -> None:
        self._working = 0
        self._claims = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._free = asyncio.Event()
        self._free.set()
        self._one = asyncio.Lock()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Work beside others."""
        while self._claims:
            await self._free.wait()
        self._working += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Work with nobody beside."""
        self._claims += 1
        self._free.clear()
        try:
            async with self._one:
                await self._idle.wait()
                yield
        finally:
            self._claims -= 1
            if not self._claims:
                self._free.set()
