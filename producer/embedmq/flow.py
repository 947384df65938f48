"""How does a long input go through while it still comes in?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Generic, TypeVar

from msgspec import Struct

from embedmq.errors import InvalidRequest
from embedmq.packing import Entry, Packed, Packer
from embedmq.source import Source, each
from embedmq.window import Slot, Window

T = TypeVar("T")
Work = Callable[[Packed], Awaitable[T]]
"""Sends a record and waits for what becomes of it."""


class Run(Struct, Generic[T], frozen=True):
    """What comes out at once for `items` items of the input."""

    items: int
    values: Sequence[T]


async def flow(source: Source, packer: Packer, window: Window[T], work: Work[T]) -> AsyncGenerator[Slot[T], None]:
    """Each record of the input, answered or failed. Asking for the next one gives back the room of the one before.

    An error of the source is raised after what came before it. However it ends, what is on its way is cancelled, and
    then the source closed.
    """
    stream = _Flow(packer, window, work)
    taking = asyncio.create_task(stream.take_all(source))
    try:
        while (slot := await stream.next()) is not None:
            yield slot
            stream.give_back(slot)
    finally:
        await stream.stop(taking)
    if stream.error is not None:
        raise stream.error


class _Flow(Generic[T]):
    """One task takes from the source, and one for each record waits for its answer."""

    def __init__(self, packer: Packer, window: Window[T], work: Work[T]) -> None:
        self.error: BaseException | None = None
        self._packer = packer
        self._window = window
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._stopped = False

    async def take_all(self, source: Source) -> None:
        """Take what there is room for, until the source ends."""
        try:
            async with aclosing(each(source)) as entries:
                async for entry in entries:
                    self._add(entry)
                    while not self._window.may_take(self._packer.gathered):
                        self._room.clear()
                        await self._room.wait()
        except (Exception, asyncio.CancelledError) as error:  # whatever a source may raise
            if self._stopped:
                raise
            self.error = error
        self._ended = True
        self._flush()
        self._news.set()

    async def next(self) -> Slot[T] | None:
        """The next record to come out; None when there will be none."""
        while (slot := self._window.next()) is None:
            if self._ended and self._window.idle:
                return None
            self._news.clear()
            await self._news.wait()
        return slot

    def give_back(self, slot: Slot[T]) -> None:
        self._window.give_back(len(slot.packed.items) or 1)
        self._room.set()

    async def stop(self, taking: asyncio.Task[None]) -> None:
        """End everything that was begun here; raises what the source raises when it is closed."""
        self._stopped = True
        tasks = [taking, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if not taking.cancelled():
            taking.result()

    def _add(self, entry: Entry) -> None:
        """What is not complete by the loop's next turn goes out then: the source makes us wait."""
        self._window.take()
        try:
            for packed in self._packer.add(entry):
                self._send(packed)
        except InvalidRequest as error:
            self._refuse(error)
        if self._packer.gathered == 1:
            self._loop.call_soon(self._flush)

    def _refuse(self, error: InvalidRequest) -> None:
        """What is no item comes out at its place, as a record without items."""
        if self._packer.gathered:
            self._send(self._packer.close())
        self._window.end(self._window.send(Packed(0, 0, [], None)), error)
        self._news.set()

    def _flush(self) -> None:
        if self._packer.gathered and not self._stopped and (self._ended or self._window.may_send_partial()):
            self._send(self._packer.close())

    def _send(self, packed: Packed) -> None:
        task = self._loop.create_task(self._wait_for(self._window.send(packed)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait_for(self, slot: Slot[T]) -> None:
        try:
            outcome: T | Exception = await self._work(slot.packed)
        except Exception as error:  # it comes out in the record's place
            outcome = error
        self._window.end(slot, outcome)
        self._news.set()
        self._flush()
