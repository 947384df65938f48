"""How does a batch get onto the device, and what it computed off it? Two threads, so that both go on side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext

from embedmq_worker.engine.seam import Done, Encoded, Engine, Slice


class Device:
    """One launches batches, the other waits for them: while one batch is collected, the next is on the device."""

    def __init__(
        self, launcher: Executor, collector: Executor, busy: AbstractContextManager[None] | None = None
    ) -> None:
        """`busy` is told when anything is on the device."""
        self._launcher = launcher
        self._collector = collector
        self._busy = busy or nullcontext()

    async def encode(self, engine: Engine, batch: Sequence[Slice], launched: Callable[[], None]) -> list[Encoded]:
        """Compute one batch; `launched` is called as soon as the device can be given another, whatever became of it.

        Raises whatever the engine raises.
        """
        with self._busy:
            return await self._encode(engine, batch, launched)

    async def free_cache(self, engine: Engine) -> None:
        """Give back what the allocator keeps for later.

        Raises:
            DeviceLost: there is no device any more.
        """
        await asyncio.get_running_loop().run_in_executor(self._launcher, engine.free_cache)

    async def _encode(self, engine: Engine, batch: Sequence[Slice], launched: Callable[[], None]) -> list[Encoded]:
        loop = asyncio.get_running_loop()
        try:
            running = await loop.run_in_executor(self._launcher, engine.launch, batch)
        finally:
            launched()
        if isinstance(running, Done):  # there is nothing to wait for
            return running.collect()
        return await loop.run_in_executor(self._collector, running.collect)
