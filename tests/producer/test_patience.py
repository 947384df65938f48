"""`patience`: an answer that came while the loop was held up is seen, one that did not come is not waited for."""

from __future__ import annotations

import asyncio
import time

import pytest
from embedmq.patience import LOOK_S, patience


async def test_an_answer_that_never_comes_ends_after_one_more_look() -> None:
    """Neither at once nor never."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with patience(0.05):
            await asyncio.Event().wait()
    assert time.monotonic() - began >= 0.05 + LOOK_S


async def test_an_answer_that_comes_in_pieces_to_a_loop_that_is_held_up_is_seen() -> None:
    """However often it is held up, for longer than limit and look together."""
    pieces: asyncio.Queue[int] = asyncio.Queue()

    async def hold_up() -> None:
        for piece in range(4):
            time.sleep(LOOK_S + 0.3)  # noqa: ASYNC251  # this is what is promised to do no harm
            await asyncio.sleep(0)
            pieces.put_nowait(piece)
            await asyncio.sleep(0)

    holding = asyncio.create_task(hold_up())
    async with patience(0.05):
        assert [await pieces.get() for _ in range(4)] == [0, 1, 2, 3]
    await holding
