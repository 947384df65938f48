"""How does a thread hand a source's entries to the event loop, slice by slice?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from queue import SimpleQueue
from typing import Final

from msgspec import Struct

from embedmq.packing import Entry
from embedmq.source import SLICE_S, close

WANTED = "wanted"
"""The word that says that a slice is."""
REST: Final = 0.1
"""How long a source is left alone while answers are on their way, as a share of how long it made us wait: what comes by
then comes out, and is not held back by a source that blocks; and no source takes longer than this by being left alone.
"""


class Slice(Struct, frozen=True):
    """What a source gave at once; `last` when there is no more, because of `error` if there is one."""

    entries: Sequence[Entry]
    last: bool = False
    error: Exception | None = None


class Feed:
    """An async iterable on the loop whose entries a thread hands over, a slice at a time, when it is told to."""

    def __init__(self, words: SimpleQueue[object]) -> None:
        """`words` gets WANTED when a slice is wanted."""
        self._words = words
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted: asyncio.Future[Slice] | None = None

    async def __aiter__(self) -> AsyncGenerator[Entry, None]:
        while True:
            self._loop = asyncio.get_running_loop()
            self._wanted = self._loop.create_future()
            self._words.put(WANTED)
            given = await self._wanted
            for entry in given.entries:
                yield entry
            if given.error is not None:
                raise given.error
            if given.last:
                return

    def give(self, given: Slice) -> None:
        """Hand over what was wanted; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._take, given)

    def _take(self, given: Slice) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(given)


class Tap:
    """The source, in the thread of its consumer."""

    def __init__(self, entries: Iterator[Entry], feed: Feed, room: int, *, counted: bool) -> None:
        """`room` is for how many entries there is room: at once, or where they are `counted`, until they come back."""
        self._entries = entries
        self._feed = feed
        self._room = room
        self._counted = counted
        self._under_way = 0
        self._rests_until = 0.0
        self.wanted = False
        """Whether the loop waits for it."""

    def rest_s(self) -> float | None:
        """How long answers are waited for before it is asked; None while it is not wanted."""
        if not self.wanted:
            return None
        return max(0.0, self._rests_until - time.monotonic()) if self._under_way else 0.0

    def open(self) -> None:
        """Hand over what the source gives at once and there is room for."""
        self.wanted = False
        began = time.monotonic()
        given = self._slice(self._room - self._under_way, began + SLICE_S)
        ended = time.monotonic()
        self._rests_until = ended + REST * (ended - began)
        if self._counted:
            self._under_way += len(given.entries)
        self._feed.give(given)

    def give_back(self, items: int) -> None:
        """The consumer is done with as many items."""
        self._under_way -= items

    def close(self) -> None:
        """Close the source."""
        close(self._entries)

    def _slice(self, most: int, until: float) -> Slice:
        entries: list[Entry] = []
        try:
            while len(entries) < most:
                entries.append(next(self._entries))
                if time.monotonic() >= until:
                    break
        except StopIteration:
            return Slice(entries, last=True)
        except Exception as error:  # whatever a source may raise comes out after what it gave before
            return Slice(entries, last=True, error=error)
        return Slice(entries)
