"""How does a batch get onto the device, and what it computed off it? Two threads, so that both go on side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from embedmq_worker.engine.seam import Done, Encoded, Engine, Slice


class Device:
    """One launches batches, the other waits for them: while one batch is collected, the next is on the device."""

    def __init__(self, launcher: Executor, collector: Executor) -> None:
        self._launcher = launcher
        self._collector = collector

    async def encode(self, engine: Engine, batch: Sequence[Slice], launched: Callable[[], None]) -> list[Encoded]:
        """Compute one batch; `launched` is called as soon as the device can be given another, whatever became of it.

        Raises whatever the engine raises.
        """
        loop = asyncio.get_running_loop()
        try:
            running = await loop.run_in_executor(self._launcher, engine.launch, batch)
        finally:
            launched()
        if isinstance(running, Done):  # there is nothing to wait for
            return running.collect()
        return await loop.run_in_executor(self._collector, running.collect)

    async def free_cache(self, engine: Engine) -> None:
        """Give back what the allocator keeps for later.

        Raises:
            DeviceLost: there is no device any more.
        """
        await asyncio.get_running_loop().run_in_executor(self._launcher, engine.free_cache)
