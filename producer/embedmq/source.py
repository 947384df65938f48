"""How are items taken from whatever a caller has them in?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping

from embedmq.errors import InvalidRequest
from embedmq.packing import Entry
from embedmq.requests import EmbedOptions

SLICE_S = 0.005
"""How long a synchronous source is asked before the event loop has its turn: what it gave by then goes out."""

Source = Iterable[Entry] | AsyncIterable[Entry]
"""Lists, generators, files, cursors, async generators, of items or of pairs `(item_id, item)`."""


def check_source(source: object) -> None:
    """Refuse what would be taken apart by mistake, and what cannot be; raises InvalidRequest."""
    if isinstance(source, (str, bytes, bytearray, memoryview)):
        raise InvalidRequest(f"items: a {type(source).__name__}: pass an iterable of items, or use embed for one")
    if isinstance(source, Mapping):
        raise InvalidRequest("items: a mapping: pass its .items() to map ids to items, or its .values()")
    if not isinstance(source, (Iterable, AsyncIterable)):
        raise InvalidRequest(f"items: a value of type {type(source).__name__}: pass an iterable or an async iterable")


def check_no_item_ids(options: EmbedOptions) -> None:
    """Refuse a list of ids beside an input whose length nobody knows; raises InvalidRequest."""
    if options.get("item_ids") is not None:
        raise InvalidRequest("item_ids: give each item its own: pass pairs (item_id, item) as items")


async def each(source: Source) -> AsyncGenerator[Entry, None]:
    """Each entry, asked for one by one; closes generators when it is closed, or at their end.

    A synchronous source is asked in this thread: while it blocks, the loop stands still.
    """
    if isinstance(source, AsyncIterable):
        entries = aiter(source)
        try:
            async for entry in entries:
                yield entry
        finally:
            if isinstance(entries, AsyncGenerator):
                await entries.aclose()
        return
    iterator = iter(source)
    until = time.monotonic() + SLICE_S
    try:
        for entry in iterator:
            yield entry
            if time.monotonic() >= until:
                await asyncio.sleep(0)
                until = time.monotonic() + SLICE_S
    finally:
        close(iterator)


def close(iterator: object) -> None:
    """Close a generator; files and cursors are their owners' to close."""
    if isinstance(iterator, Generator):
        iterator.close()
