"""How long is an answer waited for by a program that may hold up its own event loop?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

LOOK_S: Final = 1.0
"""How long the loop must have run, past the limit, for a missing answer to be the other side's fault."""
LATE_S: Final = 0.1
"""How late a timer of a loop that runs may be."""


@asynccontextmanager
async def patience(limit_s: float) -> AsyncIterator[None]:
    """Ends what runs inside with TimeoutError after `limit_s` and one more look of `LOOK_S`.

    While the loop was held up, or the process suspended, the answer may have come unseen: a look that ends late does
    not count, and another one begins.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as timeout:

        def look() -> None:
            nonlocal timer
            due = loop.time() + LOOK_S
            timer = loop.call_at(due, end_look, due)

        def end_look(due: float) -> None:
            if loop.time() > due + LATE_S:
                look()
            else:
                timeout.reschedule(due)

        timer = loop.call_later(limit_s, look)
        try:
            yield
        finally:
            timer.cancel()
